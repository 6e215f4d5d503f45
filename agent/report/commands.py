"""`promptprobe report` and `promptprobe runs list | show | compare`: results of past runs.

A run's folder may come from anywhere: its text is shown without control characters and never as
markup, and nothing outside of the folder is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.display import plain, results

if TYPE_CHECKING:
    from rich.table import Table

    from promptprobe.agent.report.comparison import RunRow

app = typer.Typer()
runs_app = typer.Typer(
    no_args_is_help=True,
    help="List, show and compare past runs.",
    epilog=o.examples("runs list", "runs show runs/RUN --json", "runs compare runs/RUN runs/RUN2"),
)
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")]
NOTHING = "Nothing was changed"


@app.command(
    epilog=o.examples(
        "report runs/20261123-120000-1a2b3c --open",
        "report runs/20261123-120000-1a2b3c runs/20261123-121500-4d5e6f --out both.html",
    )
)
def report(
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(help="file of the page (RUN/report.html, or comparison.html)")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="show the page in a browser")] = False,
    json: o.Json = False,
) -> int:
    """Write the report of a run as one HTML page, or a page that compares several runs."""

    def work() -> int:
        from promptprobe.agent.report.comparison import COMPARISON, save_comparison
        from promptprobe.agent.report.page import run_page, save_page
        from promptprobe.agent.result import read_result
        from promptprobe.agent.run_folder import REPORT

        if len(runs) == 1:
            path = save_page(out or runs[0] / REPORT, run_page(read_result(runs[0])))
        else:
            path = save_comparison(out or Path(COMPARISON), runs)
        path = path.resolve()
        if open_:
            import webbrowser

            webbrowser.open(path.as_uri())
        if json:
            o.print_json({"report": str(path)})
        else:
            o.print_line(f"report  {path}")
        return o.DONE

    return o.ended("report", work, lambda: NOTHING)


@runs_app.command(name="list")
def list_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder of runs")] = Path("runs"),
    json: o.Json = False,
) -> int:
    """List the runs at or below a folder, the newest first."""

    def work() -> int:
        from promptprobe.agent.report.comparison import row
        from promptprobe.agent.run_folder import runs_in

        found = sorted(runs_in(folder), key=lambda run_dir: run_dir.name, reverse=True)
        return _shown([row(run_dir) for run_dir in found], json)

    return o.ended("runs list", work, lambda: NOTHING)


@runs_app.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    json: o.Json = False,
) -> int:
    """Show a run's result, as when it ended."""

    def work() -> int:
        from promptprobe.agent.doors.display import show_result
        from promptprobe.agent.result import read_result

        result = read_result(run)
        if json:
            o.print_json(result.summary())
        else:
            show_result(result)
        return o.DONE

    return o.ended("runs show", work, lambda: NOTHING)


@runs_app.command()
def compare(runs: Runs, json: o.Json = False) -> int:
    """Show runs side by side: scores before and after, and what each run cost."""

    def work() -> int:
        from promptprobe.agent.report.comparison import row_of
        from promptprobe.agent.result import read_result

        return _shown([row_of(read_result(run_dir)) for run_dir in runs], json)

    return o.ended("runs compare", work, lambda: NOTHING)


def _shown(rows: Sequence[RunRow], json: bool) -> int:
    from rich.console import Console

    if json:
        o.print_json({"runs": [row.model_dump(mode="json") for row in rows]})
    else:
        Console(file=results()).print(_table(rows))
    return o.DONE


def _table(rows: Sequence[RunRow]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    out = Table(box=SIMPLE_HEAD, pad_edge=False)
    out.add_column("run and brief", ratio=1, overflow="fold", min_width=22)
    for heading in ("initial", "best", "NFE", "seconds"):
        out.add_column(heading, justify="right", no_wrap=True)
    out.add_column("stopped", no_wrap=True)
    for row in rows:
        run = f"{plain(row.run_dir.name)}\n{plain(row.problem or row.brief)}"
        cells = [run, _score(row.initial), _score(row.best)]
        cells += (
            [f"{row.spent.nfe:,}", f"{row.spent.seconds:.1f}"] if not row.problem else ["-"] * 2
        )
        cells.append(row.stop_reason or "unreadable")
        out.add_row(*map(Text, cells))
    return out


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
