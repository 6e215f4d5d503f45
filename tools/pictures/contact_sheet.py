"""One picture to judge a run by: the brief's own image beside the best, and all rendered trials.

Reads records and image files, so it serves every door. Predicted and actual scores stand together
under each image, and a trial without a score says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from promptprobe.tools.pictures.text import GREY, INK, LINE, PAPER, Box, prediction_text, write
from promptprobe.tools.records import Score, Trial

HERO = 384
TILE = 192
COLUMNS = 4
MARGIN = 40
GAP = 24
WIDTH = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP
MAX_TILES = 48

GOOD = "#1a7f4b"


def save_contact_sheet(
    path: Path, brief: str, initial: Trial, best: Trial, trials: Sequence[Trial]
) -> Path:
    """Write the sheet as a PNG and return its path.

    Args:
        path: where to write; its folder must exist.
        trials: all trials of the run; those without an image are only counted.
    """
    _drawn(brief, initial, best, trials).save(path)
    return path


def small_contact_sheet(
    brief: str, initial: Trial, best: Trial, trials: Sequence[Trial], pixels: int
) -> bytes:
    """The same as a JPEG of at most so many pixels, for a model that looks at it."""
    sheet = _drawn(brief, initial, best, trials)
    shrink = min(1.0, (pixels / (sheet.width * sheet.height)) ** 0.5)
    size = (max(1, int(sheet.width * shrink)), max(1, int(sheet.height * shrink)))
    written = BytesIO()
    sheet.resize(size, Image.Resampling.LANCZOS).save(written, "JPEG", quality=85)
    return written.getvalue()


def _drawn(brief: str, initial: Trial, best: Trial, trials: Sequence[Trial]) -> Image.Image:
    shown = [trial for trial in trials if trial.image is not None]
    left_out = max(0, len(shown) - MAX_TILES)
    if left_out:
        shown = sorted(shown, key=_value, reverse=True)[:MAX_TILES]
    sheet = Image.new("RGB", (WIDTH, 40 * TILE), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = write(draw, (MARGIN, MARGIN), brief, 26, INK, WIDTH - 2 * MARGIN, lines=3) + 6
    note = f"{len(trials)} candidates probed, {sum(t.image is not None for t in trials)} rendered"
    y = write(draw, (MARGIN, y), note, 15, GREY, WIDTH - 2 * MARGIN) + GAP
    y = _heroes(sheet, draw, y, initial, best) + GAP
    draw.line([(MARGIN, y), (WIDTH - MARGIN, y)], fill=LINE)
    y += GAP
    for start in range(0, len(shown), COLUMNS):
        row = shown[start : start + COLUMNS]
        sheet, draw = _with_room(sheet, y + 3 * TILE)
        bottoms = [
            _tile(sheet, draw, (MARGIN + column * (TILE + GAP), y), trial, trial == best)
            for column, trial in enumerate(row)
        ]
        y = max(bottoms) + GAP
    if left_out:
        y = (
            write(draw, (MARGIN, y), f"and {left_out} more, with lower scores", 15, GREY, WIDTH)
            + GAP
        )
    return sheet.crop((0, 0, WIDTH, y + MARGIN - GAP))


def _with_room(sheet: Image.Image, bottom: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    if bottom <= sheet.height:
        return sheet, ImageDraw.Draw(sheet)
    taller = Image.new("RGB", (sheet.width, bottom + 10 * TILE), PAPER)
    taller.paste(sheet)
    return taller, ImageDraw.Draw(taller)


def _heroes(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, initial: Trial, best: Trial
) -> int:
    """The initial image beside the best one; returns where the next thing may begin."""
    right = WIDTH - MARGIN - HERO
    bottoms = []
    for x, title, trial in ((MARGIN, "initial", initial), (right, "best", best)):
        colour = GOOD if title == "best" else GREY
        top = write(draw, (x, y), title, 17, colour, HERO) + 8
        _place(sheet, draw, (x, top), trial.image, HERO)
        bottom = _caption(draw, (x, top + HERO + 12), trial, HERO, size=17, lines=4)
        if trial.score is not None and trial.score.explanation:
            bottom = write(draw, (x, bottom), trial.score.explanation, 16, GREY, HERO, lines=3)
        bottoms.append(bottom)
    return max(bottoms)


def _tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: Box, trial: Trial, is_best: bool
) -> int:
    x, y = at
    _place(sheet, draw, at, trial.image, TILE)
    if is_best:
        draw.rectangle([x - 4, y - 4, x + TILE + 3, y + TILE + 3], outline=GOOD, width=3)
    return _caption(draw, (x, y + TILE + 9), trial, TILE, size=13, lines=5)


def _caption(
    draw: ImageDraw.ImageDraw, at: Box, trial: Trial, width: int, size: int, lines: int
) -> int:
    """Prompt, seed, predicted, actual and judge's score, one under the other."""
    x, y = at
    y = write(draw, (x, y), trial.candidate.prompt, size, INK, width, lines=lines) + 3
    y = write(draw, (x, y), f"seed {trial.candidate.seed}", size - 1, GREY, width, lines=2)
    if trial.prediction is not None:
        y = write(draw, (x, y), prediction_text(trial.prediction), size - 1, GREY, width, lines=2)
    y = write(draw, (x, y), _verdict("score", trial.score), size, INK, width, lines=4)
    for name, grade in trial.judged.items():
        y = write(draw, (x, y), _verdict(name, grade), size - 1, GREY, width, lines=3)
    return y


def _verdict(name: str, score: Score | None) -> str:
    if score is None:
        return f"{name}: none yet"
    if score.value is None:
        return f"{name}: none, {score.reason or 'no reason given'}"
    mark = {True: ", correct", False: ", not correct", None: ""}[score.correct]
    return f"{name} {score.value:.2f}{mark}"


def _value(trial: Trial) -> float:
    """For sorting: an unscored trial comes last."""
    value = trial.score.value if trial.score else None
    return float("-inf") if value is None else value


def _place(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: Box, image: Path | None, side: int
) -> None:
    """Fit an image into a square tile; small ones grow by whole pixels' worth, unblurred."""
    x, y = at
    if image is None:
        _placeholder(draw, at, side, "no image")
        return
    try:
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
    except OSError:  # gone, cut off or no image: the rest of the sheet is worth having
        _placeholder(draw, at, side, f"cannot read {image.name}")
        return
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    smooth = Image.Resampling.LANCZOS
    if scale > 1:  # whole multiples keep the pixels of a tiny image crisp, the rest is smooth
        whole = int(scale)
        grown = (picture.width * whole, picture.height * whole)
        picture = picture.resize(grown, Image.Resampling.NEAREST)
    picture = picture.resize(size, smooth)
    sheet.paste(picture, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
    draw.rectangle([x, y, x + side - 1, y + side - 1], outline=LINE)


def _placeholder(draw: ImageDraw.ImageDraw, at: Box, side: int, message: str) -> None:
    x, y = at
    draw.rectangle([x, y, x + side - 1, y + side - 1], outline=LINE)
    write(draw, (x + 12, y + side // 2 - 10), message, 14, GREY, side - 24, lines=3)
