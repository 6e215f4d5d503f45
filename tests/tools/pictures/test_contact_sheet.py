"""The contact sheet shows both heroes and every render, whatever the records hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from promptprobe.tools.pictures.contact_sheet import (
    COLUMNS,
    MAX_SMALL,
    MAX_TILES,
    SMALL,
    WIDTH,
    save_contact_sheet,
)
from promptprobe.tools.records import Candidate, Look, Prediction, Score, Trial

RED, BLUE = (214, 39, 40), (40, 90, 215)
SCORED = Score(value=0.5, correct=False, explanation="missing: blue car")


def trial(
    folder: Path,
    seed: int,
    colour: tuple[int, int, int] = RED,
    size: tuple[int, int] = (64, 64),
    prompt: str = "a red cat",
    score: Score = SCORED,
) -> Trial:
    path = folder / f"{seed}.png"
    Image.new("RGB", size, colour).save(path)
    prediction = Prediction(score=0.4, low=0.1, high=0.8, basis="preview")
    return Trial(
        candidate=Candidate(prompt=prompt, seed=seed),
        round=0,
        prediction=prediction,
        image=path,
        score=score,
    )


def sheet_of(folder: Path, trials: list[Trial], best: int = -1) -> Image.Image:
    path = save_contact_sheet(folder / "s.png", "a brief", trials[0], trials[best], trials)
    with Image.open(path) as opened:
        return opened.convert("RGB")


def pixels(image: Image.Image, colour: tuple[int, int, int]) -> int:
    """How many pixels have exactly this colour."""
    found = {value: count for count, value in image.getcolors(image.width * image.height) or []}
    return found.get(colour, 0)


def test_the_initial_image_stands_left_of_the_best_at_the_same_large_scale(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, [trial(tmp_path, 1, RED), trial(tmp_path, 2, BLUE)])
    assert sheet.width == WIDTH
    top = sheet.crop((0, 0, WIDTH, 600))
    left, right = top.crop((0, 0, WIDTH // 2, 600)), top.crop((WIDTH // 2, 0, WIDTH, 600))
    assert pixels(left, RED) == pixels(right, BLUE) > 380**2
    assert pixels(left, BLUE) == pixels(right, RED) == 0


def test_every_render_has_a_tile_and_more_renders_make_a_longer_sheet(tmp_path: Path) -> None:
    few = sheet_of(tmp_path, [trial(tmp_path, n) for n in range(COLUMNS)])
    many = sheet_of(tmp_path, [trial(tmp_path, n) for n in range(3 * COLUMNS)])
    assert many.height > few.height
    assert pixels(many, RED) - pixels(few, RED) > 2 * COLUMNS * 185**2


def test_no_picture_is_shown_twice(tmp_path: Path) -> None:
    one = trial(tmp_path, 1, BLUE)
    sheet = sheet_of(tmp_path, [one, trial(tmp_path, 2), trial(tmp_path, 3)], best=0)
    assert 380**2 < pixels(sheet, BLUE) < 390**2
    assert 2 * 185**2 < pixels(sheet, RED) < 2 * 195**2


def test_who_was_dropped_early_is_a_small_preview(tmp_path: Path) -> None:
    dropped = []
    for seed in range(10, 50):
        path = tmp_path / f"{seed}.webp"
        Image.new("RGB", (64, 64), BLUE).save(path, lossless=True)
        look = Look(step=5, prediction=None, reason="no scorer", preview=path)
        candidate = Candidate(prompt="a red cat", seed=seed)
        dropped.append(Trial(candidate=candidate, round=1, looks=(look,)))
    sheet = sheet_of(tmp_path, [trial(tmp_path, 1), *dropped], best=0)
    assert MAX_SMALL * (SMALL - 4) ** 2 < pixels(sheet, BLUE) <= MAX_SMALL * SMALL**2


def test_a_run_with_more_renders_than_fit_shows_the_best_and_stays_bounded(tmp_path: Path) -> None:
    low = [trial(tmp_path, n) for n in range(MAX_TILES + 5)]
    good = trial(tmp_path, 999, BLUE, score=Score(value=0.9, correct=True))
    sheet = sheet_of(tmp_path, [*low, good], best=0)
    assert 185**2 < pixels(sheet, BLUE) < 195**2
    assert sheet.height < 300 * (MAX_TILES // COLUMNS + 3)


def test_a_tiny_image_is_enlarged_without_blur(tmp_path: Path) -> None:
    checked = Image.new("RGB", (2, 2), RED)
    checked.putpixel((1, 0), BLUE)
    one = trial(tmp_path, 1)
    assert one.image is not None
    checked.save(one.image)
    sheet = sheet_of(tmp_path, [one])
    assert pixels(sheet, BLUE) > 0.24 * 384**2


@pytest.mark.parametrize("size", [(1, 1), (300, 20), (20, 300), (2048, 1024)])
def test_images_of_any_shape_fit(tmp_path: Path, size: tuple[int, int]) -> None:
    assert pixels(sheet_of(tmp_path, [trial(tmp_path, 1, size=size)]), RED) > 0


@pytest.mark.parametrize(
    "prompt", ["x" * 4000, "قطة حمراء", "🐱 and 🚗", "tabs\tand\nlines", "word " * 700]
)
def test_any_prompt_can_be_written(tmp_path: Path, prompt: str) -> None:
    sheet = sheet_of(tmp_path, [trial(tmp_path, 1, prompt=prompt)])
    assert sheet.height < 1500


def test_an_unscored_or_missing_image_leaves_the_rest_in_place(tmp_path: Path) -> None:
    unscored = trial(tmp_path, 1, score=Score(reason="the safety checker blacked it out"))
    gone, cut = trial(tmp_path, 2), trial(tmp_path, 4, BLUE)
    assert gone.image is not None
    assert cut.image is not None
    gone.image.unlink()
    cut.image.write_bytes(cut.image.read_bytes()[:60])
    probed = Trial(candidate=Candidate(prompt="only probed", seed=3), round=1)
    sheet = sheet_of(tmp_path, [unscored, gone, cut, probed], best=0)
    assert pixels(sheet, RED) > 380**2
    assert pixels(sheet, BLUE) == 0
