"""Whether a built-in model can draw a brief, known before the model is opened.

Imports no tensor library, so that a brief that cannot be drawn is refused in under a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from promptprobe.tools.sprites import MODELS

SHOWN_WORDS = 12


def check_brief(model: str, brief: str) -> list[str]:
    """Warnings: words that a built-in model was never taught; none for another model.

    Raises:
        ValueError: the model can draw nothing of the brief; the message says what it knows.
    """
    if model not in MODELS:
        return []
    from promptprobe.tools.sprites.language import read
    from promptprobe.tools.sprites.world import COLOURS, NOUNS

    known = f"Sprites knows the nouns {', '.join(NOUNS)} and the colours {', '.join(COLOURS)}"
    reading = read(brief)
    if reading.scene is None:
        raise ValueError(
            f"Sprites, the built-in miniature model, cannot draw {brief[:200]!r}: "
            f"{reading.problem}. {known} (and synonyms such as kitty or scarlet), one or two "
            "things, counts up to four, left of, right of, above and below. For anything else, "
            "pass another model"
        )
    if not reading.unknown:
        return []
    unknown = listed(reading.unknown)
    return [f"Sprites, the built-in miniature model, does not know {unknown}; {known}"]


def listed(words: Sequence[str]) -> str:
    """The first of some words, and how many more there are."""
    shown = ", ".join(word[:40] for word in words[:SHOWN_WORDS])
    more = len(words) - SHOWN_WORDS
    return f"{shown} and {more} more" if more > 0 else shown
