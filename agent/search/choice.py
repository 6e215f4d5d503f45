"""The choice that a person makes before a rung drops candidates.

The person's choice is final, as long as the budget can finish what they keep.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pydantic import Field

from promptprobe.agent.search import policy
from promptprobe.tools.records import Candidate, Record, Trial


class Choice(Record):
    """A rung's candidates, each with its looks so far."""

    brief: str
    round: int
    step: int = Field(description="denoising steps made so far")
    steps: int = Field(description="denoising steps of a full render")
    trials: tuple[Trial, ...] = Field(
        description="the planned survivors, then the others by prediction, with previews"
    )
    planned: tuple[Candidate, ...] = Field(description="candidates that go on if nobody chooses")
    most: int = Field(description="how many may go on: the rest of the budget pays for no more")


Picked = Sequence[Candidate] | None
"""Candidates that go on, in the order to render them; None: follow the plan."""
Choose = Callable[[Choice], Awaitable[Picked] | Picked]
"""Answers a choice; may be async."""


def planned_first(seen: Sequence[Trial], planned: Sequence[Candidate]) -> tuple[Trial, ...]:
    """Trials that go on as planned, in that order, then the others, best predicted first."""

    def place(trial: Trial) -> tuple[int, float]:
        known = trial.candidate in planned
        return planned.index(trial.candidate) if known else len(planned), -policy.predicted(trial)

    return tuple(sorted(seen, key=place))


def picked(choice: Choice, answer: object) -> tuple[Candidate, ...] | None:
    """The candidates chosen by an answer; None: follow the plan.

    Raises:
        ValueError: the answer is not a list of candidates that were shown, or is too long.
    """
    if answer is None:
        return None
    shown = [trial.candidate for trial in choice.trials]
    if not isinstance(answer, list | tuple) or any(one not in shown for one in answer):
        raise ValueError(
            f"choose must return a list of candidates from choice.trials, or None to follow the "
            f"plan, got {answer!r:.200}"
        )
    if len(found := tuple(dict.fromkeys(answer))) > choice.most:
        raise ValueError(
            f"choose returned {len(found)} candidates, but the rest of the budget pays for "
            f"{choice.most}: return fewer, or start the run with a larger budget"
        )
    return found
