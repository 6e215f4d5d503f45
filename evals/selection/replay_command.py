"""`promptprobe eval replay`: any selection policy on stored looks and scores, without a model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptprobe.evals.selection.replay_table import Table

ABOUT = "what selection policies recover of best-of-8's gain, replayed on a stored table"
POLICIES = ("naive", "until-content", "keep-one", "psp", "light", "planned", "adaptive")
SIGNALS = ("preview", "trained", "probe")
BUDGETS = (2.8, 4.0, 5.6, 8.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.epilog = (
        "A table is an npz file (docs/search.md) or the shards of `promptprobe train`. Policies "
        "are fitted on half of the prompts and judged on the other half, both ways."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE.npz", help="one or several, averaged"
    )
    source.add_argument("--shards", type=Path, metavar="DIR", help="OUT/shards of a training")
    parser.add_argument("--scorer", metavar="NAME", help="of the table (default: each, averaged)")
    parser.add_argument(
        "--signal", choices=SIGNALS, default="preview", help="which looks (default: preview)"
    )
    parser.add_argument(
        "--budget", type=float, nargs="+", default=list(BUDGETS), metavar="R",
        help=f"in renders' worth (default {' '.join(f'{b:g}' for b in BUDGETS)})",
    )  # fmt: skip
    parser.add_argument(
        "--policy", choices=POLICIES, nargs="+", default=list(POLICIES), metavar="NAME",
        help=f"of {', '.join(POLICIES)} (default: all); naive is always there",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=Path, metavar="DIR",
        help="write a picture of the curves there (needs promptprobe[plots])",
    )  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The report. ValueError: the table or the options do not fit; OSError: no such file."""
    from promptprobe.evals.selection import replay, replay_plot

    if options.plot:
        replay_plot.check(options.plot)
    report = {
        "signal": options.signal,
        **replay.evaluate(_tables(options), options.policy, options.budget),
    }
    if options.plot:
        report["picture"] = str(replay_plot.save(report, options.plot))
    return report


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    from promptprobe.evals.selection import replay

    return replay.lines(report)


def _tables(options: argparse.Namespace) -> list[Table]:
    from promptprobe.evals.selection import replay_table

    if options.shards:
        if options.signal != "preview":
            raise ValueError(f"shards hold previews, not {options.signal}")
        return [replay_table.read_shards(options.shards, options.scorer)]
    return [
        replay_table.read_table(path, scorer, options.signal)
        for path in options.table
        for scorer in ([options.scorer] if options.scorer else replay_table.scorers_of(path))
    ]
