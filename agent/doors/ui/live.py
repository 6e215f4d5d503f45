"""The run that the page shows and controls: starting, pausing, picking and ending it.

There is one run at a time, however many tabs are open. It goes on when a tab is closed, and a tab
that is opened later shows it. All of this happens in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptprobe.agent.doors.display import Meter, describe
from promptprobe.agent.doors.session import Session
from promptprobe.agent.doors.ui.unfinished import Unfinished, unfinished_in
from promptprobe.agent.events import (
    CandidatesProbed,
    CandidatesRendered,
    CandidatesScored,
    CandidatesSelected,
    Event,
    PromptsProposed,
    RoundEnded,
    RoundStarted,
    RunStarted,
    Warned,
)
from promptprobe.agent.report.page import report_of
from promptprobe.agent.search.choice import Choice
from promptprobe.agent.search.policy import best_of
from promptprobe.probe.cancellation import cancellable
from promptprobe.tools.records import Candidate, Trial

MOST_NOTES = 8


@dataclass
class Shown:
    """The state of a run according to its events so far."""

    brief: str
    meter: Meter = field(default_factory=Meter)
    spent: int = 0
    """Denoiser evaluations."""
    status: str = "opening the model"
    run_dir: Path | None = None
    round: RoundStarted | None = None
    """The current round."""
    prompts: tuple[str, ...] = ()
    trials: dict[Candidate, Trial] = field(default_factory=dict)
    """The trials of the current round."""
    earlier: tuple[Trial, ...] = ()
    """Trials that a resumed run had before."""
    alive: tuple[Candidate, ...] | None = None
    """Candidates that go on; None if none was dropped yet."""
    best: Trial | None = None
    notes: list[str] = field(default_factory=list)
    report: str = ""
    """The report's HTML, once there is one."""
    ended: str = ""
    """How the run ended, in words; empty while it goes on."""
    failed: bool = False
    unfinished: bool = False
    """Whether the run was cut short and can be resumed."""

    def take(self, event: Event) -> None:
        """Update the state with one event."""
        self.meter.update(event)
        self.status, self.spent = describe(event), event.spent.nfe
        match event:
            case RunStarted():
                self.run_dir = event.run_dir
            case RoundStarted():
                self.round, self.alive = event, None
                mine = (trial for trial in self.earlier if trial.round == event.round)
                self.trials = {trial.candidate: trial for trial in mine}
            case PromptsProposed():
                self.prompts = event.prompts
            case CandidatesSelected():
                self.alive = event.candidates
            case CandidatesProbed() | CandidatesRendered() | CandidatesScored():
                self.trials |= {trial.candidate: trial for trial in event.trials}
                self.best = best_of([*filter(None, [self.best]), *event.trials])
            case RoundEnded():
                self.best = event.best
            case Warned():
                self.notes = [*self.notes, event.message][-MOST_NOTES:]


class Live:
    """The current or last run, and what the person at the page does with it.

    Args:
        session: draws, scores and predicts.
        out: folder of runs.
        llm: name of an LLM that proposes rewrites.
    """

    def __init__(self, session: Session, out: Path, llm: str | None = None) -> None:
        self.session, self._out, self._llm = session, out, llm
        self.shown: Shown | None = None
        self.choice: Choice | None = None
        """The choice that the person is asked to make now."""
        self.picks: list[Candidate] = []
        self.asks_always = self.asks_next = False
        self._news = asyncio.Event()  # set at the next change and then replaced
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[Sequence[Candidate] | None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def too_many(self) -> bool:
        """Whether more candidates are picked than the rest of the budget pays for."""
        return self.choice is not None and len(self.picks) > self.choice.most

    async def unfinished(self) -> list[Unfinished]:
        """The runs that can be resumed; empty while a run is in progress."""
        return [] if self.running else await asyncio.to_thread(unfinished_in, self._out)

    async def follow(self) -> AsyncIterator[None]:
        """Yield now and after each change."""
        self._loop = asyncio.get_running_loop()
        while not self._closed:
            news = self._news
            yield
            await news.wait()

    def close(self) -> None:
        """End the run and its followers; call this from another thread."""

        async def ended() -> None:
            self._closed = True
            await self.end()
            if self._task is not None:
                await asyncio.wait([self._task])
            self._tell()

        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(ended(), self._loop).result()

    # -- what the person does --------------------------------------------------------------

    async def begin(
        self, brief: str | None, prompts: str | None, budget: Any, seed: float | None
    ) -> None:
        """Start a run unless one is in progress; an untouched form field is None."""
        own = [line for line in map(str.strip, (prompts or "").splitlines()) if line]
        fields = {"brief": brief or "", "prompts": own or None, "seed": seed or 0}
        fields["budget"] = budget or "light"
        self._begin(Shown(brief or ""), {**fields, "llm": self._llm, "out": self._out})

    async def resume(self, name: object) -> None:
        """Resume the unfinished run with this name, unless a run is in progress."""
        for one in await self.unfinished():
            if one.run_dir.name == name:
                shown = Shown(
                    one.brief, run_dir=one.run_dir, earlier=one.trials, best=best_of(one.trials)
                )
                self._begin(shown, {"resume": one.run_dir})

    async def ask(self) -> None:
        """Stop at the next look, so that the person can pick."""
        self.asks_next = True
        self._tell()

    async def ask_always(self, wanted: bool) -> None:
        """Stop at each look from now on, or no longer."""
        self.asks_always = wanted

    async def pick(self, key: object) -> None:
        """Toggle whether the candidate with this key is picked."""
        for trial in self.choice.trials if self.choice else ():
            if (one := trial.candidate).key == key:
                left = [other for other in self.picks if other != one]
                self.picks = left if one in self.picks else [*left, one]
                self._tell()

    async def go_on(self) -> None:
        """Continue with the picked candidates."""
        if not self.too_many:
            self._answered(tuple(self.picks))

    async def as_planned(self) -> None:
        """Continue with the planned candidates."""
        self._answered(None)

    async def end(self) -> None:
        """End the run between two steps; it is kept."""
        if self._task is not None:
            self._task.cancel()

    # -- how it works ----------------------------------------------------------------------

    def _begin(self, shown: Shown, arguments: Mapping[str, Any]) -> None:
        if self.running:
            return
        self.shown, self.asks_next = shown, False
        self._task = asyncio.create_task(self._run(shown, arguments))
        self._task.add_done_callback(lambda _: self._tell())
        self._tell()

    def _answered(self, picks: Sequence[Candidate] | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(picks)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _run(self, shown: Shown, arguments: Mapping[str, Any]) -> None:
        def on_event(event: Event) -> None:
            shown.take(event)
            self._tell()

        try:
            with cancellable():
                result = await self.session.aoptimize(
                    **arguments, on_event=on_event, choose=self._choose
                )
            shown.best, shown.ended = result.best, f"Done: {result.stop_reason}."
        except asyncio.CancelledError:
            shown.ended, shown.unfinished = "Ended by you.", shown.run_dir is not None
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            shown.ended, shown.failed = str(error), True
            shown.unfinished = shown.run_dir is not None
        if shown.run_dir is not None and shown.best is not None:
            page = await asyncio.to_thread(report_of, shown.run_dir)
            shown.report = await asyncio.to_thread(page.read_text, "utf-8")

    async def _choose(self, choice: Choice) -> Sequence[Candidate] | None:
        if not (self.asks_always or self.asks_next):
            return None
        self.choice, self.picks, self.asks_next = choice, list(choice.planned), False
        self._answer = asyncio.get_running_loop().create_future()
        self._tell()
        try:
            return await self._answer
        finally:
            self.choice = None
            self._tell()
