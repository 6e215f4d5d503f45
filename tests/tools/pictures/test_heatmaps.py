"""Heat maps show each word's attention where it is, whatever the words and the image's shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from promptprobe.probe.trace import GRID, Trace
from promptprobe.tools.pictures.fonts import NOWHERE, lettering, readable
from promptprobe.tools.pictures.heatmaps import (
    CAPTION,
    COLOURS,
    GAP,
    LEGEND,
    LONG,
    MARGIN,
    MAX_ROWS,
    SHORT,
    WIDEST,
    draw,
    overlay,
    save_heatmaps,
    save_index,
)
from promptprobe.tools.predictions import Preview, focused_words
from promptprobe.tools.records import Candidate, Prediction, Word

CAT = Candidate(prompt="a red cat", seed=7)
FOUND = Prediction(score=0.4, low=0.1, high=0.8, basis="probe", explanation="missing: red cat")
AFTER = "after 5 of 25 steps"


def view(size: tuple[int, int] = (64, 64), colour: str = "white") -> Preview:
    return Preview(FOUND, Image.new("RGB", size, colour))


def bump(row: float, col: float) -> np.ndarray:
    """Attention around one place of the grid."""
    down, across = np.mgrid[:GRID, :GRID]
    bumped: np.ndarray = 0.02 + 0.3 * np.exp(-((down - row) ** 2 + (across - col) ** 2) / 6)
    return bumped.astype(np.float32)


def planted(words: tuple[str, ...], places: list[tuple[int, int]]) -> Trace:
    """A trace of one candidate whose words look at these rows and columns."""
    maps = torch.tensor(np.stack([bump(*place) for place in places]))[None, :, None]
    return Trace(
        maps=maps,
        mask=torch.ones(1, len(words), dtype=torch.bool),
        embeddings=torch.zeros(1, len(words), 8),
        x0=torch.zeros(1, 4, 8, 8),
        gap=torch.zeros(1, 4, 8, 8),
        words=(words,),
        layers=("a",),
    )


def drawn(words: int, size: tuple[int, int] = (64, 64), word: str = "cat") -> Image.Image:
    maps = np.stack([bump(3, 4)] * words) if words else np.zeros((0, GRID, GRID), np.float32)
    return draw(CAT, view(size), [Word(word=word, focus=0.1)] * words, maps, AFTER)


@pytest.mark.parametrize("colour", ["white", "black", "#2858d7"])
def test_a_word_is_brightest_where_it_is_looked_for(tmp_path: Path, colour: str) -> None:
    places = [(3, 12), (13, 2)]
    trace = planted(("red", "cat"), places)
    (path,) = save_heatmaps(
        tmp_path, [CAT], trace, [view(colour=colour)], focused_words(trace), AFTER
    )
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB"), int)
    assert picture.shape[1] == 2 * MARGIN + 3 * SHORT + 2 * GAP
    top = picture.shape[0] - CAPTION - SHORT
    for number, (row, col) in enumerate(places, 1):
        left = MARGIN + number * (SHORT + GAP)
        tile = picture[top + 1 : top + SHORT - 1, left + 1 : left + SHORT - 1].sum(-1)
        y, x = np.unravel_index(tile.argmax(), tile.shape)
        cell = SHORT / GRID
        assert abs(y / cell - (row + 0.5)) < 1
        assert abs(x / cell - (col + 0.5)) < 1
        assert tile.max() > 2 * np.median(tile)


def test_the_preview_stands_first_and_unchanged() -> None:
    picture = np.asarray(draw(CAT, view(colour="#2858d7"), [], np.zeros((0, 16, 16)), AFTER))
    top = picture.shape[0] - CAPTION - SHORT
    tile = picture[top + 1 : top + SHORT - 1, MARGIN + 1 : MARGIN + SHORT - 1]
    assert (tile == (0x28, 0x58, 0xD7)).all()


def test_the_preview_is_seen_where_no_word_looks() -> None:
    half = Image.new("RGB", (64, 64), "white")
    half.paste("black", (0, 0, 32, 64))
    shaded = np.asarray(overlay(half, np.zeros((16, 16), np.float32)), int).sum(-1)
    assert (shaded[:, 32:] > shaded[:, :32] + 20).all()


def test_colours_rise_in_lightness() -> None:
    light = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > -0.6).all()  # whole numbers wobble
    assert light[0] < 5
    assert light[-1] > 230


@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((64, 64), (SHORT, SHORT)),
        ((1024, 1024), (SHORT, SHORT)),
        ((64, 32), (LONG, SHORT)),
        ((96, 64), (SHORT * 3 // 2, SHORT)),
        ((32, 64), (SHORT, LONG)),
        ((2048, 16), (LONG, 4)),
        ((16, 2048), (4, LONG)),
    ],
)
def test_images_of_any_shape_keep_it(size: tuple[int, int], tile: tuple[int, int]) -> None:
    picture = np.asarray(drawn(1, size))
    top, bottom = picture.shape[0] - CAPTION - tile[1], picture.shape[0] - CAPTION
    edge = picture[top : bottom + 1, MARGIN : MARGIN + tile[0] + 1]
    line = (0xD8, 0xD8, 0xDC)
    assert (edge[0, :-1] == line).all() and (edge[-2, :-1] == line).all()
    assert (edge[:-1, 0] == line).all() and (edge[:-1, -2] == line).all()
    assert (edge[-1] == 255).all() and (edge[:, -1] == 255).all()


@pytest.mark.parametrize(("words", "rows"), [(0, 1), (1, 1), (5, 1), (6, 2), (11, 2), (70, 12)])
def test_many_words_wrap_into_rows(words: int, rows: int) -> None:
    picture = drawn(words)
    assert picture.width <= 2 * MARGIN + WIDEST
    assert 0 < picture.height - rows * (SHORT + CAPTION) < 200


@pytest.mark.parametrize("size", [(64, 64), (16, 2048)])
def test_long_words_stay_under_their_tile(size: tuple[int, int]) -> None:
    picture = np.asarray(drawn(3, size, word="Donaudampfschifffahrtsgesellschaft" * 9))
    ink = picture[-CAPTION:].min((0, 2)) < 255
    pitch = (picture.shape[1] - 2 * MARGIN + GAP) // 4
    for number in range(4):
        column = ink[MARGIN + number * pitch :][:pitch]
        assert column[: pitch - GAP].any()
        assert not column[pitch - GAP :].any()


@pytest.mark.parametrize("prompt", ["x" * 4000, "word " * 700, "قطة حمراء", "🐱\nand\t🚗"])
def test_any_prompt_can_be_written(prompt: str) -> None:
    candidate = Candidate(prompt=prompt, seed=2**53 - 1)
    unscored = Preview(None, Image.new("RGB", (64, 64)), "the preview was not scored: " + "y" * 999)
    picture = np.asarray(draw(candidate, unscored, [], np.zeros((0, 16, 16)), AFTER))
    assert (picture[:, -MARGIN:] == 255).all()
    assert picture.shape[0] < SHORT + CAPTION + 320


def test_the_index_shows_the_pictures_in_order(tmp_path: Path) -> None:
    paths = []
    for number, colour in enumerate(["#ff0000", "#00ff00", "#0000ff"]):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (800 + 80 * number, 400), colour).save(paths[-1])
    with Image.open(save_index(tmp_path / "index.png", "a cat", "a note", paths)) as opened:
        sheet = np.asarray(opened.convert("RGB"), int)
    assert sheet.shape[1] == 960 * 5 // 8 + 2 * MARGIN
    rows = [np.flatnonzero((sheet[:, 300] == colour).all(-1)) for colour in np.eye(3) * 255]
    assert all(len(row) > 240 for row in rows)
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()


def test_an_index_of_very_many_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.new("RGB", (800, 400)).save(path)
    with Image.open(save_index(tmp_path / "i.png", "a", "b", [path] * (MAX_ROWS + 9))) as sheet:
        assert sheet.height < 240 + MAX_ROWS * 250


@pytest.mark.parametrize("text", ["a red cat", "naïve", "кот", "قطة", "猫", "แมว", NOWHERE])
def test_no_letter_is_drawn_as_a_box(text: str) -> None:
    font, shown = lettering(text, 20)
    box = bytes(font.getmask(NOWHERE))
    assert all(bytes(font.getmask(letter)) != box for letter in shown)
    assert (shown == text) == readable(text)


@pytest.mark.parametrize("word", ["猫", NOWHERE])
def test_a_word_that_no_font_here_has_goes_by_its_number(tmp_path: Path, word: str) -> None:
    numbered = drawn(1, word=word).tobytes() == drawn(1, word="word 1").tobytes()
    assert numbered != readable(word)
    trace = planted((word, "cat"), [(3, 12), (13, 2)])
    (path,) = save_heatmaps(tmp_path, [CAT], trace, [view()], focused_words(trace), AFTER)
    with Image.open(path) as picture:
        assert json.loads(picture.info[LEGEND]) == [word, "cat"]
