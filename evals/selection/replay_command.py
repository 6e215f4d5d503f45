"""`promptprobe eval replay`: selection policies on stored looks and scores, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from promptprobe.evals.options import check_plots
from promptprobe.tools.nearest import did_you_mean

if TYPE_CHECKING:
    from promptprobe.evals.selection.replay_table import Table

ABOUT = (
    "A table is an npz file (docs/search.md) or the shards of `promptprobe train`. Policies are "
    "fitted on half of the prompts and judged on the other half, both ways."
)
POLICIES = ("naive", "until-content", "keep-one", "psp", "light", "planned", "waves", "adaptive")
BUDGETS = (2.8, 4.0, 5.6, 8.0)
_DEFAULT_BUDGETS = ", ".join(f"{budget:g}" for budget in BUDGETS)

Tables = Annotated[
    list[Path] | None, Option(metavar="FILE.npz", help="a table; may be repeated, then averaged")
]
Shards = Annotated[Path | None, Option(metavar="DIR", help="OUT/shards of a training")]
Probe = Annotated[
    Path | None,
    Option(metavar="DIR", help="with --shards and --signal probe: the probe that predicts"),
]
Scorer = Annotated[
    str | None, Option(metavar="NAME", help="scorer of the table (default: each, averaged)")
]
Signal = Annotated[
    Literal["preview", "trained", "probe"], Option(help="the predictions to select by")
]
Budgets = Annotated[
    list[float] | None,
    Option(
        metavar="R",
        help=f"budget in renders' worth; may be repeated (default: {_DEFAULT_BUDGETS})",
    ),
]
Policies = Annotated[
    list[str] | None,
    Option(metavar="NAME", help=f"may be repeated (default: all): {', '.join(POLICIES)}"),
]
Plot = Annotated[
    Path | None,
    Option(metavar="DIR", help="folder for a plot of the curves (needs promptprobe\\[plots])"),
]


def run(
    tables: Sequence[Path] | None,
    folder: Path | None,
    probe: Path | None,
    scorer: str | None,
    signal: str,
    budgets: Sequence[float] | None,
    policies: Sequence[str] | None,
    plot: Path | None,
) -> dict[str, Any]:
    """The report. ValueError: the table or the options do not fit; OSError: a file is missing."""
    from promptprobe.evals.selection import replay, replay_plot

    if bool(tables) == bool(folder):
        raise ValueError("expected either --table FILE.npz or --shards DIR")
    if unknown := [name for name in policies or () if name not in POLICIES]:
        meant = did_you_mean(unknown[0], POLICIES)
        raise ValueError(
            f"--policy: expected some of {', '.join(POLICIES)}; got {unknown[0]!r}{meant}"
        )
    if plot:
        check_plots(plot)
    read = (
        [_collected(folder, probe, scorer, signal)]
        if folder
        else _stored(tables or (), scorer, signal)
    )
    figures = replay.evaluate(read, policies or POLICIES, budgets or BUDGETS)
    report = {"signal": signal, **figures}
    if plot:
        report["picture"] = str(replay_plot.save(report, plot))
    return report


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report as text."""
    from promptprobe.evals.selection import replay

    return replay.lines(report)


def _collected(folder: Path, probe: Path | None, scorer: str | None, signal: str) -> Table:
    from promptprobe.evals.selection import replay_shards

    if signal == "preview":
        return replay_shards.previews_of(folder, scorer)
    if signal != "probe" or probe is None:
        raise ValueError(
            "with --shards, expected --signal preview, or --signal probe with --probe DIR"
        )
    return replay_shards.predictions_of(folder, scorer, probe)


def _stored(paths: Sequence[Path], scorer: str | None, signal: str) -> list[Table]:
    from promptprobe.evals.selection import replay_table

    return [
        replay_table.read_table(path, name, signal)
        for path in paths
        for name in ([scorer] if scorer else replay_table.scorers_of(path))
    ]
