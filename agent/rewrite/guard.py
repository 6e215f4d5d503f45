"""Validates texts that enter a run, and a rewrite's claims of where it meets each requirement."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from promptprobe.tools.collect.prompts import content_of
from promptprobe.tools.records import MAX_TEXT, Record

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A word; in Chinese and Japanese, which have no spaces, a single character."""


class Requirement(Record):
    """Something the brief asks for, in the brief's own words."""

    kind: str = Field(max_length=40)
    text: str = Field(max_length=400, description="a phrase of the brief")


class Claim(Record):
    """An LLM's claim of where a rewrite meets a requirement."""

    requirement: str = Field(max_length=400)
    phrase: str = Field(max_length=400, description="a phrase of the rewrite")


def check_text(text: object, what: str) -> str:
    """Validate a prompt or brief, and return it stripped.

    Raises:
        ValueError: it is not text, is empty or too long, or has control characters.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} must be text, got {type(text).__name__}: {text!r:.60}")
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"{what} is empty: say in a few words what the picture should show")
    if len(stripped) > MAX_TEXT:
        raise ValueError(
            f"{what} must have at most {MAX_TEXT} characters, got {len(stripped)}: shorten it "
            "(image models read less than a hundred words)"
        )
    bad = next(
        (c for c in stripped if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"), None
    )
    if bad is not None:
        raise ValueError(
            f"{what} must be text, got the control character U+{ord(bad):04X} in it: "
            "is this a binary file? Give plain text (UTF-8)"
        )
    return stripped


def no_reading(_brief: str, _rewrite: str) -> None:
    """For models without their own reading of briefs, which is most."""


def shows_nothing(
    requirements: Sequence[Requirement], rewrite: str, claims: Sequence[Claim]
) -> bool:
    """Whether a rewrite's claims hold for no requirement at all, so it is about something else."""
    return all(check_claims([one], rewrite, claims) for one in requirements)


def check_claims(requirements: Sequence[Requirement], rewrite: str, claims: Sequence[Claim]) -> str:
    """Why a rewrite's claims do not show that it meets each requirement; empty if they do."""
    quoted = {content_of(c.requirement): content_of(c.phrase) for c in claims}
    for requirement in requirements:
        phrase = quoted.get(content_of(requirement.text))
        if not phrase:
            return f"it does not say where it meets {requirement.text!r}"
        if phrase not in content_of(rewrite):
            return f"it quotes {phrase!r} for {requirement.text!r}, which it does not hold"
    return ""


def check_read(phrases: Sequence[str], rewrite: str, unread: Sequence[str]) -> str:
    """Why an image model would not read what the brief asks for; empty if it would.

    Args:
        phrases: phrases of the rewrite that meet the brief's requirements.
        unread: words of the rewrite beyond the text encoder's token limit.
    """
    beyond = Counter(_words(" ".join(unread)))
    read = Counter(_words(rewrite)) - beyond
    needed = dict.fromkeys(word for phrase in phrases for word in _words(phrase))
    lost = [word for word in needed if word in beyond and not read[word]]
    return f"the encoder never reads: {', '.join(lost[:12])}" if lost else ""


def _words(text: str) -> list[str]:
    return [match.group().casefold() for match in WORD.finditer(text)]
