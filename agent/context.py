"""What a run has in its hands: settings, tools, proposer, ledger, clock, and somebody who listens.

It does not change while the graph runs, and it is never checkpointed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel

from promptprobe.agent.events import OnEvent, Warned
from promptprobe.agent.ledger import Ledger, ReplyLine, WarningLine
from promptprobe.agent.policy import seeds_of
from promptprobe.agent.rewrite.proposers import Proposer
from promptprobe.agent.rewrite.review import Approve
from promptprobe.agent.run_folder import RunSettings
from promptprobe.tools.endpoint.endpoint import Reply
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import Candidate, Spend, Trial


@dataclass
class Context:
    """What a run has in its hands."""

    settings: RunSettings
    tools: Tools
    proposer: Proposer
    ledger: Ledger
    on_event: OnEvent | None = None
    approve: Approve | None = None
    """Asks a person of each round's new prompts."""
    began: float = field(default_factory=time.monotonic)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.ledger.spent.seconds

    @property
    def seconds(self) -> float:
        """Seconds of this run, those before an interruption included."""
        return self.before + time.monotonic() - self.began

    @property
    def spent(self) -> Spend:
        return self.ledger.spent.model_copy(update={"seconds": self.seconds})

    @property
    def llm_budget_spent(self) -> str:
        """Which cap on the LLM is reached, in words; "": none."""
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
        """Say it once a run."""
        if message not in self.ledger.warnings:
            self.ledger.write([WarningLine(at=self.seconds, message=message)])
            self.emit(Warned, message=message)

    async def recall(self, question: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to a question: from the ledger, or asked now and written down before use.

        A failure is written down too, and asked again when the question comes back. Where the
        budget has no call left, nothing is asked and nothing written down.
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
                self.warn("the LLM's endpoint counts no tokens, so their cap cannot hold")
        if line.text is not None and line.problem:
            self.warn(f"the LLM answered, but {line.problem}")
        return Reply(line.text, line.problem, line.calls, line.tokens, line.usd)

    def candidates(self, prompts: Sequence[str], round: int) -> list[Candidate]:
        """A round's, prompt by prompt."""
        seeds = seeds_of(self.settings.seed, round, self.settings.budget.seeds)
        return [Candidate(prompt=prompt, seed=seed) for prompt in prompts for seed in seeds]

    def trials(self, candidates: Sequence[Candidate]) -> tuple[Trial, ...]:
        return tuple(map(self.ledger.trial, candidates))
