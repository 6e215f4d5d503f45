"""What probing costs: time and memory of our capture, of a rival's capture, and of the CNN.

Data: four prompts, each with several seeds. Callable: k denoising steps, with text encoding and
noise, run plain, with our trace, and with a rival's maps. Scorer: a timer, and the peak memory.
Each model has three cases: one candidate, one larger picture, and the batch that the thresholds
apply to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any

from promptprobe.evals.overhead.rival_capture import (
    ABSENT,
    COMPARABLE,
    DEFAULT,
    NAME,
    installed,
    rivals,
)
from promptprobe.evals.overhead.synthetic_models import SHAPES, MeasurePlan, SyntheticModel, build
from promptprobe.evals.overhead.thresholds import thresholds_of
from promptprobe.evals.overhead.timing import (
    TimedRun,
    in_turns,
    machine,
    peak_bytes,
    seconds,
    spread,
)

PLAIN, OURS = "plain", "ours"
CNN_RUNS = 15
Advance = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A model that is measured."""

    shape: SyntheticModel
    plan: MeasurePlan
    device: str
    pipeline: Any
    family: Any
    """A `probe.families.family.Family`."""

    def plain(self, batch: int, pixels: int) -> Any:
        """Run k steps of `batch` candidates; returns a `probe.families.family.State`."""
        settings = self.settings(pixels)
        conditioning = self.family.encode(self.prompts(batch), settings)
        start = self.family.draw_noise(range(batch), settings)
        return self.family.denoise(start, conditioning, settings, self.plan.k)

    def traced(self, batch: int, pixels: int) -> Any:
        """The same with probing; returns a `probe.trace.Trace`."""
        from promptprobe.probe.trace import record_trace

        prompts, settings = self.prompts(batch), self.settings(pixels)
        return record_trace(self.family, prompts, range(batch), settings, self.plan.k)[0]

    def prompts(self, batch: int) -> list[str]:
        return list(islice(cycle(self.shape.prompts), batch))

    def settings(self, pixels: int) -> Any:
        from promptprobe.probe.families.family import Settings

        return Settings(self.plan.steps, self.shape.guidance, pixels, pixels)


def evaluate(
    device: str = "cpu",
    names: Sequence[str] = tuple(SHAPES),
    rounds: int | None = None,
    shapes: Mapping[str, SyntheticModel] = SHAPES,
) -> dict[str, Any]:
    """Measure, and return the report.

    Args:
        device: cpu, or cuda with models in full size.
        names: names of `shapes` to measure.
        rounds: rounds of every case; None for each plan's own.

    ValueError: this machine has no such device.
    """
    import torch
    from tqdm import tqdm

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device; leave out --device to measure on the CPU")
    measured = {}
    for name in names:
        planned = 3 * (rounds or shapes[name].plan(device).rounds)
        with tqdm(total=planned, desc=name, unit="round") as progress:
            measured[name] = measure(shapes[name], device, rounds, progress.update)
    return {
        "eval": "overhead",
        "device": device,
        "machine": machine(device),
        "rival": {"name": NAME, "version": installed() or ABSENT},
        "shapes": measured,
        "thresholds": thresholds_of(measured, device),
    }


def measure(
    shape: SyntheticModel, device: str, rounds: int | None, advance: Advance
) -> dict[str, Any]:
    """Measure one shape: its description, cases and CNN, or the reason why it was skipped."""
    import torch

    from promptprobe.probe.families import FAMILIES, family_of

    plan = shape.plan(device)
    about = {
        "model": shape.title,
        "reduced": "nothing" if plan.full else shape.reduced,
        "dtype": plan.dtype,
        "k": plan.k,
        "steps": plan.steps,
        "guidance": shape.guidance,
    }
    if shape.pipeline not in FAMILIES:
        return about | {"skipped": f"{shape.pipeline} is not a supported pipeline"}
    try:
        pipeline = build(shape, device)
        subject = Subject(shape, plan, device, pipeline, family_of(pipeline))
        trace = subject.traced(len(shape.prompts), plan.pixels)
        layers = list(trace.layers)
        cases = {
            name: measure_case(subject, layers, batch, pixels, rounds or plan.rounds, advance)
            for name, batch, pixels in (
                ("one", 1, plan.pixels),
                ("larger", 1, plan.larger),
                ("batch", plan.batch, plan.pixels),
            )
        }
    except torch.OutOfMemoryError as error:
        return about | {"skipped": str(error).splitlines()[0]}
    step = cases["batch"][PLAIN]["seconds"] / (plan.k * plan.batch)
    return about | {"layers": len(layers), "cases": cases, "cnn": measure_cnn(subject, trace, step)}


def measure_case(
    subject: Subject,
    layers: Sequence[str],
    batch: int,
    pixels: int,
    rounds: int,
    advance: Advance,
) -> dict[str, Any]:
    """Measure the k steps in every way: seconds, bytes, and ratios to the plain run.

    Times are medians over rounds, with quartiles.
    """
    rival = rivals(subject.pipeline, layers, lambda: subject.plain(batch, pixels))
    runs: dict[str, TimedRun] = {
        PLAIN: lambda: subject.plain(batch, pixels),
        OURS: lambda: subject.traced(batch, pixels),
        **rival,
    }
    repeats = 1 + rounds // 5
    peaks, refused = {}, {}
    for name, run in tuple(runs.items()):  # these runs also warm up
        try:
            peaks[name] = peak_bytes(run, subject.device, repeats)
        except RuntimeError as error:
            if name not in rival:
                raise
            refused[name] = {"failed": str(error).splitlines()[0]}
            del runs[name]
    laps = []
    for lap in in_turns(runs, rounds, subject.device):
        laps.append(lap)
        advance()
    rows = {name: row(name, laps, peaks) for name in runs}
    for name in rival.keys() & rows.keys():
        rows[name]["layers"] = rival[name].layers
    added = [(lap[OURS] - lap[PLAIN]) / (batch * subject.plan.k) for lap in laps]
    rows[OURS]["added_seconds"] = spread(added)  # a candidate and step
    if COMPARABLE in rows:
        rows[OURS]["of_rival"] = spread([lap[OURS] / lap[COMPARABLE] for lap in laps])
    absent = {name: {"failed": ABSENT} for name in (COMPARABLE, DEFAULT) if name not in rival}
    return {"batch": batch, "pixels": pixels, "rounds": rounds, **rows, **refused, **absent}


def row(
    name: str, laps: Sequence[Mapping[str, float]], peaks: Mapping[str, int | None]
) -> dict[str, Any]:
    """The figures of one way; memory is None if this machine does not report it."""
    found: dict[str, Any] = {
        "seconds": round(median(lap[name] for lap in laps), 5),
        "time": spread([lap[name] / lap[PLAIN] for lap in laps]),
        "peak_bytes": None, "memory": None, "added_bytes": None,
    }  # fmt: skip
    peak, base = peaks[name], peaks[PLAIN]
    if peak and base:
        found |= {"peak_bytes": peak, "memory": round(peak / base, 5), "added_bytes": peak - base}
    return found


def measure_cnn(subject: Subject, trace: Any, step: float) -> dict[str, Any]:
    """Time of the probe's network for one candidate of a full batch; `step` is that of a step."""
    import torch

    from promptprobe.probe.model.checkpoint import load_probe
    from promptprobe.probe.model.network import Network, NetworkConfig, no_preview_score
    from promptprobe.probe.trace import join

    _, _, layers, _, _ = trace.maps.shape
    size = NetworkConfig(layers=layers, channels=trace.x0.shape[1], dim=trace.embeddings.shape[-1])
    shipped = subject.shape.probe
    network = load_probe(shipped).network if shipped else Network(size).eval()
    network = network.to(trace.maps.device)
    batch = join([trace] * max(1, subject.plan.batch // len(trace.mask)))
    first = torch.zeros(len(batch.mask), dtype=torch.long, device=batch.mask.device)
    with torch.inference_mode():
        laps = [
            seconds(lambda: network(batch, no_preview_score(batch), first), subject.device)
            for _ in range(1 + CNN_RUNS)
        ]
    each = [taken / len(batch.mask) for taken in laps[1:]]
    return {
        "weights": "shipped" if shipped else "random",
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "seconds": spread(each),
        "of_step": spread([taken / step for taken in each]),
    }
