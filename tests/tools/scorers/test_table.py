"""The table of judges: every line opens something, and docs/judges.md shows it as it is."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from promptprobe.tools.scorers.scorer import judges

PAGE = Path(__file__).parents[3] / "docs/judges.md"


def rows() -> list[str]:
    return [
        f"| `{one.name}` | {one.sees} | {one.range} | {'yes' if one.words else ''} "
        f"| {one.licence} | {one.citation} |"
        for one in judges()
    ]


def test_the_page_shows_the_table_of_the_code() -> None:
    table = PAGE.read_text().split("|---|---|---|---|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == rows()


def test_every_judge_has_something_that_opens_it() -> None:
    assert all(callable(pkgutil.resolve_name(one.opens)) for one in judges())
