"""Many briefs, one after another: one row a brief in `results.jsonl`, and a killed batch goes on.

A row is written, flushed to disk, when its brief is done; done rows are skipped, and the run that
was in flight is resumed from its own folder. A brief that fails leaves a row with its error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from promptprobe.agent import run_folder
from promptprobe.agent.doors.schemas import OptimizeRequest, checked
from promptprobe.agent.result import OptimizationResult
from promptprobe.tools.records import MAX_TEXT, Record

MAX_FILE = 64 * 2**20
MAX_LINE = 64 * 2**10
MAX_BRIEFS = 100_000
RESULTS, SETTINGS, RUNS = "results.jsonl", "batch.json", "runs"

Optimize = Callable[[int, OptimizeRequest, Path], OptimizationResult]
"""Runs the request of the n-th brief, with its runs under a folder."""


class Item(Record):
    """One line of a briefs file."""

    id: str = Field(description="the line's own id, or its number")
    brief: str = Field(description="cut where it is longer than a brief may be")
    problem: str = Field("", description="not empty: why this line cannot be run")


def read_briefs(path: Path) -> list[Item]:
    """The briefs of a text file (one a line) or a JSONL file (`brief` or `prompt`, optional `id`).

    Raises:
        ValueError: the file as a whole is of no use; a bad line becomes an item with its problem.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE // 2**20} MiB; split it")
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected UTF-8 text, one brief a line, got other bytes at {error.start} of {path}"
        ) from error
    numbered = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"expected at least one brief, got none in {path}")
    if len(numbered) > MAX_BRIEFS:
        raise ValueError(f"at most {MAX_BRIEFS:,} briefs a batch, got {len(numbered):,} in {path}")
    as_json = path.suffix in (".jsonl", ".ndjson") or numbered[0][1].startswith("{")
    items = [_from_json(n, line) if as_json else _item(str(n), line) for n, line in numbered]
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise ValueError(
                f"expected a different id on every line of {path}, got {item.id!r} twice"
            )
        seen.add(item.id)
    return items


def _item(name: str, brief: str, problem: str = "") -> Item:
    brief = brief.strip()
    if len(brief) > MAX_TEXT:
        problem = problem or f"at most {MAX_TEXT} characters a brief, got {len(brief):,}"
    return Item(id=name[:200], brief=brief[:MAX_TEXT], problem=problem)


def _from_json(number: int, line: str) -> Item:
    if len(line) > MAX_LINE:
        return _item(str(number), line[:200], f"line {number} has over {MAX_LINE:,} characters")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _item(str(number), line[:200], f"line {number} is no JSON: {error}")
    found = fields if isinstance(fields, dict) else {}
    name, brief = found.get("id", number), found.get("brief", found.get("prompt"))
    if not isinstance(name, str | int) or not isinstance(brief, str):
        expected = 'expected {"brief": "...", "id": optional text or number}'
        return _item(str(number), line[:200], f"line {number}: {expected}, got {line[:200]}")
    return _item(str(name), brief)


class Results:
    """`results.jsonl` of a batch: which items are done, and one more row, surely on the disk."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; a last row cut off while being written is dropped.

        Raises:
            ValueError: a row is damaged.
            OSError: the folder cannot be made, read or written.
        """
        self.path = folder / RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        self.done: dict[str, str] = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.done[row["id"]] = row["brief"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}, is damaged ({error!r}); mend or remove the line"
                ) from error

    def has(self, item: Item) -> bool:
        """Whether this item is done.

        Raises:
            ValueError: its id stands there with another brief.
        """
        if item.id in self.done and self.done[item.id] != item.brief:
            raise ValueError(
                f"{self.path} holds {item.id!r} with another brief ({self.done[item.id]!r}, not "
                f"{item.brief!r}): it belongs to another briefs file. Give another --out."
            )
        return item.id in self.done

    def write(self, item: Item, row: dict[str, Any]) -> None:
        """Append the item's row."""
        text = json.dumps({"id": item.id, **row, "brief": item.brief}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.done[item.id] = item.brief


def keep_settings(folder: Path, request: OptimizeRequest) -> None:
    """Write what the batch was asked for, or check that it is asked for the same again.

    Raises:
        ValueError: the settings differ from those that the folder's rows were made with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    now = request.model_dump(mode="json", exclude={"brief"})
    if not path.exists():
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(now, indent=2), encoding="utf-8")
        temporary.replace(path)
        return
    before = json.loads(path.read_bytes())
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        differences = "; ".join(f"{n} was {before.get(n)!r}, is {now[n]!r}" for n in changed)
        raise ValueError(
            f"{folder} holds a batch with other settings: {differences}. "
            "Repeat those, or give another --out."
        )


def run_batch(
    items: list[Item], folder: Path, template: OptimizeRequest, optimize: Optimize
) -> Iterator[tuple[Item, str]]:
    """Run what is not done yet and write its rows.

    Args:
        items: from `read_briefs`.
        folder: where results.jsonl and the runs go.
        template: the request; each item's brief takes the place of its own.
        optimize: runs one request.

    Yields:
        Each item that was not done before, after its row is written, with its error or "".

    Raises:
        FolderInUseError: another process works in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(folder):
        keep_settings(folder, template)
        results = Results(folder)
        for number, item in enumerate(items, 1):
            if results.has(item):
                continue
            runs = folder / RUNS / f"{number:06d}"
            try:
                row, error = _run(item, number, runs, template, optimize).summary(), ""
            except (ValueError, RuntimeError) as problem:
                row, error = {"error": str(problem)}, str(problem)
            results.write(item, row)
            yield item, error


def _run(
    item: Item, number: int, runs: Path, template: OptimizeRequest, optimize: Optimize
) -> OptimizationResult:
    if item.problem:
        raise ValueError(item.problem)
    request = checked(OptimizeRequest, {**dict(template), "brief": item.brief})
    return optimize(number, request, runs)


def in_flight(runs: Path) -> Path | None:
    """The latest run in a folder of runs, which a killed batch left behind."""
    started = sorted(path.parent for path in runs.glob(f"*/{run_folder.FILE}"))
    return started[-1] if started else None
