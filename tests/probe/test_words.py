"""Which tokens are which words, and what the limit cuts off."""

from __future__ import annotations

from typing import Any

from promptprobe.probe.family import Settings
from promptprobe.probe.stable_diffusion import StableDiffusion

SETTINGS = Settings(steps=4, guidance=3.0, height=32, width=32)


def test_words_are_joined_and_special_tokens_and_function_words_left_out(
    ddim_pipeline: Any,
) -> None:
    family = StableDiffusion(ddim_pipeline)
    found = family.encode(["a Red umbrella, and a cat!", "of a"], SETTINGS)
    red, umbrella, cat = found.words[0]
    assert [span.word for span in found.words[0]] == ["Red", "umbrella", "cat"]
    assert red.tokens == (2,)
    assert umbrella.tokens == tuple(range(3, 10))
    assert cat.tokens == (13,)
    assert [span.word for span in found.words[1]] == ["of", "a"]
    assert found.cut == ((), ())


def test_words_beyond_the_token_limit_are_named(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    prompt = " ".join(["red"] * 20) + " cat umbrella dog"
    found = family.encode([prompt], SETTINGS)
    assert [span.word for span in found.words[0]] == ["red"] * 20 + ["cat"]
    assert found.words[0][-1].tokens == (21,)
    assert found.cut == (("umbrella", "dog"),)


def test_unusual_text_is_encoded_and_its_words_found(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    found = family.encode(["", "🐈", "חתול", "café 3"], SETTINGS)
    assert [[span.word for span in words] for words in found.words] == [
        [],
        [],
        ["חתול"],
        ["café", "3"],
    ]
