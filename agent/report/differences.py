"""Word-by-word differences between two texts, as runs of words that stayed, went or came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

PIECES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s+|[^\w\s]")
"""Words, white space and punctuation. Scripts without spaces are compared by character."""


@dataclass(frozen=True)
class Change:
    """A run of text, and what became of it."""

    kind: Literal["same", "removed", "added"]
    text: str


def changes(before: str, after: str) -> tuple[Change, ...]:
    """The differences from `before` to `after`, in reading order, ignoring case."""
    old, new = PIECES.findall(before), PIECES.findall(after)
    matcher = SequenceMatcher(
        None, [piece.lower() for piece in old], [piece.lower() for piece in new], autojunk=False
    )
    return tuple(_merged(matcher, old, new))


def _merged(matcher: SequenceMatcher[str], old: list[str], new: list[str]) -> Iterator[Change]:
    """Merge changes that are separated only by white space."""
    removed = added = ""
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        same = "".join(new[j1:j2])
        if kind == "equal" and not (same.isspace() and (removed or added) and j2 < len(new)):
            yield from _changed(removed, added)
            removed = added = ""
            yield Change("same", same)
        else:
            removed += "".join(old[i1:i2])
            added += same
    yield from _changed(removed, added)


def _changed(removed: str, added: str) -> Iterator[Change]:
    if removed:
        yield Change("removed", removed)
    if added:
        yield Change("added", added)
