"""What a person sees before a rung drops anybody, and who goes on by their word.

The person's word is final, within the budget: of those that they let go on, no more than it can
finish.
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
    steps: int = Field(description="of a full render")
    trials: tuple[Trial, ...] = Field(
        description="those that go on as planned, then the others by prediction, with previews"
    )
    planned: tuple[Candidate, ...] = Field(description="those that go on if nobody chooses")
    most: int = Field(description="how many may go on: what is left of the budget pays for no more")


Picked = Sequence[Candidate] | None
"""Who goes on, in the order in which they are to be rendered; None: as planned."""
Choose = Callable[[Choice], Awaitable[Picked] | Picked]
"""Answers a choice, at once or awaited."""


def planned_first(seen: Sequence[Trial], planned: Sequence[Candidate]) -> tuple[Trial, ...]:
    """Those that go on as planned, in their order; then the best predicted."""

    def place(trial: Trial) -> tuple[int, float]:
        known = trial.candidate in planned
        return planned.index(trial.candidate) if known else len(planned), -policy.predicted(trial)

    return tuple(sorted(seen, key=place))


def picked(choice: Choice, answer: object) -> tuple[Candidate, ...] | None:
    """Who goes on by an answer; None: as planned.

    Raises:
        ValueError: the answer is no list of the candidates that were shown, or too long.
    """
    if answer is None:
        return None
    shown = [trial.candidate for trial in choice.trials]
    if not isinstance(answer, list | tuple) or any(one not in shown for one in answer):
        raise ValueError(
            f"choose must give a list of candidates of choice.trials, or None to go on as planned, "
            f"got {answer!r:.200}"
        )
    if len(found := tuple(dict.fromkeys(answer))) > choice.most:
        raise ValueError(
            f"choose gave {len(found)} candidates, and what is left of the budget pays for "
            f"{choice.most}: give fewer, or start the run with a larger budget"
        )
    return found
