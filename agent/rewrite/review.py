"""The review that a person sees before a round spends anything, and the handling of the answers.

Each new prompt is compared with the brief word by word. The person's answer is final: an edited
prompt counts as the caller's own and is not refused for its meaning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from promptprobe.agent.events import Refusal
from promptprobe.agent.rewrite.differences import Change, changes
from promptprobe.agent.rewrite.guard import check_text
from promptprobe.tools.records import Record

VETOED = "a person vetoed it"


class NewPrompt(Record):
    """A prompt that has not been tried, and how it differs from the brief."""

    prompt: str
    changes: tuple[Change, ...]


class Review(Record):
    """The new prompts of a round."""

    round: int
    brief: str
    prompts: tuple[NewPrompt, ...]


Approve = Callable[[Review], Awaitable[Sequence[str | None]]]
"""Returns one answer per prompt of a review, in order: its text to approve it, another text to
replace it, or None to veto it."""


def review(round: int, brief: str, prompts: Sequence[str]) -> Review:
    """The new prompts of a round compared with the brief."""
    shown = (NewPrompt(prompt=prompt, changes=changes(brief, prompt)) for prompt in prompts)
    return Review(round=round, brief=brief, prompts=tuple(shown))


def answered(
    prompts: Sequence[str], answers: Sequence[object]
) -> tuple[dict[str, str], tuple[Refusal, ...]]:
    """The final text of each prompt that stays, and refusals of those vetoed or replaced.

    Raises:
        ValueError: there is not one answer per prompt, or an answer is not a valid prompt.
    """
    if isinstance(answers, str) or len(answers) != len(prompts):
        raise ValueError(
            f"approve must return one answer for each of {len(prompts)} prompts (its text, another "
            f"text, or None to veto it), got {answers!r:.200}"
        )
    kept = {
        prompt: check_text(answer, "an approved prompt")
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer is not None
    }
    reasons = {
        prompt: f"a person wrote {kept[prompt][:400]!r} instead" if prompt in kept else VETOED
        for prompt in prompts
        if kept.get(prompt) != prompt
    }
    return kept, tuple(Refusal(prompt=p[:400], reason=reason) for p, reason in reasons.items())
