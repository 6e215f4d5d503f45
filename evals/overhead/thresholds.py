"""The thresholds for overhead, whether they are met, and the report as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TIME = {"cpu": 0.05, "cuda": 0.03}
MEMORY = 0.02
CNN = 0.02
CNN_SPRITES = 0.10
NO_PEAK = "not measured: peaks are read from Linux's /proc, or from CUDA"
WAYS = {
    "ours": "capture and statistics",
    "rival_comparable": "rival, comparable setting",
    "rival_default": "rival, default setting",
}
Report = Mapping[str, Any]


def thresholds_of(shapes: Mapping[str, Report], device: str) -> list[dict[str, Any]]:
    """Every threshold of every measured shape; `met` is None if it cannot be judged."""
    return [
        {"shape": name} | threshold
        for name, shape in shapes.items()
        if "cases" in shape
        for threshold in of_shape(name, shape, TIME[device.partition(":")[0]])
    ]


def of_shape(name: str, shape: Report, most: float) -> Iterator[dict[str, Any]]:
    """The six thresholds of one shape, for the batch that they apply to."""
    one, larger, batch = (shape["cases"][case] for case in ("one", "larger", "batch"))
    ours = batch["ours"]
    yield at_most("time added by capture and statistics", share(ours), most)
    if ours["memory"] is None:
        yield {"threshold": "peak memory added", "limit": MEMORY, "met": None, "why": NO_PEAK}
    else:
        yield at_most("peak memory added", {"value": round(ours["memory"] - 1, 5)}, MEMORY)
    yield against_rival(batch, shape["layers"])
    limit = CNN_SPRITES if name == "sprites" else CNN
    yield at_most("the CNN, of one denoising step", shape["cnn"]["of_step"], limit)
    alone, each = one["ours"]["added_seconds"], ours["added_seconds"]
    yield no_more(
        f"seconds a candidate and step, {batch['batch']} together against one", each, alone
    )
    pixels = f"{larger['pixels']} against {one['pixels']} pixels a side"
    yield no_more(f"time added, {pixels}", share(larger["ours"]), share(one["ours"]))


def share(row: Report) -> dict[str, float]:
    """Added time as a share of the plain time."""
    return {name: round(value - 1, 5) for name, value in row["time"].items()}


def at_most(threshold: str, found: Mapping[str, float], limit: float) -> dict[str, Any]:
    return {"threshold": threshold, "limit": limit, **found, "met": found["value"] <= limit}


def no_more(
    threshold: str, found: Mapping[str, float], than: Mapping[str, float]
) -> dict[str, Any]:
    """Compare noisy times: one is larger only if the quartiles do not overlap."""
    return {
        "threshold": threshold,
        "limit": than["value"],
        **found,
        "met": found["low"] <= than["high"],
    }


def against_rival(batch: Report, layers: int) -> dict[str, Any]:
    """Never slower than the rival at the comparable setting, if it captures the same layers."""
    threshold, rival = "time, of the rival's comparable setting", batch["rival_comparable"]
    if "failed" in rival:
        return {"threshold": threshold, "limit": 1.0, "met": None, "why": rival["failed"]}
    if rival["layers"] != layers:
        why = f"the rival captures {rival['layers']} layers, we {layers}"
        return {
            "threshold": threshold,
            "limit": 1.0,
            **batch["ours"]["of_rival"],
            "met": None,
            "why": why,
        }
    return at_most(threshold, batch["ours"]["of_rival"], 1.0)


def lines(report: Report) -> Iterator[str]:
    """The report as text: the machine, a row for each case, and every threshold."""
    machine, rival = report["machine"], report["rival"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"
    yield f"overhead of probing on {where}; {machine['threads']} threads"
    yield f"torch {machine['torch']}, diffusers {machine['diffusers']}, Python {machine['python']}"
    yield f"rival: {rival['name']} {rival['version']}"
    yield "time and peak memory against the plain steps: median (quartiles), memory"
    yield ""
    for name, shape in report["shapes"].items():
        yield from shape_lines(name, shape)
    yield "thresholds, for the batch"
    for threshold in report["thresholds"]:
        yield f"  {verdict(threshold)}"


def shape_lines(name: str, shape: Report) -> Iterator[str]:
    """One shape's settings and results."""
    yield f"{name}: {shape['model']}, {shape['dtype']}, guidance {shape['guidance']}"
    yield f"  steps: the first {shape['k']} of {shape['steps']}; reduced: {shape['reduced']}"
    if "skipped" in shape:
        yield f"  skipped: {shape['skipped']}"
    for case in shape.get("cases", {}).values():
        size, plain = f"{case['pixels']} x {case['pixels']}", case["plain"]["seconds"]
        yield f"  {case['batch']} of {size}, {case['rounds']} rounds, plain {plain:.3g} s"
        for way in WAYS:
            yield f"    {WAYS[way]:<28}{ratios(case[way])}"
    if cnn := shape.get("cnn"):
        yield f"  CNN, {cnn['weights']} weights: {cnn['seconds']['value'] * 1e3:.2f} ms a candidate"
    yield ""


def ratios(row: Report) -> str:
    """1.034 (1.021 to 1.052), +12.3 MB (+0.4%)."""
    if "failed" in row:
        return str(row["failed"])
    time = row["time"]
    ratio = f"{time['value']:.3f} ({time['low']:.3f} to {time['high']:.3f})"
    if row["memory"] is None:
        return ratio
    return f"{ratio}, {row['added_bytes'] / 1e6:+.1f} MB ({row['memory'] - 1:+.1%})"


def verdict(threshold: Report) -> str:
    """met: sprites, the CNN, of one denoising step: 0.081 (0.078 to 0.085), limit 0.1."""
    word = {True: "met", False: "NOT MET", None: "open"}[threshold["met"]]
    text = f"{word:<8} {threshold['shape']}: {threshold['threshold']}"
    if "value" in threshold:
        text += f": {threshold['value']:.3g}"
    if "low" in threshold:
        text += f" ({threshold['low']:.3g} to {threshold['high']:.3g})"
    return f"{text}, limit {threshold['limit']:.3g}" + (
        f"; {threshold['why']}" if "why" in threshold else ""
    )
