"""Where each word looked: a candidate's preview, followed by the attention paid to every word.

A word's colours run from no attention to its own peak, so that weak words are visible too; its
share of attention at the peak is given below, and can be compared between words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from promptprobe.tools.pictures.fonts import readable
from promptprobe.tools.pictures.text import GREY, INK, LINE, PAPER, Box, prediction_text, write
from promptprobe.tools.records import Candidate, Word

if TYPE_CHECKING:
    from promptprobe.probe.trace import Trace
    from promptprobe.tools.predictions import Preview

Maps = Float[np.ndarray, "word row col"]

SHORT, LONG = 256, 512
"""Length of a tile's shorter side in pixels, unless its longer side would exceed LONG."""
NARROWEST = 190
"""Minimum width of a caption in pixels, however narrow the image."""
CAPTION = 84
"""Pixels below a tile, for its caption and the gap before the next row."""
GAP, MARGIN = 20, 28
WIDEST = 6 * (SHORT + GAP)
"""Maximum width of a row of tiles in pixels."""
MAX_ROWS = 32
"""Maximum number of candidates on the index."""

LEGEND = "words"
"""The PNG's text chunk that lists the words, as JSON."""

INFERNO = "000004 170b3b 420a68 6b176e 932667 bb3755 dd513a f3771a fca50a f6d644 fcffa4"
"""Matplotlib's perceptually uniform colour map of that name in steps of a tenth, by Nathaniel J.
Smith and Stéfan van der Walt (CC0)."""
COLOURS: UInt8[np.ndarray, "level=256 3"] = np.stack(
    [
        np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, 11), channel)
        for channel in zip(*map(bytes.fromhex, INFERNO.split()), strict=True)
    ],
    axis=1,
).astype(np.uint8)


def save_heatmaps(
    folder: Path,
    candidates: Sequence[Candidate],
    trace: Trace,
    views: Sequence[Preview],
    words: Sequence[Sequence[Word]],
    after: str,
) -> list[Path]:
    """Save a picture for each candidate of the trace; `after` is the caption of the preview."""
    maps = np.nan_to_num(trace.maps.mean(2).cpu().numpy())
    paths = [folder / f"{candidate.key}.png" for candidate in candidates]
    for path, candidate, view, its_words, its_maps in zip(
        paths, candidates, views, words, maps, strict=True
    ):
        sheet = draw(candidate, view, its_words, its_maps[: len(its_words)], after)
        info = PngInfo()
        info.add_itxt(LEGEND, json.dumps([word.word for word in its_words]))
        sheet.save(path, pnginfo=info)
    return paths


def draw(
    candidate: Candidate, view: Preview, words: Sequence[Word], maps: Maps, after: str
) -> Image.Image:
    """The preview and a tile for each word, wrapped into rows of about equal length."""
    size = _tile_size(view.preview.size)
    preview = view.preview.resize(size, Image.Resampling.BICUBIC)
    tiles = [preview, *(overlay(preview, one) for one in maps)]
    pitch = max(size[0], NARROWEST) + GAP
    rows = math.ceil(len(tiles) / max(2, WIDEST // pitch))
    columns = max(2, math.ceil(len(tiles) / rows))
    width = 2 * MARGIN - GAP + columns * pitch
    row_height = size[1] + CAPTION
    sheet = Image.new("RGB", (width, 320 + rows * row_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = _header(pen, candidate, view, width - 2 * MARGIN)
    for number, tile in enumerate(tiles):
        x = MARGIN + number % columns * pitch
        y = top + number // columns * row_height
        sheet.paste(tile, (x, y))
        pen.rectangle([x, y, x + size[0] - 1, y + size[1] - 1], outline=LINE)
        name = named(words, number) if number else after
        below = write(pen, (x, y + size[1] + 8), name, 20, INK, pitch - GAP)
        if number == 0:
            _key(sheet, pen, (x, below))
            continue
        caption = f"focus {words[number - 1].focus:.2f}, peak {maps[number - 1].max():.0%}"
        write(pen, (x, below), caption, 17, GREY, pitch - GAP)
    return sheet.crop((0, 0, width, top + rows * row_height))


def named(words: Sequence[Word], number: int) -> str:
    """The n-th word as written in a picture: its number, if no font here has all its letters.

    Replies and the picture's text chunk LEGEND list the words in the same order.
    """
    word = words[number - 1].word
    return word if readable(word) else f"word {number}"


def overlay(
    preview: Image.Image, attention: Float[np.ndarray, "row col"], peak: float | None = None
) -> Image.Image:
    """A word's attention in colours, shaded by the preview.

    Shading is weakest where attention is strongest, so that a peak is bright even on dark ground.
    Colours run from 0 to `peak`, by default the word's own.
    """
    peak = peak or float(attention.max()) or 1.0
    small = Image.fromarray((attention / peak).astype(np.float32))
    share = np.asarray(small.resize(preview.size, Image.Resampling.BICUBIC)).clip(0, 1)
    light = np.asarray(ImageOps.autocontrast(preview.convert("L"))) / 255
    shade = 1 - (0.55 - 0.4 * share) * (1 - light)
    glow = 48 * light  # keeps the preview visible where no attention makes the colour near black
    colour = COLOURS[(share * 255).round().astype(int)]
    mixed = colour * shade[..., None] + (glow * (1 - share))[..., None]
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def save_index(path: Path, brief: str, note: str, pictures: Sequence[Path]) -> Path:
    """All pictures at a smaller size, below each other, each with its rank."""
    shown = []
    for picture in pictures[:MAX_ROWS]:
        with Image.open(picture) as opened:
            small = (opened.width * 5 // 8, opened.height * 5 // 8)
            shown.append(opened.convert("RGB").resize(small, Image.Resampling.LANCZOS))
    if len(pictures) > len(shown):
        note += f"; the first {len(shown)} are shown"
    width = max(image.width for image in shown) + 2 * MARGIN
    sheet = Image.new("RGB", (width, 240 + sum(image.height for image in shown)), PAPER)
    pen = ImageDraw.Draw(sheet)
    y = write(pen, (MARGIN, MARGIN), brief, 25, INK, width - 2 * MARGIN, lines=3) + 4
    y = write(pen, (MARGIN, y), note, 15, GREY, width - 2 * MARGIN, lines=3) + GAP
    for place, image in enumerate(shown, 1):
        pen.line([(MARGIN, y), (width - MARGIN, y)], fill=LINE)
        sheet.paste(image, (2 * MARGIN - 18, y + 1))
        write(pen, (MARGIN, y + 16), str(place), 16, GREY, MARGIN)
        y += image.height
    sheet.crop((0, 0, width, y + 1)).save(path)
    return path


def _tile_size(size: Box) -> Box:
    scale = min(SHORT / min(size), LONG / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _header(pen: ImageDraw.ImageDraw, candidate: Candidate, view: Preview, width: int) -> int:
    """The prediction, its prompt and its explanation; returns the y below them."""
    prediction = view.prediction
    title = (
        f"{prediction_text(prediction) if prediction else 'no prediction'}, seed {candidate.seed}"
    )
    explanation = prediction.explanation if prediction else ""
    details = f"preview: {explanation}" if explanation else view.reason
    y = write(pen, (MARGIN, MARGIN), title, 25, INK, width, lines=2) + 2
    y = write(pen, (MARGIN, y), candidate.prompt, 19, INK, width, lines=3)
    return write(pen, (MARGIN, y), details, 19, GREY, width, lines=3) + 14


def _key(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: Box) -> None:
    """The colour key, from left to right."""
    x, y = at
    write(pen, at, "none", 17, GREY, 45)
    sheet.paste(Image.fromarray(COLOURS[None]).resize((60, 12)), (x + 50, y + 6))
    write(pen, (x + 118, y), "peak", 17, GREY, NARROWEST - 118)
