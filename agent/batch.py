"""Many briefs in one resumable batch, with one row a brief in `results.jsonl`.

A row is flushed to disk when its brief is done. After a kill, done rows are skipped and the run
that was in flight resumes from its own folder. A brief that fails leaves a row with its error, and
the same command tries it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from promptprobe.agent import run_folder
from promptprobe.agent.doors.schemas import OptimizeRequest, checked
from promptprobe.agent.result import OptimizationResult
from promptprobe.probe.files import JsonLines, replacing
from promptprobe.tools.endpoint.endpoint import LLM
from promptprobe.tools.prompt_files import Row, read_prompt_file, unused_fields
from promptprobe.tools.records import MAX_TEXT, Generation, Record

MAX_BRIEFS = 100_000
USED = ("id", "seed", "negative_prompt", "width", "height")
"""Fields of a row, besides its prompt, that a batch uses."""
SCORER_FAILED = "the scorer failed (see the warnings); the same command continues the run"
RESULTS, SETTINGS, RUNS = "results.jsonl", "batch.json", "runs"

Optimize = Callable[[int, OptimizeRequest, Path], OptimizationResult]
"""Runs the request of the n-th brief, with its runs under a folder."""


class Item(Record):
    """One brief of a file."""

    id: str = Field(description="the row's own id, or its number; unique in the batch")
    brief: str = Field(description="cut off at the maximum length of a brief")
    problem: str = Field(default="", description="why this row cannot be run; empty if it can")
    asked: dict[str, Any] = Field(default={}, description="the row's other fields named in USED")

    def request(self, template: OptimizeRequest) -> OptimizeRequest:
        """The template with this brief and the row's own settings.

        Raises:
            ValueError: the row cannot be run; the message says why.
        """
        if self.problem:
            raise ValueError(self.problem)
        generation = {key: self.asked[key] for key in Generation.model_fields if key in self.asked}
        fields = {
            **dict(template),
            "brief": self.brief,
            "generation": {**dict(template.generation), **generation},
            "seed": self.asked.get("seed", template.seed),
        }
        return checked(OptimizeRequest, fields)


def read_briefs(path: Path) -> tuple[list[Item], str]:
    """The briefs in a file (for its formats see `read_prompt_file`), and a notice of unused fields.

    Raises:
        ValueError: the file as a whole is unusable; a bad row becomes an item with its problem.
        OSError: it cannot be read.
    """
    rows = read_prompt_file(path)
    if len(rows) > MAX_BRIEFS:
        raise ValueError(f"at most {MAX_BRIEFS:,} briefs a batch, got {len(rows):,} in {path}")
    taken: set[str] = set()
    return [_item(row, taken) for row in rows], unused_fields(rows, USED)


def _item(row: Row, taken: set[str]) -> Item:
    given = row.fields.get("id")
    named = isinstance(given, str | int) and not isinstance(given, bool)
    name = str(given)[:200] if named else str(row.number)
    while name in taken:
        name = f"{name} ({row.where})"
    taken.add(name)
    problem = row.problem
    if len(row.prompt) > MAX_TEXT:
        problem = problem or f"at most {MAX_TEXT} characters a brief, got {len(row.prompt):,}"
    asked = {key: value for key, value in row.fields.items() if key in USED and key != "id"}
    return Item(id=name, brief=row.prompt[:MAX_TEXT], problem=problem, asked=asked)


class Results:
    """`results.jsonl` of a batch: knows which items are done, and appends rows durably.

    A row with an error does not count as done: the next try replaces it.
    """

    def __init__(self, folder: Path) -> None:
        """Read the existing rows; a last row that was cut off mid-write is dropped.

        Raises:
            ValueError: a row is damaged.
            OSError: the folder cannot be created, read or written.
        """
        self.path = folder / RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        self._file = JsonLines(self.path)
        self.done: dict[str, str] = {}
        self._failed: set[bytes] = set()
        for number, line in enumerate(self._file.found, 1):
            try:
                row = json.loads(line)
                name, brief = row["id"], row["brief"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}, line {number}, is damaged ({error!r}); fix or remove the line"
                ) from error
            if "error" in row:
                self._failed.add(line)
            else:
                self.done[name] = brief

    def forget_failures(self) -> None:
        """Remove the rows of failed briefs by replacing the whole file."""
        if not self._failed:
            return
        rows = JsonLines(self.path).found
        with replacing(self.path) as partial:
            partial.write_bytes(b"".join(row + b"\n" for row in rows if row not in self._failed))
        self._file = JsonLines(self.path)
        self._failed = set()

    def has(self, item: Item) -> bool:
        """Whether this item is done.

        Raises:
            ValueError: the file has this id with another brief.
        """
        if item.id in self.done and self.done[item.id] != item.brief:
            raise ValueError(
                f"{self.path} holds {item.id!r} with another brief ({self.done[item.id]!r}, not "
                f"{item.brief!r}): it belongs to another briefs file. Give another --out."
            )
        return item.id in self.done

    def write(self, item: Item, row: dict[str, Any]) -> None:
        """Append the item's row."""
        self._file.append([json.dumps({"id": item.id, **row, "brief": item.brief})])
        if "error" not in row:
            self.done[item.id] = item.brief


def keep_settings(folder: Path, request: OptimizeRequest, llm: LLM | None = None) -> None:
    """Write the batch's settings, or check that they equal those written before.

    Raises:
        ValueError: the settings differ from those that the folder's rows were made with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    now = request.model_dump(mode="json", exclude={"brief"}) | _settings_of(llm)
    if not path.exists():
        with replacing(path) as partial:
            partial.write_text(json.dumps(now, indent=2), encoding="utf-8")
        return
    before = json.loads(path.read_bytes())
    changed = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if changed:
        differences = "; ".join(f"{n} was {before.get(n)!r}, is {now.get(n)!r}" for n in changed)
        raise ValueError(
            f"{folder} holds a batch with other settings: {differences}. "
            "Use the same settings, or give another --out."
        )


def _settings_of(llm: LLM | None) -> dict[str, Any]:
    """Settings of an LLM other than its name, which is in the request."""
    fields = llm.model_dump(mode="json", exclude={"model"}) if llm else {}
    return {f"llm.{name}": value for name, value in fields.items()}


def run_batch(
    items: list[Item],
    folder: Path,
    template: OptimizeRequest,
    optimize: Optimize,
    llm: LLM | None = None,
) -> Iterator[tuple[Item, str]]:
    """Run the items that are not done yet or failed before, and write their rows.

    Args:
        items: from `read_briefs`.
        folder: where results.jsonl and the runs go.
        template: the request; each item's brief replaces its own.
        optimize: runs one request.
        llm: settings of the LLM; None: only its name is known, from the request.

    Yields:
        Each item that was not done before, after its row is written, with its error or "".

    Raises:
        FolderInUseError: another process works in this folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder.locked(folder):
        keep_settings(folder, template, llm)
        results = Results(folder)
        results.forget_failures()
        for number, item in enumerate(items, 1):
            if results.has(item):
                continue
            runs = folder / RUNS / f"{number:06d}"
            try:
                row, error = optimize(number, item.request(template), runs).summary(), ""
                if row["stop_reason"] == "scorer failed":  # not done: the next try resumes it
                    row["error"] = error = SCORER_FAILED
            except (ValueError, RuntimeError, MemoryError) as problem:
                row, error = {"error": str(problem)}, str(problem)
            results.write(item, row)
            yield item, error


def in_flight(runs: Path) -> Path | None:
    """The latest run in a folder of runs, left behind by a killed batch."""
    started = sorted(path.parent for path in runs.glob(f"*/{run_folder.FILE}"))
    return started[-1] if started else None
