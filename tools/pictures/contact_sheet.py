"""One picture to judge a run by: the initial image next to the best, then all other candidates.

It needs only records and image files, so every door can use it. Each picture is shown once, under a
heading shared with its neighbours, with predicted and actual score below; a trial without a score
gives the reason. Candidates that were dropped early are small previews.
"""

from __future__ import annotations

from collections import defaultdict
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
INNER = WIDTH - 2 * MARGIN
MAX_TILES = 48
SMALL, SMALL_COLUMNS, MAX_SMALL = 84, 9, 27
"""Pixels of a dropped candidate's preview, number of previews in a row, and maximum number."""

GOOD = "#1a7f4b"


def save_contact_sheet(
    path: Path, brief: str, initial: Trial, best: Trial, trials: Sequence[Trial]
) -> Path:
    """Write the sheet as a PNG and return its path.

    Args:
        path: where to write; its folder must exist.
        trials: all trials of the run; those without image and preview are only counted.
    """
    _drawn(brief, initial, best, trials).save(path)
    return path


def small_contact_sheet(
    brief: str, initial: Trial, best: Trial, trials: Sequence[Trial], pixels: int
) -> bytes:
    """The sheet as a JPEG of at most `pixels` pixels, for a vision model."""
    sheet = _drawn(brief, initial, best, trials)
    shrink = min(1.0, (pixels / (sheet.width * sheet.height)) ** 0.5)
    size = (max(1, int(sheet.width * shrink)), max(1, int(sheet.height * shrink)))
    written = BytesIO()
    sheet.resize(size, Image.Resampling.LANCZOS).save(written, "JPEG", quality=85)
    return written.getvalue()


def _drawn(brief: str, initial: Trial, best: Trial, trials: Sequence[Trial]) -> Image.Image:
    rendered = [trial for trial in trials if trial.image is not None]
    others = [trial for trial in rendered if trial not in (initial, best)]
    dropped = [trial for trial in trials if trial.image is None and trial.preview is not None]
    sheet = Image.new("RGB", (WIDTH, 40 * TILE), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = write(draw, (MARGIN, MARGIN), brief, 26, INK, INNER, lines=3) + 6
    number = f"{len(trials)} candidate{'s' * (len(trials) != 1)}"
    note = f"{number} probed, {len(rendered)} rendered"
    y = write(draw, (MARGIN, y), note, 15, GREY, INNER) + GAP
    y = _heroes(sheet, draw, y, initial, best)
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in sorted(others, key=_value, reverse=True)[:MAX_TILES]:
        groups[trial.candidate.prompt].append(trial)
    for prompt, group in groups.items():
        if len(group) > 1:
            sheet, y = _group(sheet, y, prompt, group, COLUMNS, TILE)
    if single := [trial for group in groups.values() if len(group) == 1 for trial in group]:
        title = "one picture of each prompt" if len(single) > 1 else "one more picture"
        sheet, y = _group(sheet, y, title, single, COLUMNS, TILE, prompts=True)
    if len(others) > MAX_TILES:
        sheet, y = _titled(sheet, y, f"and {len(others) - MAX_TILES} more, with lower scores")
    if dropped:
        shown = sorted(dropped, key=_promise, reverse=True)[:MAX_SMALL]
        more = f"; the first {len(shown)} of {len(dropped)}" * (len(shown) < len(dropped))
        title = f"dropped early: previews with predicted scores, the most promising first{more}"
        sheet, y = _group(sheet, y, title, shown, SMALL_COLUMNS, SMALL)
    return sheet.crop((0, 0, WIDTH, y + MARGIN))


def _group(
    sheet: Image.Image,
    y: int,
    title: str,
    trials: Sequence[Trial],
    columns: int,
    side: int,
    prompts: bool = False,
) -> tuple[Image.Image, int]:
    """Draw tiles under a common heading; returns the sheet and the y below them."""
    sheet, y = _titled(sheet, y, title)
    gap = (INNER - columns * side) // (columns - 1)
    for start in range(0, len(trials), columns):
        sheet = _with_room(sheet, y + 3 * TILE)
        draw = ImageDraw.Draw(sheet)
        row = trials[start : start + columns]
        corners = [(MARGIN + column * (side + gap), y) for column in range(columns)]
        y = GAP + max(
            _tile(sheet, draw, at, trial, side, prompts)
            for at, trial in zip(corners, row, strict=False)
        )
    return sheet, y - GAP


def _titled(sheet: Image.Image, y: int, title: str) -> tuple[Image.Image, int]:
    sheet = _with_room(sheet, y + 2 * TILE)
    draw = ImageDraw.Draw(sheet)
    y += GAP
    draw.line([(MARGIN, y), (WIDTH - MARGIN, y)], fill=LINE)
    return sheet, write(draw, (MARGIN, y + GAP // 2), title, 15, INK, INNER, lines=3) + 8


def _with_room(sheet: Image.Image, bottom: int) -> Image.Image:
    if bottom <= sheet.height:
        return sheet
    taller = Image.new("RGB", (sheet.width, bottom + 10 * TILE), PAPER)
    taller.paste(sheet)
    return taller


def _heroes(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, y: int, initial: Trial, best: Trial
) -> int:
    """The initial image next to the best one, or one for both; returns the y below them."""
    right = WIDTH - MARGIN - HERO
    if initial == best:
        shown = [(MARGIN, "initial and best", best)]
    else:
        shown = [(MARGIN, "initial", initial), (right, "best", best)]
    return max(_hero(sheet, draw, (x, y), title, trial) for x, title, trial in shown)


def _hero(sheet: Image.Image, draw: ImageDraw.ImageDraw, at: Box, title: str, trial: Trial) -> int:
    x, y = at
    top = write(draw, at, title, 17, GREY if title == "initial" else GOOD, HERO) + 8
    _place(sheet, draw, (x, top), trial.image, HERO)
    y = write(draw, (x, top + HERO + 12), trial.candidate.prompt, 17, INK, HERO, lines=4) + 3
    y = _caption(draw, (x, y), trial, HERO, size=17)
    if trial.score is not None and trial.score.explanation:
        y = write(draw, (x, y), trial.score.explanation, 16, GREY, HERO, lines=3)
    return y


def _tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: Box, trial: Trial, side: int, prompt: bool
) -> int:
    """A picture with its caption, or a dropped candidate's preview and prediction."""
    x, y = at
    _place(sheet, draw, at, trial.image or trial.preview, side)
    if trial.image is not None:
        y += side + 9
        if prompt:
            y = write(draw, (x, y), trial.candidate.prompt, 13, INK, side, lines=5) + 3
        return _caption(draw, (x, y), trial, side, size=13)
    predicted = "-" if trial.prediction is None else f"{trial.prediction.score:.2f}"
    return write(draw, (x, y + side + 4), predicted, 13, GREY, side)


def _caption(draw: ImageDraw.ImageDraw, at: Box, trial: Trial, width: int, size: int) -> int:
    """Score, prediction, judges' scores and seed, below each other."""
    x, y = at
    y = write(draw, (x, y), _verdict("score", trial.score), size, INK, width, lines=4)
    if trial.prediction is not None:
        y = write(draw, (x, y), prediction_text(trial.prediction), size - 1, GREY, width, lines=2)
    for name, grade in trial.judged.items():
        y = write(draw, (x, y), _verdict(name, grade), size - 1, GREY, width, lines=3)
    return write(draw, (x, y), f"seed {trial.candidate.seed}", size - 1, GREY, width, lines=2)


def _verdict(name: str, score: Score | None) -> str:
    if score is None:
        return f"{name}: none yet"
    if score.value is None:
        return f"{name}: none, {score.reason or 'no reason given'}"
    mark = {True: ", correct", False: ", not correct", None: ""}[score.correct]
    return f"{name} {score.value:.2f}{mark}"


def _value(trial: Trial) -> float:
    """For sorting: an unscored trial comes last."""
    return float("-inf") if trial.value is None else trial.value


def _promise(trial: Trial) -> float:
    """For sorting: a trial without a prediction comes last."""
    return float("-inf") if trial.predicted is None else trial.predicted


def _place(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: Box, image: Path | None, side: int
) -> None:
    """Fit an image into a square tile; tiny images are enlarged with crisp pixels."""
    x, y = at
    if image is None:
        _placeholder(draw, at, side, "no image")
        return
    try:
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
    except OSError:  # missing, truncated or not an image: the rest of the sheet is still useful
        _placeholder(draw, at, side, f"cannot read {image.name}")
        return
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    smooth = Image.Resampling.LANCZOS
    if scale > 1:  # whole multiples keep a tiny image's pixels crisp; the remainder is smoothed
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
