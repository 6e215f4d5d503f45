"""Implements the server's tools: checks arguments, queues work, and returns a small answer.

Nothing here knows about transports. Work on the model runs in a thread and ends between two steps
when its call is cancelled; files are read in other threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mcp import types

from promptprobe.agent.doors.mcp import messages as m
from promptprobe.agent.doors.mcp.files import Files, small_picture
from promptprobe.agent.doors.mcp.jobs import HEARTBEAT, Job, Jobs, Tell
from promptprobe.agent.doors.mcp.queue import Queue
from promptprobe.agent.doors.schemas import checked
from promptprobe.agent.doors.tool_calls.owner import Owner, check_area, check_steps
from promptprobe.agent.probe_prompts import answer
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.probe.cancellation import cancellable
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import Candidate, Generation, Picture, Record
from promptprobe.tools.scorers.table import DEFAULT_CLIP

AT_ONCE, WAITING = 2, 14
"""How many jobs may work at once and how many may wait; the same for other calls."""
READERS = ThreadPoolExecutor(4, "reader")
PICTURES, PROBES = "pictures", "probes"
NEXT = {
    "working": "it is still working; call get_optimization with this job_id for the result",
    "unfinished": "it was cut off; call get_optimization with this job_id to resume it",
    "cancelled": "it was cancelled; call optimize_prompt with the same arguments to resume it",
    "done": "read the explanations, and call optimize_prompt again with better prompts",
    "target reached": "the best picture shows what was asked for; nothing is left to do",
}
Answer = tuple[Record, list[types.ContentBlock]]
T = TypeVar("T")


class Desk:
    """The tools of one server, over one output folder.

    Args:
        out: where runs and pictures go.
        owner: what the owner decides.
    """

    def __init__(self, out: Path, owner: Owner) -> None:
        self.owner, self.files = owner, Files(out)
        self.jobs = Jobs(self.files.out, Queue(AT_ONCE, WAITING), owner.scorer, owner.judge)
        self._queue = Queue(AT_ONCE, WAITING)
        self._made_for: dict[str, Picture] = {}

    # -- optimizations ---------------------------------------------------------------------

    async def optimize_prompt(self, given: Mapping[str, Any], tell: Tell) -> Answer:
        """Start or resume the job with these arguments."""
        fields = dict(given)
        wait = {n: fields.pop(n) for n in ("wait_seconds",) if n in fields}
        waits = checked(m.GetOptimization, {"job_id": "new", **wait}).wait_seconds
        request = self.owner.optimize_request(fields)
        await self._check_area(request.model, request.generation)
        await self.jobs.follow(request.key, request, waits, tell)
        return await self._state(request.key)

    async def get_optimization(self, given: Mapping[str, Any], tell: Tell) -> Answer:
        """Wait for a job, and resume it if it was cut off."""
        asked = checked(m.GetOptimization, given)
        await self.jobs.follow(asked.job_id, None, asked.wait_seconds, tell)
        return await self._state(asked.job_id)

    async def cancel_optimization(self, given: Mapping[str, Any], _: Tell) -> Answer:
        """End a job between two steps."""
        asked = checked(m.CancelOptimization, given)
        await self.jobs.cancel(asked.job_id)
        return await self._state(asked.job_id)

    async def list_runs(self, given: Mapping[str, Any], _: Tell) -> Answer:
        """The newest jobs."""
        asked = checked(m.ListRuns, given)
        rows = []
        for name, job in self.jobs.recent(asked.limit):
            found = await _in_reader(self._found, job)
            rows.append(
                m.RunSummary(
                    job_id=name,
                    brief=m.cut(job.request.brief, m.SHORT),
                    status="working" if self.jobs.is_working(name) else job.status,
                    best_score=found.best.value if found else None,
                    error=m.cut(job.error, m.SHORT),
                )
            )
        return m.fitted(m.Runs(runs=tuple(rows))), []

    async def _state(self, name: str) -> Answer:
        job, working = self.jobs.read(name), self.jobs.is_working(name)
        if job.status == "failed" and not working:
            raise ValueError(job.error)
        found = await _in_reader(self._found, job)
        status = "working" if working else job.status
        reached = status == "done" and found is not None and found.stop_reason == "target reached"
        message = NEXT["target reached" if reached else status]
        reply = m.Optimization.of(name, job, working, message, found)
        return reply, await _in_reader(self._pictures, found) if found else []

    def _found(self, job: Job) -> OptimizationResult | None:
        """The result of a job so far; None if it has drawn nothing yet."""
        folder = self.jobs.run_of(job)
        if folder is None:
            return None
        try:
            return read_result(folder)
        except ValueError:
            return None

    def _pictures(self, found: OptimizationResult) -> list[types.ContentBlock]:
        content: list[types.ContentBlock] = []
        if found.best.image is not None and found.best.image.is_file():
            content.append(small_picture(found.best.image))
        files = {
            "best picture": found.best.image,
            "initial picture": found.initial.image,
            "contact sheet": found.contact_sheet,
            "report": found.run_dir / "report.html",
            "all trials": found.run_dir / "trials.jsonl",
        }
        there = {name: path for name, path in files.items() if path is not None and path.is_file()}
        return [*content, *(self.files.link(name, path) for name, path in there.items())]

    # -- the other calls -------------------------------------------------------------------

    async def probe_prompts(self, given: Mapping[str, Any], tell: Tell) -> Answer:
        """Predict scores, and draw heat maps on request."""
        fields = dict(given)
        option = {n: fields.pop(n) for n in ("heatmaps",) if n in fields}
        wanted = checked(m.ProbeCall, {"brief": "-", "prompts": ["-"], **option}).heatmaps
        request = self.owner.probe_request(fields)
        await self._check_area(request.model, request.generation)
        folder = self.files.out / PROBES / request.key if wanted else None
        done = [0.0, 1.0, "opening the model"]

        def report(count: float, total: float, message: str) -> None:
            done[:] = count, total, message

        reply = await self._work(lambda: answer(request, report, folder), tell, done)
        links: list[types.ContentBlock] = []
        if reply.heatmaps is not None:
            links.append(self.files.link("heat maps", reply.heatmaps))
        return m.Probes.from_reply(reply), links

    async def render_image(self, given: Mapping[str, Any], tell: Tell) -> Answer:
        """Draw one picture in full."""
        asked = checked(m.RenderImage, given)
        check_steps(asked.generation)
        generation = self.owner.generation_for(self.owner.model, asked.generation)
        await self._check_area(self.owner.model, generation)
        candidate = Candidate(prompt=asked.prompt, seed=asked.seed)
        folder = self.files.out / PICTURES / generation.key
        (drawn,) = await self._work(
            lambda: self._tools(generation).render([candidate], [None], folder), tell
        )
        if drawn.image is None:
            return m.Drawn(image=None, reason=drawn.reason, nfe=drawn.nfe), []
        content: list[types.ContentBlock] = [await _in_reader(small_picture, drawn.image)]
        content.append(self.files.link("picture", drawn.image))
        uri = self.files.uri(drawn.image)
        return m.Drawn(image=uri, reason=drawn.reason, nfe=drawn.nfe), content

    async def score_image(self, given: Mapping[str, Any], tell: Tell) -> Answer:
        """Score a picture that this server has drawn."""
        asked = checked(m.ScoreImage, given)
        image = self.files.located(asked.image)
        (score,) = await self._work(
            lambda: self._tools(self.owner.generation).score(asked.brief, [image]), tell
        )
        return m.fitted(m.Scored(score=score)), []

    async def list_models(self, given: Mapping[str, Any], _: Tell) -> Answer:
        """The models that calls may use, the judges and the LLM."""
        checked(m.ListModels, given)
        owner = self.owner
        models = tuple(
            m.ModelSummary(name=name, draws=draws(name), default=name == owner.model)
            for name in owner.models
        )
        found = m.Models(
            models=models,
            scorer=owner.scorer or f"a built-in model's own, {DEFAULT_CLIP} for others",
            judges=owner.judge,
            llm=owner.llm,
            largest_budget=owner.budget_cap.model_dump(exclude_none=True),
        )
        return found, []

    # -- how they work ---------------------------------------------------------------------

    async def _work(self, work: Callable[[], T], tell: Tell, status: list[Any] | None = None) -> T:
        """Do blocking work in its turn, and report progress every few seconds.

        Raises:
            BusyError: the queue is full.
        """
        status = status or [0.0, 1.0, "at work"]

        async def turn() -> T:
            async with self._queue.place():
                with cancellable():
                    return await asyncio.to_thread(work)

        self._queue.check()
        task = asyncio.create_task(turn())
        try:
            while not (await asyncio.wait([task], timeout=HEARTBEAT))[0]:
                await tell(*status)
            return task.result()
        finally:
            task.cancel()

    def _tools(self, generation: Generation) -> Tools:
        from promptprobe.tools.models.model import open_toolbox

        owner = self.owner
        return open_toolbox(owner.model, generation, owner.scorer, owner.probe)

    async def _check_area(self, model: str, picture: Picture) -> None:
        usual = self.owner.generation_for(model, Picture())
        if (picture.height, picture.width) == (usual.height, usual.width):
            return  # the owner's own, or the model's
        if model not in self._made_for:
            self._made_for[model] = await asyncio.to_thread(_made_for, model, usual)
        check_area(picture, self._made_for[model])


def draws(model: str) -> str:
    """A description of what a model can draw, for an agent."""
    own = built_in(model)
    return own.draws if own else "what its model card says; briefs in its language"


def _made_for(model: str, generation: Generation) -> Picture:
    """The size that a model was made for, whatever the owner's settings say."""
    if own := built_in(model):
        return Picture(height=own.size, width=own.size)
    from promptprobe.tools.models.model import open_model

    unsized = generation.model_copy(update={"height": None, "width": None})
    return open_model(model, unsized).generation


async def _in_reader(read: Callable[..., T], *args: Any) -> T:
    """Read files in a thread pool of their own, which work on the model cannot fill up."""
    return await asyncio.get_running_loop().run_in_executor(READERS, partial(read, *args))
