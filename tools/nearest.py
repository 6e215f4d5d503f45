"""The nearest valid name to one that is none: what most errors of spelling want to be told."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

ALIKE = 0.6
"""How alike two names are at least, as difflib measures it from 0 to 1."""
MOST_FOLDERS = 200
"""Looked at beside a path that leads nowhere."""


def nearest(given: object, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """Which of the known names is most like the one that was given; None: none is."""
    names = {name.lower(): name for name in known}
    found = get_close_matches(str(given)[:100].lower(), names, n=1, cutoff=alike)
    return names[found[0]] if found else None


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """The question, to be put after the name that was given; "" where no name is near."""
    found = nearest(given, known)
    return f" (did you mean {found!r}?)" if found else ""


def folders_beside(path: str) -> list[str]:
    """The folders where a path that leads nowhere would lie, spelled as the path is."""
    parent = Path(path).parent
    try:
        found = islice(parent.iterdir(), MOST_FOLDERS)
        return [str(parent / one.name) for one in found if one.is_dir()]
    except (OSError, ValueError):
        return []
