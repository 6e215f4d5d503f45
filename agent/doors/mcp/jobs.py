"""Optimizations as jobs: each has a file and a run folder, so that an interrupted call loses
nothing.

A job's id is the key of its request, so the same arguments lead to the same job: to its result if
it is done, and otherwise they resume its run folder. A job works as long as a call waits for it.
When none does, it ends between two steps, unless a client was given its id to come back for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from promptprobe.agent import run_folder
from promptprobe.agent.doors.display import Meter, describe
from promptprobe.agent.doors.mcp.queue import Queue
from promptprobe.agent.doors.schemas import OptimizeRequest, in_words
from promptprobe.agent.events import Event, RunStarted
from promptprobe.agent.given import opened
from promptprobe.agent.optimize import go_on, start
from promptprobe.probe.cancellation import cancellable
from promptprobe.probe.files import replacing
from promptprobe.tools.records import Record

HEARTBEAT = 5.0
"""Seconds between progress reports to a waiting caller, because clients end silent calls."""
FOLDER = "jobs"
Status = Literal["unfinished", "done", "failed", "cancelled"]
Tell = Callable[[float, float, str], Awaitable[None]]
"""Called with (amount done, total, message)."""
ID = re.compile(r"[0-9a-f]{16}")


class Job(Record):
    """A job as stored on disk."""

    request: OptimizeRequest
    run: str | None = None
    """Name of its run folder, once it has one."""
    status: Status = "unfinished"
    error: str = ""
    seconds: float | None = None
    """How long it took, once it is done."""


@dataclass
class Working:
    """A job in progress in this process."""

    task: asyncio.Task[None]
    waiting: set[asyncio.Event] = field(default_factory=set)
    """One event per waiting call, set whenever there is news."""
    known: bool = False
    """Whether a client was given its id and may come back."""
    done: float = 0
    total: float = 1
    message: str = "waiting for earlier calls"

    def ring(self) -> None:
        for bell in self.waiting:
            bell.set()


class Jobs:
    """The jobs of an output folder, which only one process may use at a time."""

    def __init__(
        self, out: Path, queue: Queue, scorer: str | None, judges: tuple[str, ...]
    ) -> None:
        self.out, self._queue = out, queue
        self._resumed = partial(opened, scorer=scorer, judges=judges)
        self._working: dict[str, Working] = {}

    # -- on disk ---------------------------------------------------------------------------

    def read(self, name: str) -> Job:
        """A job by its id. Raises ValueError if there is none."""
        if ID.fullmatch(name):
            with suppress(FileNotFoundError, ValidationError):
                return Job.model_validate_json(self._path(name).read_bytes())
        raise ValueError(f"job_id: there is no job {name[:80]!r}; list_runs lists all jobs")

    def recent(self, most: int) -> list[tuple[str, Job]]:
        """The most recently changed jobs, newest first."""
        paths = (self.out / FOLDER).glob("*.json")
        found = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
        jobs = []
        for path in found[:most]:
            with suppress(ValueError):
                jobs.append((path.stem, self.read(path.stem)))
        return jobs

    def run_of(self, job: Job) -> Path | None:
        """The job's run folder, if it has one."""
        folder = self.out / job.run if job.run else None
        return folder if folder and (folder / run_folder.FILE).is_file() else None

    def is_working(self, name: str) -> bool:
        """Whether the job is in progress or queued."""
        return name in self._working

    def _path(self, name: str) -> Path:
        return self.out / FOLDER / f"{name}.json"

    def _write(self, name: str, job: Job) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(job.model_dump_json(), encoding="utf-8")

    # -- at work ---------------------------------------------------------------------------

    async def follow(
        self, name: str, request: OptimizeRequest | None, seconds: float, tell: Tell
    ) -> None:
        """Start or resume a job, and wait until it ends or `seconds` have passed.

        Args:
            name: the job's id.
            request: the job's request; None: the job exists, and is resumed unless it has ended.
            seconds: how long to wait; the job continues afterwards.
            tell: called with the progress.

        Raises:
            BusyError: the queue is full.
            ValueError: there is no such job.
        """
        while (before := self._working.get(name)) and before.task.cancelling():
            await asyncio.wait([before.task])
        job = Job(request=request) if request and not self._path(name).exists() else self.read(name)
        ended = job.status == "done" or (request is None and job.status != "unfinished")
        if not ended and name not in self._working:
            self._begin(name, job)
        working = self._working.get(name)
        if working is None:
            return
        bell = asyncio.Event()
        working.waiting.add(bell)
        try:
            await _wait(working, bell, seconds, tell)
            working.known |= not working.task.done()
        finally:
            working.waiting.discard(bell)
            if not working.waiting and not working.known:
                working.task.cancel()

    async def cancel(self, name: str) -> None:
        """End a job between two steps; what it has drawn is kept. ValueError: no such job."""
        job = self.read(name)
        working = self._working.get(name)
        if working is not None:
            working.task.cancel()
            await asyncio.wait([working.task])
            job = self.read(name)
        if job.status == "unfinished":
            self._write(name, job.model_copy(update={"status": "cancelled"}))

    async def close(self) -> None:
        """End all work; jobs resume when they are requested again."""
        tasks = [working.task for working in self._working.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, name: str, job: Job) -> None:
        self._queue.check()
        job = job.model_copy(update={"status": "unfinished", "error": ""})
        self._write(name, job)
        working = Working(asyncio.create_task(self._work(name, job)))
        self._working[name] = working

        def ended(_: object) -> None:
            self._working.pop(name, None)
            working.ring()

        working.task.add_done_callback(ended)

    async def _work(self, name: str, job: Job) -> None:
        meter = Meter()

        def on_event(event: Event) -> None:
            nonlocal job
            if isinstance(event, RunStarted) and job.run is None:
                job = job.model_copy(update={"run": event.run_dir.name})
                self._write(name, job)
            meter.update(event)
            working = self._working[name]
            working.done, working.total = meter.done, meter.total
            working.message = describe(event)
            working.ring()

        try:
            async with self._queue.place():
                self._working[name].message = "opening the model"
                with cancellable():
                    run = self.run_of(job)
                    result = await (
                        go_on(run, on_event, open_tools=self._resumed)
                        if run
                        else start(job.request, self.out, on_event)
                    )
            ended = {"status": "done", "seconds": result.spent.seconds}
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            ended = {"status": "failed", "error": in_words(error)[:1000]}
        self._write(name, job.model_copy(update=ended))


async def _wait(working: Working, bell: asyncio.Event, seconds: float, tell: Tell) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not working.task.done() and (left := until - loop.time()) > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(HEARTBEAT, left)):
                await bell.wait()
        bell.clear()
        await tell(working.done, working.total, working.message)
