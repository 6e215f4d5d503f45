"""Fonts for any script: Pillow's own if it has the letters, otherwise one installed on the machine.

No letter is drawn as a box: a letter that no font has becomes a question mark, and callers can
check beforehand (`readable`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MISSING = "?"
NOWHERE = "\U0010ffff"
"""A character that no font has, so it is drawn as the font's box."""
PROBED_SIZE = 16
KINDS = (".ttf", ".otf", ".ttc")
MOST_FILES = 1000
SPECIAL = "bold italic oblique condensed mono light thin black serif math".split()
"""Words in the names of faces that are tried last."""


def lettering(text: str, size: int) -> tuple[Font, str]:
    """The first font with all letters of a text, or the one with the most, and the text with a
    question mark for each letter that the font lacks."""
    letters = _letters(text)
    face = _face(letters)
    lost = {letter for letter in letters if not _has(face, letter)}
    shown = "".join(MISSING if letter in lost else letter for letter in text)
    return _font(face, size), shown


def readable(text: str) -> bool:
    """Whether a font on this machine has all letters of a text."""
    letters = _letters(text)
    face = _face(letters)
    return all(_has(face, letter) for letter in letters)


def _letters(text: str) -> frozenset[str]:
    return frozenset(letter for letter in text if not letter.isspace())


@lru_cache(maxsize=1024)
def _face(letters: frozenset[str]) -> Path | None:
    """The file of the font to use, or None for Pillow's own."""
    best, fewest = None, len(letters) + 1
    for face in _faces():
        lost = sum(not _has(face, letter) for letter in letters)
        if lost < fewest:
            best, fewest = face, lost
        if not lost:
            break
    return best


def _faces() -> Iterator[Path | None]:
    yield None
    yield from _files()


@cache
def _files() -> tuple[Path, ...]:
    """Fonts installed on this machine, plain ones first."""
    found = [
        path
        for folder in _folders()
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in KINDS
    ]
    return tuple(sorted(found, key=_rank)[:MOST_FILES])


def _rank(path: Path) -> int:
    name = path.stem.lower()
    return sum(word in name for word in SPECIAL)


def _folders() -> list[Path]:
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts")]
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - does not raise if there is no home
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    own = Path(os.environ.get("XDG_DATA_HOME", home / ".local/share"))
    return [own / "fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


@cache
def _has(face: Path | None, letter: str) -> bool:
    """Whether the font draws this letter differently from a character that it cannot have."""
    try:
        font = _font(face, PROBED_SIZE)
        return _drawn(font, letter) != _drawn(font, NOWHERE)
    except OSError:  # bitmaps of other sizes only, or not a font
        return False


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@cache
def _font(face: Path | None, size: int) -> Font:
    return ImageFont.load_default(size) if face is None else ImageFont.truetype(face, size)
