"""The graph's context: a run's settings, tools, proposer, ledger, clock and listener.

It does not change while the graph runs, and it is never checkpointed.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from promptprobe.agent.events import OnEvent, Warned
from promptprobe.agent.ledger import (
    ApprovedLine,
    ChosenLine,
    GradedLine,
    Ledger,
    ProbedLine,
    ProposedLine,
    RenderedLine,
    ReplyLine,
    ScoredLine,
    WarningLine,
    nfe_of,
)
from promptprobe.agent.rewrite.proposers import Proposer, SeedsOnly
from promptprobe.agent.rewrite.review import Approve
from promptprobe.agent.run_folder import RunSettings
from promptprobe.agent.search import planning, policy
from promptprobe.agent.search.beliefs import Beliefs
from promptprobe.agent.search.choice import Choice, Choose, picked, planned_first
from promptprobe.agent.search.schedule import Costs, Schedule
from promptprobe.agent.search.trust import Trust, trust_in
from promptprobe.tools.endpoint.endpoint import Reply
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import Basis, Candidate, Spend, Trial

T = TypeVar("T")


async def timed(work: Callable[..., list[T]], *given: Any, **named: Any) -> tuple[list[T], float]:
    """Call a tool in a thread; return its results and the seconds per result."""
    began = time.monotonic()
    found = await asyncio.to_thread(work, *given, **named)
    return found, (time.monotonic() - began) / max(1, len(found))


@dataclass(frozen=True)
class Person:
    """Somebody who is asked while a run goes on."""

    approve: Approve | None = None
    """Reviews each round's new prompts."""
    choose: Choose | None = None
    """Picks who goes on after each rung."""


NOBODY = Person()


@dataclass
class Context:
    """Everything the graph's nodes need that is not state."""

    settings: RunSettings
    tools: Tools
    proposer: Proposer
    ledger: Ledger
    on_event: OnEvent | None = None
    person: Person = NOBODY
    began: float = field(default_factory=time.monotonic)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.ledger.spent.seconds

    @property
    def seconds(self) -> float:
        """Seconds of this run, including those before an interruption."""
        return self.before + time.monotonic() - self.began

    @property
    def spent(self) -> Spend:
        return self.ledger.spent.model_copy(update={"seconds": self.seconds})

    @property
    def llm_budget_spent(self) -> str:
        """A sentence naming the cap on the LLM that is reached; empty if none is."""
        spent, budget = self.ledger.spent, self.settings.budget
        for name, used, cap in (
            ("LLM calls", spent.llm_calls, budget.llm_calls),
            ("tokens", spent.tokens, budget.tokens),
            ("US dollars for the LLM", spent.usd, budget.usd),
        ):
            if cap is not None and used >= cap:
                return f"the budget of {cap} {name} is spent: no further rewrites are asked for"
        return ""

    def emit(self, kind: type[BaseModel], **content: Any) -> None:
        if self.on_event:
            self.on_event(kind(spent=self.spent, **content))  # type: ignore[arg-type]

    def warn(self, message: str) -> None:
        """Record and emit a warning, once per run."""
        if message not in self.ledger.warnings:
            self.ledger.write([WarningLine(at=self.seconds, message=message)])
            self.emit(Warned, message=message)

    def starts(self, candidates: Sequence[Candidate]) -> list[Path | None]:
        """Latents that each candidate continues from; None, with a warning, if they are gone."""
        trials = [self.ledger.trial(candidate) for candidate in candidates]
        if any(trial.looks and trial.latents is None for trial in trials):
            self.warn("latents of candidates were lost, so they are denoised from the start")
        return [trial.latents for trial in trials]

    async def recall(self, question: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to a question: from the ledger, or asked now and recorded before use.

        A failure is recorded too, but the question is asked again the next time. If the budget has
        no call left, nothing is asked or recorded.
        """
        line = self.ledger.reply(question)
        if line is None:
            if spent := self.llm_budget_spent:
                self.warn(spent)
                return Reply(None, spent, 0, 0)
            reply = await ask()
            line = ReplyLine(at=self.seconds, question=question, **asdict(reply))
            self.ledger.write([line])
            budget = self.settings.budget
            if line.text and not line.tokens and (budget.tokens, budget.usd) != (None, None):
                self.warn("the LLM's endpoint reports no token counts, so no cap on them can hold")
        if line.text is not None and line.problem:
            self.warn(f"the LLM answered, but {line.problem}")
        return Reply(line.text, line.problem, line.calls, line.tokens, line.usd)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Exclude the time that a person takes to answer from the run's seconds."""
        paused = time.monotonic()
        try:
            yield
        finally:
            self.began += time.monotonic() - paused

    async def chosen(
        self, round: int, step: int, seen: Sequence[Trial], planned: Sequence[Candidate]
    ) -> tuple[Candidate, ...] | None:
        """Candidates that a person keeps, from the ledger or asked now; None: follow the plan.

        A person is asked only if somebody would be dropped.

        Raises:
            ValueError: the answer is invalid.
        """
        line = self.ledger.chosen(round, step)
        if line is None and self.person.choose is not None and len(seen) > len(planned):
            steps = self.tools.settings_used.steps
            left = self.settings.budget.renders * self.tools.nfe_per_render - self.ledger.spent.nfe
            pays_for = int(left / (self.tools.nfe_per_render * (1 - step / steps)))
            choice = Choice(
                brief=self.settings.brief,
                round=round,
                step=step,
                steps=steps,
                trials=planned_first(seen, planned),
                planned=tuple(planned),
                most=min(len(seen), max(len(planned), pays_for)),
            )
            with self.waiting():
                answer = self.person.choose(choice)
                answer = await answer if inspect.isawaitable(answer) else answer
            candidates = picked(choice, answer)
            line = ChosenLine(at=self.seconds, round=round, step=step, candidates=candidates)
            self.ledger.write([line])
        return line.candidates if line else None

    @property
    def rewrites(self) -> bool:
        """Whether there is a proposer that may still be asked for rewrites."""
        return not isinstance(self.proposer, SeedsOnly) and not self.llm_budget_spent

    def untried(self, before: int) -> list[str]:
        """The caller's own prompts that no earlier round has tried or refused."""
        tried = {trial.candidate.prompt[:400] for trial in self.ledger.trials(before=before)}
        answers: list[ProposedLine | ApprovedLine] = [*self.ledger.proposed, *self.ledger.reviewed]
        for line in answers:
            tried |= {one.prompt for one in line.refused if line.round < before}
        return [prompt for prompt in self.settings.prompts or () if prompt[:400] not in tried]

    def batches(self, items: Sequence[Candidate]) -> Iterator[Sequence[Candidate]]:
        """Batches that fill the device; a kill repeats at most one."""
        done = 0
        while done < len(items):
            batch = items[done : done + self.tools.batch_size]
            yield batch
            done += len(batch)

    # -- the budget ----------------------------------------------------------------------------

    def left(self, round: int) -> float:
        """Renders' worth of the budget that is left after a round."""
        spent = sum(nfe_of(line) for line in self.ledger.stages(before=round + 1))
        return self.settings.budget.renders - spent / self.tools.nfe_per_render

    def seconds_left(self, round: int) -> float | None:
        """Seconds of the budget that are left after a round; None if they are not capped."""
        if self.settings.budget.seconds is None:
            return None
        ends = (line.at for line in self.ledger.stages(before=round + 1))
        return self.settings.budget.seconds - max(ends, default=0.0)

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent; checked before each batch."""
        budget = self.settings.budget
        late = budget.seconds is not None and self.seconds >= budget.seconds
        return late or self.ledger.spent.nfe >= budget.renders * self.tools.nfe_per_render

    def pays_for_a_round(self, round: int) -> bool:
        """Whether the round did any work, and what is left after it pays for a picture."""
        seconds = self.seconds_left(round)
        worked = any(line.round == round for line in self.ledger.stages())
        return worked and self.left(round) >= 1 - 1e-9 and (seconds is None or seconds > 0)

    def last_round(self, round: int) -> int:
        """The number of the last round, if the rounds after this one are as large."""
        left = self.left(round - 1) - (0 if round else 1)
        return max(0, round - 1) + (planning.rounds_in(left) if left >= 1 else 0)

    def expected_seconds(self, schedule: Schedule, round: int) -> float | None:
        """Expected seconds of a round at the speed of earlier ones; None if there were none."""
        lines = self.ledger.stages(before=round)
        paid = sum(map(nfe_of, lines))
        return schedule.nfe * sum(line.seconds for line in lines) / paid if paid else None

    # -- planning the next round -----------------------------------------------------------------

    def reached(self, trial: Trial) -> bool:
        """Whether a picture is good enough to stop: correct, or at the target."""
        value, target = trial.value, self.settings.target
        at_target = value is not None and target is not None and value >= target
        return at_target or policy.is_correct(trial)

    def scorer_failed(self, before: int) -> str:
        """Why the scorer is of no use in this run; empty if it works."""
        scores = []
        for line in self.ledger.stages(before=before):
            if isinstance(line, ScoredLine) and (found := self.ledger.rendered(line.candidate)):
                scores += [line.score] if found.scorable else []
        if not policy.scores_nothing(scores):
            return ""
        return (
            f"{self.tools.scorer_name} scores no picture ({scores[-1].reason}), so the run stops "
            f"here. All pictures are kept: use --resume {self.ledger.run_dir} once the scorer works"
        )

    @property
    def to_correct(self) -> bool:
        """Whether one picture may end the run, so that pictures are finished one by one."""
        first = planning.first_score(self.ledger.trials())
        return self.settings.target is not None or (first is not None and first.correct is not None)

    @property
    def good(self) -> float | None:
        """The lowest score with which a picture ends the run; None if unknown."""
        return planning.good_from(self.settings.target, self.ledger.trials())

    def trust(self, before: int | None = None) -> Trust:
        """Whether to trust the probe, judging by the run so far or by rounds before `before`."""
        tools = self.tools
        return trust_in(self.ledger.trials(before=before), tools.ranks, tools.preview_ranks)

    def beliefs(self, before: int) -> Beliefs:
        """How well looks predict scores, as learned from earlier rounds."""
        broken = bool(self.trust(before).broken)
        ranks = self.tools.preview_ranks if broken else self.tools.ranks
        signal = planning.prior_signal(self.tools.settings_used.steps, ranks)
        basis: Basis = "preview" if broken else "probe"
        return planning.believe(signal, self.ledger.trials(before=before), basis)

    def plan(self, beliefs: Beliefs, before: int) -> Schedule:
        """The schedule of a round. Raises ValueError if the rest does not pay for one render."""
        budget, left = self.settings.budget, self.left(before - 1)
        fixed = budget.seeds is not None or budget.keep is not None
        share = left if fixed else left / planning.rounds_in(left)
        seconds, costs = self.seconds_left(before - 1), self.costs(before)
        schedule = planning.plan_round(
            beliefs,
            self.tools.settings_used.steps,
            share,
            costs,
            budget,
            least=1 + len(self.untried(before)),
            chance=None if fixed else self._fresh_chance(beliefs, before),
            seconds=None if seconds is None else self._seconds_of(share / left, seconds, costs),
        )
        requested = budget.most or 0
        if before == 0 and schedule.candidates < requested:
            self.warn(
                f"a round starts {schedule.candidates} of the {requested} candidates requested: "
                f"the budget of {budget.renders:g} renders pays for no more with useful looks"
            )
        return schedule

    def _fresh_chance(self, beliefs: Beliefs, before: int) -> float | None:
        """Chance that a new candidate ends the run; None if unknown, or if a person chooses."""
        if (good := self.good) is None or self.person.choose is not None:
            return None
        return planning.fresh_chance(beliefs, self.ledger.trials(before=before), good)

    def _seconds_of(self, part: float, seconds: float, costs: Costs) -> float:
        """A round's part of the seconds that are left, and at least enough for a picture."""
        picture = costs.render_seconds(self.tools.settings_used.steps)
        return max(part * seconds, min(picture, seconds), 1e-9)

    def costs(self, before: int) -> Costs:
        """NFE of a step, and seconds as earlier rounds have measured them."""
        total = self.tools.settings_used.steps
        lines = self.ledger.stages(before=before)
        rendered = [line.seconds for line in lines if isinstance(line, RenderedLine)]
        looks = [line.probed.seconds for line in lines if isinstance(line, ProbedLine)]
        scored = [line.seconds for line in lines if isinstance(line, ScoredLine)]
        graded = [
            [line.seconds for line in lines if isinstance(line, GradedLine) and line.judge == name]
            for name in self.tools.judge_names
        ]
        step, look, *scores = (min(s, default=0.0) for s in (rendered, looks, scored, *graded))
        capped = self.settings.budget.seconds is not None
        return planning.costs_of(
            self.tools.nfe_per_render / total,
            step / total,
            look,
            sum(scores),
            capped,
        )

    def trials(self, candidates: Sequence[Candidate]) -> tuple[Trial, ...]:
        return tuple(map(self.ledger.trial, candidates))
