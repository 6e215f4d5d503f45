"""Word-by-word differences between two texts, as runs of words that stayed, went or came."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal

from promptprobe.tools.records import Record

PIECES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s+|[^\w\s]")
"""Words, white space and punctuation. Scripts without spaces are compared by character."""


class Change(Record):
    """A run of text that two texts share, or that only one of them has."""

    kind: Literal["same", "added", "dropped"]
    text: str


def changes(before: str, after: str) -> tuple[Change, ...]:
    """The differences from `before` to `after`, in reading order, ignoring case and the width of
    white space. All but the dropped runs, joined, are `after`."""
    old, new = PIECES.findall(before), PIECES.findall(after)
    matcher = SequenceMatcher(None, _compared(old), _compared(new), autojunk=False)
    return tuple(_merged(matcher, old, new))


def _compared(pieces: list[str]) -> list[str]:
    return [" " if piece.isspace() else piece.casefold() for piece in pieces]


def _merged(matcher: SequenceMatcher[str], old: list[str], new: list[str]) -> Iterator[Change]:
    """Merge changes that are separated only by white space."""
    dropped = added = ""
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        same = "".join(new[j1:j2])
        if kind == "equal" and not (same.isspace() and (dropped or added) and j2 < len(new)):
            yield from _changed(dropped, added)
            dropped = added = ""
            yield Change(kind="same", text=same)
        else:
            dropped += "".join(old[i1:i2])
            added += same
    yield from _changed(dropped, added)


def _changed(dropped: str, added: str) -> Iterator[Change]:
    if dropped:
        yield Change(kind="dropped", text=dropped)
    if added:
        yield Change(kind="added", text=added)
