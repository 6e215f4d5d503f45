"""Several runs side by side: what each was asked for, what it found and what it cost.

The same rows serve the terminal, `--json` and the page. A run that cannot be read becomes a row
that says why, and the others are still shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from promptprobe.agent.events import StopReason
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.report import plots
from promptprobe.agent.report.page import CARD, picture_of, render, save_page
from promptprobe.agent.report.story import spend_curve
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.run_folder import read
from promptprobe.tools.records import Candidate, Record, Spend

COMPARISON = "comparison.html"
LINES = 6
"""Number of distinct line styles; further runs share the last one."""


class RunRow(Record):
    """A run in one line."""

    run_dir: Path
    brief: str = ""
    model: str = ""
    scorer: str = ""
    llm: str | None = None
    initial: float | None = Field(
        default=None, description="score of the brief itself with the first seed"
    )
    best: float | None = None
    prompt: str = Field(default="", description="prompt of the best picture")
    seed: int | None = None
    candidates: int = 0
    rendered: int = 0
    spent: Spend = Spend()
    stop_reason: StopReason | None = None
    problem: str = Field(default="", description="why the run cannot be read")


def row(run_dir: Path) -> RunRow:
    """The row of a run folder; if it cannot be read, the row says why."""
    try:
        return row_of(read_result(run_dir))
    except (OSError, ValueError) as error:
        return RunRow(run_dir=run_dir.resolve(), problem=" ".join(str(error).split())[:400])


def row_of(result: OptimizationResult) -> RunRow:
    """The row of a result."""
    settings = read(result.run_dir)
    best: Candidate = result.best.candidate
    return RunRow(
        run_dir=result.run_dir,
        brief=result.brief,
        model=result.model,
        scorer=result.scorer,
        llm=settings.llm,
        initial=result.initial.value,
        best=result.best.value,
        prompt=best.prompt,
        seed=best.seed,
        candidates=len(result.trials),
        rendered=sum(trial.image is not None for trial in result.trials),
        spent=result.spent,
        stop_reason=result.stop_reason,
    )


def save_comparison(path: Path, run_dirs: Sequence[Path]) -> Path:
    """Write the page that compares runs.

    Raises:
        ValueError: one of them is not a run folder, or nothing has been rendered in it.
        OSError: the page cannot be written.
    """
    results = [read_result(run_dir) for run_dir in run_dirs]
    page = render(
        "comparison.html.jinja",
        runs=[
            {
                "row": row_of(result),
                "initial": picture_of(result.initial, result.run_dir, CARD),
                "best": picture_of(result.best, result.run_dir, CARD),
                "same": result.best.candidate == result.initial.candidate,
                "look": min(number, LINES),
            }
            for number, result in enumerate(results, 1)
        ],
        same_brief=len({result.brief for result in results}) == 1,
        curves=_curves(results),
    )
    return save_page(path, page)


def _curves(results: Sequence[OptimizationResult]) -> dict[str, Any] | None:
    """The best score so far of every run, over denoiser evaluations."""
    known = [
        (number, result, points)
        for number, result in enumerate(results, 1)
        if (points := spend_curve(Ledger(result.run_dir)))
    ]
    if not known:
        return None
    x = plots.across([0, *(result.spent.nfe for _, result, _ in known)])
    y = plots.upward([point.best for *_, points in known for point in points])
    return {
        "x": x,
        "y": y,
        "paths": [
            (
                min(number, LINES),
                plots.steps([(p.nfe, p.best) for p in points], x, y, result.spent.nfe),
                (x(result.spent.nfe), y(points[-1].best)),
                number,
            )
            for number, result, points in known
        ],
    }
