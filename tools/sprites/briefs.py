"""What a brief asks for that Sprites cannot draw, named by its word before a model is opened."""

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
"""How alike a word and a known one are at least before a slip of the finger is guessed."""
ARTICLES = ("a", "an")
UNLIKE = (
    "a scene of this form was never in the training of Sprites or of its probe, as two things with "
    "a count or of one colour were not: pictures may fail, and predictions tell less"
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
    """What of a brief the model was never taught, and will not keep it from drawing.

    Raises:
        ValueError: a thing or a number that the brief asks for is none of this world, or it asks
            for nothing that can be drawn; names the words.
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
            "Sprites, the built-in miniature model, reads over what it does not know: "
            f"{_listed(reading.unknown)}. {KNOWN}"
        )
    return warnings


def _beyond(found: Sequence[tuple[str, Says]]) -> str:
    """Why a brief asks for what is none of this world; "" where it does not.

    Unknown words after an article, a count or a colour are a thing unless a known noun or colour
    follows: a bicycle, but neither a fluffy cat nor a cat in the rain.
    """
    for before, words, after in _unknown(found):
        if number := next(filter(NUMBERS.fullmatch, words), None):
            if number != "1":
                return f"{number} is no number that it counts to"
        elif before and not after:
            return _strangers(words)
    return ""


def _unknown(found: Sequence[tuple[str, Says]]) -> Iterator[tuple[bool, list[str], bool]]:
    """Each run of unknown words: does a thing's name begin before it, and does it end after it?"""
    runs = [
        (role, [phrase for phrase, _ in run])
        for role, run in groupby(found, key=lambda said: said[1][0])
    ]
    for at, (role, words) in enumerate(runs):
        if role == "unknown":
            before, said = runs[at - 1] if at else ("", [""])
            after = runs[at + 1][0] if at + 1 < len(runs) else ""
            begins = before in ("count", "colour") or said[-1] in ARTICLES
            yield begins, words, after in ("noun", "colour")


def _strangers(words: Sequence[str]) -> str:
    """That these are no things of this world; "" where there are none."""
    if not words:
        return ""
    none = "is not one" if len(words) == 1 else "are none"
    known = [name for names in (*NOUN_WORDS.values(), *COLOUR_WORDS.values()) for name in names]
    meant = next(filter(None, (nearest(word, known, NEAR) for word in words)), None)
    asked = f" (did you mean {meant}?)" if meant else ""
    return f"{_listed(words)} {none} of its twelve things{asked}"


def _listed(words: Sequence[str]) -> str:
    """Such as "hat", "a and b", or the first twelve and how many more."""
    shown = [word[:LONGEST] for word in words[:SHOWN_WORDS]]
    if len(words) > SHOWN_WORDS:
        return f"{', '.join(shown)} and {len(words) - SHOWN_WORDS} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
