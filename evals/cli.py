"""`promptprobe eval model | fidelity | gain`: the evidence, measured there and then.

The report goes to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 bad usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

EVALS = {
    "model": ("what Sprites draws correctly, and how much seed and phrasing matter", 120),
    "fidelity": ("how well the first steps foretell the image, and what that saves", 100),
    "gain": ("what optimize_prompt gains over the brief and over naive best-of-n", 100),
}
"""What each measures, and its default number of prompts."""
SPLITS = {
    "model": (("test", "validation"), "validation: scenes to choose settings on"),
    "fidelity": (
        ("test", "composition"),
        "composition: noun, colour and relation combinations never trained on",
    ),
}
SEEDS = 8
FIGURE = ("value", "low", "high")


def main(argv: list[str]) -> int:
    """Run one eval and print its report. argv: what follows `promptprobe eval`."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        report = evaluate(options)
    except KeyboardInterrupt:
        print("interrupted: an eval keeps nothing", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(f"promptprobe eval {options.eval}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else "\n".join(lines(report)))
    return 0


def parser() -> argparse.ArgumentParser:
    """Three subcommands with the same few options."""
    top = argparse.ArgumentParser(
        prog="promptprobe eval",
        description="Measure the built-in model on held-out scenes, with images sampled here and "
        "now. Every figure has a 95% interval from a bootstrap over scenes.",
    )
    names = top.add_subparsers(dest="eval", required=True, metavar="|".join(EVALS))
    for name, (text, prompts) in EVALS.items():
        one = names.add_parser(name, help=text, description=f"Measures {text}.")
        one.add_argument("--json", action="store_true", help="print one JSON object")
        for option, default, what in (
            ("--prompts", prompts, "scenes"),
            ("--seeds", SEEDS, "fresh seeds of each"),
        ):
            one.add_argument(
                option, type=at_least_two, default=default, metavar="N",
                help=f"{what}, at least 2 (default {default})",
            )  # fmt: skip
        if name in SPLITS:
            choices, text = SPLITS[name]
            one.add_argument("--split", choices=choices, default="test", help=text)
        if name == "model":
            one.add_argument("--guidance", type=float, help="other than the model's own")
    return top


def at_least_two(text: str) -> int:
    """Of one scene or one seed there is no interval and no rank."""
    if not text.isdecimal() or not 2 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 2 to 100000, got {text!r}")
    return int(text)


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """The report of the chosen eval, with the wall time it took."""
    from promptprobe.evals import fidelity, gain, model
    from promptprobe.evals.bench import open_bench

    begun = time.monotonic()
    bench = open_bench(getattr(options, "guidance", None))
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "model": lambda: model.evaluate(bench, options.prompts, options.seeds, options.split),
        "fidelity": lambda: fidelity.evaluate(bench, options.prompts, options.seeds, options.split),
        "gain": lambda: gain.evaluate(bench, options.prompts, options.seeds),
    }
    return run[options.eval]() | {"wall_seconds": round(time.monotonic() - begun, 1)}


def lines(report: object, indent: str = "") -> Iterator[str]:
    """A report for people: one figure a line, its interval in brackets."""
    if isinstance(report, list):
        report = {f"{at + 1}.": item for at, item in enumerate(report)}
    if not isinstance(report, dict):
        raise TypeError(f"expected a table, got {type(report).__name__}")
    for name, item in report.items():
        if isinstance(item, dict) and "value" in item:
            yield f"{indent}{name}: {figure(item)}"
        elif isinstance(item, dict | list):
            yield f"{indent}{name}"
            yield from lines(item, indent + "  ")
        else:
            yield f"{indent}{name}: {'none' if item is None else item}"


def figure(item: dict[str, Any]) -> str:
    """0.812 [0.771, 0.853]; a question mark where the data cannot say."""
    value, low, high = ("?" if item[end] is None else f"{item[end]:.3f}" for end in FIGURE)
    rest = "".join(f", {item[name]} {name}" for name in item if name not in FIGURE)
    return f"{value} [{low}, {high}]{rest}"
