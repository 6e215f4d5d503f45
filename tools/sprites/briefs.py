"""Names the words of a brief that Sprites cannot draw, before a model is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from promptprobe.tools.nearest import nearest
from promptprobe.tools.sprites.language import COLOUR_WORDS, NOUN_WORDS, Says, read, tokens
from promptprobe.tools.sprites.world import COLOURS, COUNTS, NOUNS, is_of_this_world

SHOWN_WORDS = 12
LONGEST = 40
NEAR = 0.8
"""Minimum similarity of a word and a known one to suggest a typo."""
ARTICLES = ("a", "an")
UNLIKE = (
    "Sprites and its probe were never trained on scenes of this form (such as two things with a "
    "count, or of the same colour): pictures may fail, and predictions are less reliable"
)
NUMBERS = re.compile(
    r"\d+|many|several|lots|dozens?|(hundred|thousand|million)s?|five|six|seven|eight|nine|ten"
    r"|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen"
    r"|(twen|thir|for|fif|six|seven|eigh|nine)ty"
)
KNOWN = (
    f"It draws {', '.join(NOUNS)} (and synonyms such as kitty), in {', '.join(COLOURS)}: one or "
    f"two of these things, up to {max(COUNTS)} of one, left of, right of, above or below each other"
)


def check_brief(brief: str) -> list[str]:
    """Warnings about parts of a brief that the model was never trained on but can still draw.

    Raises:
        ValueError: the brief asks for a thing or a number outside this world, or for nothing that
            can be drawn; the message names the words.
    """
    reading = read(brief)
    problem = _beyond(tokens(brief)) or _strangers(reading.unknown if not reading.scene else ())
    if problem or reading.scene is None:
        raise ValueError(
            f"Sprites, the built-in miniature model, cannot draw {brief[:200]!r}: "
            f"{problem or reading.problem}. {KNOWN}. For anything else, name another model"
        )
    warnings = [] if is_of_this_world(reading.scene) else [UNLIKE]
    if reading.unknown:
        warnings.append(
            "Sprites, the built-in miniature model, ignores words that it does not know: "
            f"{_listed(reading.unknown)}. {KNOWN}"
        )
    return warnings


def _beyond(found: Sequence[tuple[str, Says]]) -> str:
    """Why a brief asks for something outside this world; empty if it does not.

    Unknown words after an article, a count or a colour are a thing unless a known noun or colour
    follows: a bicycle, but neither a fluffy cat nor a cat in the rain.
    """
    for before, words, after in _unknown(found):
        if number := next(filter(NUMBERS.fullmatch, words), None):
            if number != "1":
                return f"{number} is not a number that it can count to"
        elif before and not after:
            return _strangers(words)
    return ""


def _unknown(found: Sequence[tuple[str, Says]]) -> Iterator[tuple[bool, list[str], bool]]:
    """Each run of unknown words: does a thing's name begin before it, and does it end after it?"""
    runs = [
        (role, [phrase for phrase, _ in run])
        for role, run in groupby(found, key=lambda token: token[1][0])
    ]
    for at, (role, words) in enumerate(runs):
        if role == "unknown":
            before, phrases = runs[at - 1] if at else ("", [""])
            after = runs[at + 1][0] if at + 1 < len(runs) else ""
            begins = before in ("count", "colour") or phrases[-1] in ARTICLES
            yield begins, words, after in ("noun", "colour")


def _strangers(words: Sequence[str]) -> str:
    """A message that these are not things of this world; empty without words."""
    if not words:
        return ""
    verb = "is not one" if len(words) == 1 else "are none"
    known = [name for names in (*NOUN_WORDS.values(), *COLOUR_WORDS.values()) for name in names]
    meant = next(filter(None, (nearest(word, known, NEAR) for word in words)), None)
    hint = f" (did you mean {meant}?)" if meant else ""
    return f"{_listed(words)} {verb} of its twelve things{hint}"


def _listed(words: Sequence[str]) -> str:
    """A list such as "hat", "a and b", or the first twelve words and the number of others."""
    shown = [word[:LONGEST] for word in words[:SHOWN_WORDS]]
    if len(words) > SHOWN_WORDS:
        return f"{', '.join(shown)} and {len(words) - SHOWN_WORDS} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
