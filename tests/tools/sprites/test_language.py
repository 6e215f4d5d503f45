"""Wordings read back as the scenes that they came from; what cannot be drawn is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptprobe.tools.sprites.language import STYLES, Style, read, word
from promptprobe.tools.sprites.world import KINDS, Kind, Scene, Thing, scenes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", STYLES)
def test_every_wording_reads_back_as_its_scene(kind: Kind, style: Style) -> None:
    rng = np.random.default_rng(0)
    for scene in scenes(kind)[:: max(1, len(scenes(kind)) // 150)]:
        text = word(scene, rng, style)
        reading = read(text)
        assert reading.scene is not None, (text, reading.problem)
        assert reading.scene.canonical == scene.canonical, text
        assert reading.unknown == (), text


def test_plain_wordings_are_common_and_synonyms_rare() -> None:
    rng = np.random.default_rng(0)
    scene = Scene((Thing("cat", "red"),))
    texts = [word(scene, rng) for _ in range(500)]
    assert 0.55 < np.mean(["cat" in text and "red" in text for text in texts]) < 0.75
    assert any("kitty" in text for text in texts) and any("scarlet" in text for text in texts)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a scarlet kitty next to a navy automobile", "blue car + red cat"),
        ("A photo of a cat, right of a car!", "car left of cat"),
        ("a house with a star on its left", "star left of house"),
        ("THREE goldfish", "3 fish"),
        ("a moon that is golden", "yellow moon"),
        ("a fish below a tree in emerald", "green tree above fish"),
    ],
)
def test_texts_mean_what_a_reader_would_say(text: str, key: str) -> None:
    scene = read(text).scene
    assert scene is not None and scene.key == key


@pytest.mark.parametrize(
    ("text", "unknown", "problem"),
    [
        ("a zebra beside a car", ("zebra",), ""),
        ("no cats", (), "absence"),
        ("", (), "names nothing"),
        ("🦓🦓", (), "names nothing"),
        ("قطة حمراء", ("قطة", "حمراء"), "names nothing"),
        ("a cat, a car and a fish", (), "3 things"),
        ("a red blue cat", (), "two colours"),
        ("cats", (), "how many"),
    ],
)
def test_what_cannot_be_drawn_is_said(text: str, unknown: tuple[str, ...], problem: str) -> None:
    reading = read(text)
    assert reading.unknown == unknown
    assert problem in reading.problem
    assert (reading.scene is None) == bool(problem)


@given(st.text(max_size=300))
def test_reading_never_fails(text: str) -> None:
    reading = read(text)
    assert (reading.scene is None) == bool(reading.problem)
