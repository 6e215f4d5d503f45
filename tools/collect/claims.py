"""Claims let any number of processes fill one folder of shards without drawing anything twice.

A claim names the candidates of a shard that is being collected. The collecting process holds its
lock, so the claim of a killed process is released. Claims are made under one lock for the whole
folder, and the first missing candidates get the lowest free number, so the files are the same for
any number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from promptprobe.probe.training.shards import read_rows, shards_of
from promptprobe.tools.collect.prompts import Job

FOLDER = "claims"
Key = tuple[str, int]
"""Prompt and seed."""
Groups = Sequence[Sequence[Job]]


@dataclass
class Claims:
    """The claims on one folder of shards, as one process sees them."""

    shards: Path
    held: dict[Path, list[Key]] = field(default_factory=dict)
    """Candidates by complete shard: a shard never changes, so each is read once."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self.shards / FOLDER

    @property
    def whole(self) -> FileLock:
        """The lock of the whole folder, held for any change."""
        return FileLock(self.folder / "folder.lock")

    def keys(self) -> set[Key]:
        """Candidates of the complete shards."""
        for path in shards_of(self.shards):
            if path not in self.held:
                self.held[path] = [(row.prompt, row.seed) for row in read_rows(path)]
        return {key for keys in self.held.values() for key in keys}

    @contextmanager
    def next(self, plan: Groups, size: int) -> Iterator[tuple[Path, list[Job]] | None]:
        """Claim a shard: its path, and the first groups of the plan that nobody else collects.

        None means that nothing is missing. It waits while others collect all that is missing, as
        they may be killed. The caller writes the shard before it leaves the context, or fails.
        """
        while True:
            with self.whole:
                taken = dict(self._living())
                chosen = filled(missing(plan, self.keys().union(*taken.values())), size)
                if chosen:
                    number = self._free_number(taken)
                    lock = self._claim(number, chosen)
                    break
                left = any(missing(plan, self.keys()))
            if not left:
                yield None
                return
            with FileLock(self._lock(min(taken))):  # waits until its holder is done or dead
                pass
        try:
            yield self.shards / f"shard-{number:05}.safetensors", chosen
        finally:
            with self.whole:
                self._drop(number, lock)

    def _living(self) -> Iterator[tuple[int, list[Key]]]:
        """Numbers of shards that are being collected, with their candidates."""
        for path in sorted(self.folder.glob("*.json")):
            number, lock = int(path.stem), FileLock(self._lock(int(path.stem)))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                yield number, [(prompt, seed) for prompt, seed in json.loads(path.read_text())]
            else:
                self._drop(number, lock)

    def _claim(self, number: int, chosen: Sequence[Job]) -> FileLock:
        lock = FileLock(self._lock(number))
        lock.acquire()
        self._named(number).write_text(json.dumps([job.key for job in chosen]))
        return lock

    def _drop(self, number: int, lock: FileLock) -> None:
        self._named(number).unlink(missing_ok=True)
        lock.release()
        self._lock(number).unlink(missing_ok=True)

    def _free_number(self, taken: Iterable[int]) -> int:
        used = {int(path.stem.rpartition("-")[2]) for path in shards_of(self.shards)} | set(taken)
        return next(number for number in count() if number not in used)

    def _named(self, number: int) -> Path:
        return self.folder / f"{number:05}.json"

    def _lock(self, number: int) -> Path:
        return self.folder / f"{number:05}.lock"


def missing(groups: Groups, held: Iterable[Key]) -> Iterator[list[Job]]:
    """The groups without candidates that are held, and without duplicates."""
    seen = set(held)
    for group in groups:
        new = {job.key: job for job in group if job.key not in seen}
        seen |= new.keys()
        if new:
            yield list(new.values())


def filled(groups: Iterable[list[Job]], size: int) -> list[Job]:
    """The first whole groups that together have at least `size` candidates, or all groups."""
    chosen: list[Job] = []
    for group in groups:
        chosen += group
        if len(chosen) >= size:
            break
    return chosen
