"""Wordings read back as the scenes that they came from; what cannot be drawn is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from promptprobe.tools.sprites import PIPELINE
from promptprobe.tools.sprites.language import STYLES, Style, lexicon, read, word
from promptprobe.tools.sprites.train.tokenizer import build_tokenizer
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


def test_rarer_styles_use_rarer_words() -> None:
    rng = np.random.default_rng(0)
    scene = Scene((Thing("cat", "red"),))

    def common(style: Style | None) -> float:
        texts = [word(scene, rng, style) for _ in range(500)]
        return float(np.mean(["cat" in text and "red" in text for text in texts]))

    assert common("plain") > 0.9 > common(None) > 0.75 > common("casual") > common("ornate") > 0.15


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


def test_the_tokenizer_is_the_same_in_every_process_and_knows_every_word_as_one_token() -> None:
    built, shipped = build_tokenizer(), CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer")
    assert built.get_vocab() == shipped.get_vocab()
    words = {word for phrase in lexicon() for word in phrase.split()}
    texts = [*words, "a photo of a scarlet kitty, please"]
    assert built(texts).input_ids == shipped(texts).input_ids
    assert all(len(built(word).input_ids) == 3 for word in words)
