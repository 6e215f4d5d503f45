"""Suggests the nearest valid name for a misspelled one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

ALIKE = 0.6
"""Minimum similarity of two names, as difflib measures it from 0 to 1."""
MOST_FOLDERS = 200
"""Maximum number of folders examined next to a path that does not exist."""


def nearest(given: object, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """The known name most similar to the given one; None if none is similar enough."""
    names = {name.lower(): name for name in known}
    found = get_close_matches(str(given)[:100].lower(), names, n=1, cutoff=alike)
    return names[found[0]] if found else None


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """The suffix " (did you mean ...?)" for an error message; empty if no name is similar."""
    found = nearest(given, known)
    return f" (did you mean {found!r}?)" if found else ""


def folders_beside(path: str) -> list[str]:
    """The folders next to a path that does not exist, spelled as the path is."""
    parent = Path(path).parent
    try:
        found = islice(parent.iterdir(), MOST_FOLDERS)
        return [str(parent / one.name) for one in found if one.is_dir()]
    except (OSError, ValueError):
        return []
