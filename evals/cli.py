"""`promptprobe eval model | fidelity | gain | overhead | replay`: the evidence, measured now.

The report goes to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 bad usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptprobe.evals.fidelity import summary
from promptprobe.evals.overhead import thresholds
from promptprobe.evals.overhead.synthetic_models import SHAPES
from promptprobe.evals.selection import replay_command
from promptprobe.tools.sprites import MODELS

if TYPE_CHECKING:
    from promptprobe.evals.bench import Bench

OVERHEAD, REPLAY = "overhead", "replay"
EVALS = {
    "model": "what Sprites draws correctly, and how much seed and phrasing matter",
    "fidelity": "how well the first steps foretell the image, and what that saves",
    "gain": "what optimize_prompt gains over the brief and over naive best-of-n",
    OVERHEAD: "the time and memory that probing adds, and that a rival's capture adds",
    REPLAY: replay_command.ABOUT,
}
PROMPTS = {"model": 120, "fidelity": 100, "gain": 100}
"""The default number of scenes."""
SPLITS = {
    "model": (("test", "validation"), "validation: scenes to choose settings on"),
    "fidelity": (
        ("test", "composition"),
        "composition: noun, colour and relation combinations never trained on",
    ),
}
SEEDS = 8


def main(argv: list[str]) -> int:
    """Run one eval and print its report. argv: what follows `promptprobe eval`."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    begun = time.monotonic()
    measure = {OVERHEAD: overhead, REPLAY: replay_command.run}.get(options.eval, on_scenes)
    tell = {
        OVERHEAD: thresholds.lines, "fidelity": summary.lines, REPLAY: replay_command.lines,
    }.get(options.eval, lines)  # fmt: skip
    try:
        report = measure(options)
    except KeyboardInterrupt:
        print("interrupted: an eval keeps nothing", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(f"promptprobe eval {options.eval}: {error}", file=sys.stderr)
        return 1
    report["wall_seconds"] = round(time.monotonic() - begun, 1)
    print(json.dumps(report, indent=2) if options.json else "\n".join(tell(report)))
    return 0


def parser() -> argparse.ArgumentParser:
    """One subcommand an eval."""
    top = argparse.ArgumentParser(
        prog="promptprobe eval", description="Measure here and now what this project claims."
    )
    names = top.add_subparsers(dest="eval", required=True, metavar="|".join(EVALS))
    for name, text in EVALS.items():
        one = names.add_parser(name, help=text, description=f"Measures {text}.")
        one.add_argument("--json", action="store_true", help="print one JSON object")
        if name == OVERHEAD:
            add_shapes(one)
        elif name == REPLAY:
            replay_command.add_arguments(one)
        else:
            add_scenes(one, name)
    return top


def add_scenes(one: argparse.ArgumentParser, name: str) -> None:
    """Of an eval on held-out scenes with a built-in model."""
    one.epilog = (
        "On held-out scenes, with images that a built-in model draws here and now. Every figure "
        "has a 95% interval from a bootstrap over scenes."
    )
    for option, default, what in (
        ("--prompts", PROMPTS[name], "scenes"),
        ("--seeds", SEEDS, "fresh seeds of each"),
    ):
        one.add_argument(
            option, type=whole(2), default=default, metavar="N",
            help=f"{what}, at least 2 (default {default})",
        )  # fmt: skip
    if name in SPLITS:
        choices, text = SPLITS[name]
        one.add_argument("--split", choices=choices, default="test", help=text)
    one.add_argument(
        "--model", choices=tuple(MODELS), default="sprites", help="built in (default: sprites)"
    )
    if name == "model":
        one.add_argument("--guidance", type=float, help="other than the model's own")
    if name == "fidelity":
        one.add_argument(
            "--step", type=whole(1), metavar="K", help="steps made before the look (a fifth)"
        )
        one.add_argument(
            "--shards", type=Path, metavar="DIR",
            help="a collection of `promptprobe train` (OUT/shards): rivals that are networks, and "
            "ours with parts taken away, are trained on it first",
        )  # fmt: skip
        one.add_argument(
            "--plot", type=Path, metavar="DIR",
            help="write pictures there: predicted against actual, rank over steps, headroom by "
            "cost (needs promptprobe[plots])",
        )  # fmt: skip


def add_shapes(one: argparse.ArgumentParser) -> None:
    """Of the eval of time and memory."""
    one.epilog = "Leave the machine alone meanwhile: a ratio of times is no better than its quiet."
    one.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: the models in full size"
    )
    one.add_argument(
        "--shapes", type=shapes, default=tuple(SHAPES), metavar="NAME,...",
        help=f"of {', '.join(SHAPES)} (default: all)",
    )  # fmt: skip
    one.add_argument("--rounds", type=whole(1), metavar="N", help="of every shape; more are surer")


def whole(least: int) -> Callable[[str], int]:
    """Of one scene or one seed there is no interval and no rank."""

    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= 100_000:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {least} to 100000, got {text!r}"
            )
        return int(text)

    return number


def shapes(text: str) -> tuple[str, ...]:
    """Names of SHAPES, each once, in the order given."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in SHAPES]:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(SHAPES)}, with commas between; got {unknown[0]!r}"
        )
    return names


def on_scenes(options: argparse.Namespace) -> dict[str, Any]:
    """The report of an eval on a built-in model's scenes."""
    from promptprobe.evals import model
    from promptprobe.evals.bench import open_bench
    from promptprobe.evals.gain import gain

    bench = open_bench(options.model, getattr(options, "guidance", None))
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "model": lambda: model.evaluate(bench, options.prompts, options.seeds, options.split),
        "fidelity": lambda: fidelity_of(bench, options),
        "gain": lambda: gain.evaluate(bench, options.prompts, options.seeds),
    }
    return run[options.eval]()


def fidelity_of(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """The report of an eval of fidelity, with its pictures where they are asked for."""
    from promptprobe.evals.fidelity import fidelity, plots
    from promptprobe.evals.fidelity.experiment import study

    if options.plot:
        plots.check(options.plot)
    drawn = study(
        bench, options.prompts, options.seeds, options.split, options.step, options.shards
    )
    report = fidelity.report(drawn)
    if options.plot:
        made = plots.save(drawn, report, options.plot)
        report["pictures"] = [str(path) for path in made]
    return report


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """The report of time and memory."""
    from promptprobe.evals.overhead.overhead import evaluate

    return evaluate(options.device, options.shapes, options.rounds)


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
    value, low, high = ("?" if item[end] is None else f"{item[end]:.3f}" for end in summary.FIGURE)
    rest = "".join(f", {item[name]} {name}" for name in item if name not in summary.FIGURE)
    return f"{value} [{low}, {high}]{rest}"
