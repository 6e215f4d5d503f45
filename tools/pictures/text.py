"""Text on pictures for people: one face, few colours, wrapped to a maximum width."""

from __future__ import annotations

from PIL import ImageDraw

from promptprobe.tools.pictures.fonts import Font, lettering
from promptprobe.tools.records import Prediction

Box = tuple[int, int]

MOST = 2000
"""Maximum number of characters of a text that are drawn."""
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
PAPER, INK, GREY, LINE = "#ffffff", "#1c1c1e", "#6e6e73", "#d8d8dc"


def write(
    draw: ImageDraw.ImageDraw,
    at: Box,
    text: str,
    size: int,
    colour: str,
    width: int,
    lines: int = 1,
) -> int:
    """Draw wrapped text, cut with an ellipsis after `lines` lines; returns the y below it."""
    x, y = at
    font, shown = lettering(" ".join(text[:MOST].split()), size)
    for line in _wrap(draw, shown, font, width, lines):
        draw.text((x, y), line, font=font, fill=colour)
        y += round(size * 1.3)
    return y


def prediction_text(prediction: Prediction) -> str:
    """A prediction as a caption: its score and, if it has one, its interval."""
    interval = ""
    if prediction.low is not None and prediction.high is not None:
        interval = f" ({prediction.low:.2f} to {prediction.high:.2f})"
    word = "predicted" if prediction.basis == "probe" else "preview"
    return f"{word} {prediction.score:.2f}{interval}"


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int, lines: int) -> list[str]:
    """Break lines between words, or within a word that is longer than a line."""
    out: list[str] = []
    rest = text
    while rest and len(out) < lines:
        fits = _fitting(draw, rest, font, width)
        if fits < len(rest):
            if len(out) == lines - 1:
                fits = _fitting(draw, rest, font, width - draw.textlength(ELLIPSIS, font=font))
                return [*out, rest[:fits].rstrip() + ELLIPSIS]
            space = rest.rfind(" ", 0, fits + 1)
            fits = space if space > 0 else fits
        out.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip()
    return out


def _fitting(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> int:
    """How many leading characters are no wider than `width`, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(text[:middle], font=font) <= width:
            low = middle
        else:
            high = middle - 1
    return low
