"""`promptprobe score RUN --judge J`: grades a run's finished pictures by further judges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import MAX_JUDGES

app = typer.Typer()
EXAMPLES = o.examples(
    "score runs/20261123-120000-1a2b3c --judge pickscore",
    "score runs/20261123-120000-1a2b3c --judge ocr --judge python:judge.py:score --json",
)


@app.command(epilog=EXAMPLES)
def score(
    run: Annotated[Path, Argument(metavar="RUN", help="folder of a run")],
    judge: Annotated[
        list[str], Option("--judge", help="a judge from `promptprobe judges`; may be repeated")
    ],
    device: Annotated[
        str | None, Option(help='device for judges, such as "cpu" or "cuda" (the run\'s device)')
    ] = None,
    json: o.Json = False,
) -> int:
    """Grade the finished pictures of RUN by further judges. The run's result does not change.

    The grades go to grades.json in the run's folder, and into its report.
    """

    def work() -> int:
        from rich.console import Console

        from promptprobe.agent.doors import display
        from promptprobe.agent.grading.finished_runs import grade_again
        from promptprobe.agent.report.page import report_of
        from promptprobe.agent.result import read_result
        from promptprobe.tools.scorers.scorer import open_judges

        if len(judge) > MAX_JUDGES:
            raise ValueError(f"at most {MAX_JUDGES} judges at once, got {len(judge)}")
        where = device or read_result(run).generation.device or "cpu"
        found = grade_again(run, open_judges(judge, where), o.say)
        for note in found.notes:
            o.say(f"note: {note}")
        report = report_of(run)
        if json:
            row = found.result.summary()
            shown = ("brief", "best", "initial", "scorer", "judges", "trials", "run_dir")
            kept = {name: row[name] for name in shown}
            files = {"file": str(found.file), "report": str(report)}
            o.print_json({**kept, "warnings": list(found.notes), **files})
            return o.DONE
        Console(file=display.results()).print(display.table(found.result))
        o.print_line(f"grades  {found.file}")
        o.print_line(f"report  {report}")
        return o.DONE

    return o.ended("score", work, lambda: "Grades by judges that had finished are kept")
