"""A judge of text in images: compares text that the brief has in quotes with text read by OCR.

It uses RapidOCR, whose weights come with its wheel: nothing is downloaded. Needs the extra `ocr`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.scorers.table import Opened

if TYPE_CHECKING:
    from promptprobe.tools.scorers.table import Pictures

QUOTED = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」|(?<!\w)'([^']+)'(?!\w)"
)
NO_TEXT = (
    'the brief asks for no text: put text to be drawn in quotes, as in a sign that says "OPEN"'
)
MARGIN = 16
"""Pixels of white around an image, so that text at its edge is found too."""


def open_ocr(_argument: str, _device: str) -> Opened:
    """The OCR judge.

    Raises:
        ValueError: the extra is not installed.
    """
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise ValueError(
            f"the judge ocr needs {error.name}, not installed: pip install 'promptprobe[ocr]'"
        ) from error
    reader = RapidOCR(params={"Global.log_level": "critical"})

    def score(brief: str, images: Pictures) -> list[Score]:
        wanted = quoted(brief)
        if not wanted:
            raise ValueError(NO_TEXT)
        return [compared(wanted, _read(reader, image)) for image in images]

    return Opened(score)


def quoted(brief: str) -> list[str]:
    """The texts in any of the usual quotation marks, in the brief's order."""
    found = [next(filter(None, match.groups())) for match in QUOTED.finditer(brief)]
    return [text.strip() for text in found if _plain(text)]


def compared(asked: Sequence[str], found: Sequence[str]) -> Score:
    """Compare the found lines with each text asked for; the value is the mean similarity.

    A similarity of 1 means equal, ignoring case and white space.
    """
    nearness = [_best(_plain(text), [_plain(line) for line in found]) for text in asked]
    verdicts = tuple(
        Verdict(word=text, ok=near == 1, chance=near)
        for text, near in zip(asked, nearness, strict=True)
    )
    read = ", ".join(map(repr, found))[:200] or "no text"
    return Score(
        value=sum(nearness) / len(nearness),
        correct=all(near == 1 for near in nearness),
        explanation=f"asked for {', '.join(map(repr, asked))[:200]}; read {read}",
        words=verdicts,
    )


def _best(asked: str, lines: Sequence[str]) -> float:
    """1 minus the normalized edit distance to the nearest run of consecutive lines."""
    runs = {
        "".join(lines[first:last])
        for first in range(len(lines))
        for last in range(first + 1, min(len(lines), first + 8) + 1)
    }
    return max((1 - _distance(asked, run) / max(len(asked), len(run)) for run in runs), default=0.0)


def _distance(first: str, second: str) -> int:
    """Levenshtein distance of strings, cut at 500 characters."""
    first, second = first[:500], second[:500]
    if SequenceMatcher(None, first, second).quick_ratio() == 0:
        return max(len(first), len(second))
    row = list(range(len(second) + 1))
    for at, letter in enumerate(first, 1):
        before, row[0] = row[0], at
        for other, wanted in enumerate(second, 1):
            step = before + (letter != wanted)
            before, row[other] = row[other], min(step, row[other] + 1, row[other - 1] + 1)
    return row[-1]


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if not letter.isspace())


def _read(reader: Any, image: Any) -> list[str]:
    """The lines of text in an image, from top to bottom."""
    import numpy as np
    from PIL import ImageOps

    framed = ImageOps.expand(image.convert("RGB"), MARGIN, "white")
    found = reader(np.asarray(framed)[:, :, ::-1])
    if found.txts is None:
        return []
    return [str(text) for text in found.txts]
