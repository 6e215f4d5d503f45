"""`Session`: a model, its scorer and its probe, opened once and used by many calls.

Safe to use from several threads and tasks. The device works on one batch at a time, in the order of
the calls (tools/device.py), and a candidate's numbers never depend on what else runs, so results
are the same as those of sequential calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from promptprobe.agent.context import Person
from promptprobe.agent.doors.replies import ProbeReply
from promptprobe.agent.doors.schemas import OptimizeRequest, ProbeRequest, checked
from promptprobe.agent.doors.stream import streamed
from promptprobe.agent.events import OnEvent
from promptprobe.agent.given import (
    DEFAULT_GENERATION,
    Judges,
    check_resumed,
    judge_names,
    judges_of,
    named,
)
from promptprobe.agent.optimize import blocking, go_on, start
from promptprobe.agent.probe_prompts import Report, answer
from promptprobe.agent.report.notebook import shown_in_notebook
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.proposers import Rewrite
from promptprobe.agent.rewrite.review import Approve
from promptprobe.agent.run_folder import check_folder
from promptprobe.agent.search.choice import Choose
from promptprobe.tools.endpoint.endpoint import LLM
from promptprobe.tools.protocol import Rendered, Tools
from promptprobe.tools.records import Budget, Candidate, Generation, Record, Score
from promptprobe.tools.scorers.scorer import check_names
from promptprobe.tools.scorers.table import specs_of

KEPT = 8
"""How many settings' tools are cached. They share the model, so this takes little memory."""
P = ParamSpec("P")
T = TypeVar("T")


class MadeWith(Record):
    """What tells the pictures of one candidate apart."""

    model: str
    generation: Generation


def awaitable(work: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """An async version of `work` with the same parameters, which runs it in a thread."""

    @wraps(work)
    async def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(work, *args, **kwargs)

    for name in ("__name__", "__qualname__"):
        setattr(waiting, name, getattr(work, name).replace(work.__name__, f"a{work.__name__}"))
    return waiting


class Session:
    """A model with its scorer and probe, which stay open as long as this object lives.

    Args:
        model: "sprites" or "sprites-flow", a diffusers folder, a hub id, or a loaded pipeline.
        scorer: what selects: a name, or a callable (brief, image) -> number or `Score`; several
            are combined as their mean. None takes a built-in model's own, and a CLIP for others.
        judge: one or more judges, given like `scorer`, that only grade the pictures of `optimize`.
        probe: folder or hub id of a trained probe; None takes a built-in model's own, and previews
            for others.
        generation: how images are made; a call may override it, except for device and dtype.

    Raises:
        ValueError: model, scorer or probe cannot be opened, or the model cannot work with these
            settings; the message says what to do.
    """

    def __init__(
        self,
        model: str | Path | Any = "sprites",
        *,
        scorer: Judges | None = None,
        judge: Judges | None = None,
        probe: str | Path | None = None,
        generation: Generation = DEFAULT_GENERATION,
    ) -> None:
        judges = judges_of(judge)
        check_names([scorer or (), *judges])
        self._named, self._judges = named(model, scorer, probe), judge_names(judges)
        self._given: dict[str, Any] = {
            "model": model, "scorer": scorer, "probe": probe, "judges": judges
        }  # fmt: skip
        self._known: dict[Hashable, Tools] = {}
        self.generation = generation
        """How images are made unless a call overrides it."""
        self._home = self._tools(generation)

    @property
    def model(self) -> str:
        """The model's name in reports."""
        return self._home.model_name

    # -- verbs -----------------------------------------------------------------------------

    async def aoptimize(
        self,
        brief: str = "",
        *,
        generation: Generation | None = None,
        llm: str | LLM | None = None,
        prompts: Sequence[str] | None = None,
        rewrite: Rewrite = "enrich",
        keep: Sequence[str] = (),
        budget: str | float | Budget = "light",
        target: float | None = None,
        seed: int = 0,
        out: str | Path = "runs",
        on_event: OnEvent | None = None,
        approve: Approve | None = None,
        choose: Choose | None = None,
        resume: str | Path | None = None,
    ) -> OptimizationResult:
        """Find the prompt and seed that draw a brief best; see `optimize_prompt`.

        Raises:
            ValueError: an argument cannot be used, or the run to resume has another model, scorer,
                judge or probe, or was asked for something else.
            OSError: `out` cannot be written.
        """
        own_llm = llm if isinstance(llm, LLM) else None
        on_event = shown_in_notebook(on_event)
        person = Person(approve, choose)
        given = {
            "brief": brief,
            "generation": generation,
            "llm": own_llm.model if own_llm else llm,
            "prompts": prompts,
            "rewrite": rewrite,
            "keep": keep,
            "budget": budget,
            "target": target,
            "seed": seed,
        }
        if resume is not None:
            check_resumed(Path(resume), given, approve is not None)
            return await go_on(
                Path(resume), on_event, open_tools=self._resumed, llm=own_llm, person=person
            )
        own = {"judge": self._judges, "generation": generation or self.generation}
        request = checked(OptimizeRequest, self._named | given | own)
        return await start(
            request, Path(out), on_event, open_tools=self._asked, llm=own_llm, person=person
        )

    optimize = blocking(aoptimize)
    stream = streamed(aoptimize)

    def probe(
        self,
        brief: str,
        prompts: Sequence[str] | None = None,
        *,
        seeds: Sequence[int] = (0, 1, 2, 3),
        generation: Generation | None = None,
        heatmaps: str | Path | None = None,
        report: Report | None = None,
    ) -> ProbeReply:
        """Rank prompts x seeds by their first denoising steps, the most promising first.

        Args:
            brief: what the picture should show; predictions are against it.
            prompts: wordings to compare; None: the brief alone.
            seeds: used for every prompt.
            generation: how pictures would be made; None takes the session's settings.
            heatmaps: folder for a picture of each candidate's attention and an index of them.
            report: called with (candidates done, candidates in all, message).

        Raises:
            ValueError: an argument cannot be used, or the model can draw nothing in the brief.
            OSError: `heatmaps` cannot be written.
        """
        given = {
            "brief": brief,
            "prompts": [brief] if prompts is None else prompts,
            "seeds": seeds,
            "generation": self.generation if generation is None else generation,
        }
        request = checked(ProbeRequest, self._named | given)
        folder = None if heatmaps is None else Path(heatmaps)
        return answer(request, report or (lambda *_: None), folder, self._asked)

    def render(
        self,
        candidates: Sequence[Candidate],
        folder: str | Path,
        *,
        generation: Generation | None = None,
    ) -> list[Rendered]:
        """Draw each candidate in full as a PNG below `folder`; results are in the given order.

        The images of each model and setting go into a subfolder of their own, so that none replaces
        another's.

        Raises:
            ValueError: settings that the model cannot work with.
            OSError: `folder` cannot be written.
        """
        check_folder(Path(folder), "folder")
        tools = self._tools(self.generation if generation is None else generation)
        own = Path(folder) / MadeWith(model=tools.model_name, generation=tools.settings_used).key
        return tools.render(candidates, [None] * len(candidates), own)

    def score(self, brief: str, images: Sequence[str | Path]) -> list[Score]:
        """Score image files against a brief; one that cannot be scored gets a reason, no value.

        Raises:
            ValueError: something other than a list of files was given.
        """
        if isinstance(images, str) or not all(isinstance(one, str | Path) for one in images):
            raise ValueError(f"images: expected a list of picture files, got {images!r:.200}")
        return self._tools(self.generation).score(brief, [Path(image) for image in images])

    aprobe = awaitable(probe)
    arender = awaitable(render)
    ascore = awaitable(score)

    # -- how they work ---------------------------------------------------------------------

    def _tools(self, generation: Generation) -> Tools:
        from promptprobe.tools.models.loading import fingerprint
        from promptprobe.tools.models.model import open_toolbox
        from promptprobe.tools.scorers.function import source_of

        judges = (*specs_of(self._given["scorer"] or ()), *self._given["judges"])
        code = [fingerprint(source_of(one)) for one in judges if str(one).startswith("python:")]
        key = generation.key, *code  # an edited file is loaded again by the next call
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = open_toolbox(generation=generation, **self._given)
            for oldest in list(self._known)[:-KEPT]:
                self._known.pop(oldest, None)
        return found

    def _asked(self, request: OptimizeRequest | ProbeRequest) -> Tools:
        return self._tools(request.generation)

    def _resumed(self, settings: OptimizeRequest | ProbeRequest) -> Tools:
        """Tools to resume a run. Raises ValueError if its model, judges or probe differ."""
        own = {
            **self._named,
            "model": self.model,
            "scorer": self._named["scorer"] or self._home.scorer_name,
            "judge": self._judges or self._home.judge_names,
        }
        for name, mine in own.items():
            if (theirs := getattr(settings, name)) != mine:
                raise ValueError(
                    f"this run has the {name} {theirs!r}, but this session has {mine!r}: "
                    f"resume it with optimize_prompt, or in a session with that {name}"
                )
        return self._tools(settings.generation)
