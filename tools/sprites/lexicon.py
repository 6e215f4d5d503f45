"""Other wordings of a Sprites brief, from rules and word lists: a rewriter that needs no LLM.

The plain common wording comes first, then other plain frames, then casual and ornate ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np

from promptprobe.tools.sprites import language


def wordings(brief: str, seed: int) -> Iterator[str]:
    """Finitely many wordings of a brief, with repetitions; deterministic in the arguments."""
    reading = language.read(brief)
    yield in_common_words(brief)
    if reading.scene is None or reading.unknown:
        return  # a brief that cannot be read cannot be rephrased
    digest = hashlib.sha256(f"wordings|{seed}|{brief}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:7]))
    plain = [language.word(reading.scene, rng, "plain") for _ in range(64)]
    yield from sorted(plain, key=lambda text: (in_common_words(text) != text, len(text)))
    for _ in range(32):
        yield language.word(reading.scene, rng, "casual")
        yield language.word(reading.scene, rng, "ornate")


def in_common_words(text: str) -> str:
    """The same text with each rare noun or colour replaced by its common word."""
    for names in (*language.NOUN_WORDS.values(), *language.COLOUR_WORDS.values()):
        for name in names[1:]:
            text = re.sub(rf"\b(an? )?{name}\b", rf"\1{names[0]}", text, flags=re.IGNORECASE)
            plural = language.plural(name)
            text = re.sub(rf"\b{plural}\b", language.plural(names[0]), text, flags=re.IGNORECASE)
    return re.sub(r"\b([Aa])n?(?= ([^\W\d_])\w*)", _article, text)


def _article(found: re.Match[str]) -> str:
    return found[1] + ("n" if found[2].lower() in "aeiou" else "")
