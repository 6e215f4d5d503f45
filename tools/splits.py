"""Splits and seeds from a hash of the content: the same on every machine and in any order."""

from __future__ import annotations

import hashlib


def fraction(*words: str) -> float:
    """A number in [0, 1) that depends only on the words."""
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:7]) / 2**56


def seed_of(split: str, content: str, index: int) -> int:
    """The index-th seed of some content; seeds do not repeat across splits or contents."""
    return int(fraction("seed", split, content, str(index)) * 2**52)
