"""Events that a run emits while it works: typed, each with the spend so far.

A door shows them and an MCP server turns them into progress; the loop knows neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from promptprobe.agent.search.schedule import Schedule
from promptprobe.agent.search.trust import Trust
from promptprobe.tools.records import Budget, Candidate, Record, Spend, Trial

StopReason = Literal[
    "target reached", "budget spent", "no improvement", "scorer failed", "cancelled"
]
Decision = Literal["rewrite", "reseed", "stop"]


class Refusal(Record):
    """A proposed prompt that never reaches the probe."""

    prompt: str
    reason: str


class RunStarted(Record):
    kind: Literal["started"] = "started"
    spent: Spend
    brief: str
    model: str
    budget: Budget
    nfe: int = Field(description="denoiser evaluations that the budget allows")
    source: str = Field(description="where rewrites come from, in plain words")
    scorer: str = Field(description="what selects")
    judges: tuple[str, ...] = Field(description="what only grades")
    run_dir: Path
    resumed: bool = False
    best: Trial | None = Field(default=None, description="the best so far, if the run is resumed")


class RoundStarted(Record):
    kind: Literal["round started"] = "round started"
    spent: Spend
    round: int = Field(description="0: the brief itself with the first seed")
    of: int = Field(description="expected number of the last round, if all are of similar size")
    schedule: Schedule = Field(description="what this round tries and when it looks")
    seconds: float | None = Field(description="expected duration; None if unknown")


class PromptsProposed(Record):
    kind: Literal["proposed"] = "proposed"
    spent: Spend
    round: int
    prompts: tuple[str, ...] = Field(description="prompts of this round, the brief first")
    accepted: tuple[str, ...] = Field(default=(), description="new rewrites among the prompts")
    refused: tuple[Refusal, ...] = ()


class CandidatesProbed(Record):
    """After each batch of looks."""

    kind: Literal["looked"] = "looked"
    spent: Spend
    round: int
    trials: tuple[Trial, ...] = Field(description="the trials of this batch")
    done: int
    of: int


class CandidatesSelected(Record):
    """After each rung."""

    kind: Literal["kept"] = "kept"
    spent: Spend
    round: int
    candidates: tuple[Candidate, ...] = Field(description="candidates that go on, best first")
    explored: tuple[Candidate, ...] = Field(
        default=(), description="candidates that go on although the looks advised against them"
    )
    by_person: bool = Field(default=False, description="whether a person chose them")


class CandidatesRendered(Record):
    """After each batch of renders."""

    kind: Literal["rendered"] = "rendered"
    spent: Spend
    round: int
    trials: tuple[Trial, ...]
    done: int
    of: int


class CandidatesScored(Record):
    kind: Literal["scored"] = "scored"
    spent: Spend
    round: int
    trials: tuple[Trial, ...]


class RoundEnded(Record):
    kind: Literal["round"] = "round"
    spent: Spend
    round: int
    best: Trial
    decision: Decision
    trust: Trust = Field(description="predictions compared with scores, over all rounds")


class Warned(Record):
    """Something does not go as requested, but the run goes on."""

    kind: Literal["warning"] = "warning"
    spent: Spend
    message: str


class Finished(Record):
    kind: Literal["finished"] = "finished"
    spent: Spend
    stop_reason: StopReason
    best: Trial | None = Field(description="None if cancelled before anything was rendered")
    initial: Trial | None
    run_dir: Path


Event = Annotated[
    RunStarted
    | RoundStarted
    | PromptsProposed
    | CandidatesProbed
    | CandidatesSelected
    | CandidatesRendered
    | CandidatesScored
    | RoundEnded
    | Warned
    | Finished,
    Field(discriminator="kind"),
]
OnEvent = Callable[[Event], object]
