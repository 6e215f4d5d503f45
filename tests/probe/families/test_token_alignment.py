"""Which tokens are which words, in every family, and what the limit cuts off."""

from __future__ import annotations

from typing import Any

import pytest

from promptprobe.probe.families.dit.sana import INSTRUCTION
from promptprobe.probe.families.family import Settings
from promptprobe.probe.families.token_alignment import AlignedWords, align_words, behind
from tests.probe.pipelines import family_of
from tests.tiny.encoders import TOKEN_LIMIT, clip_tokenizer, t5_tokenizer

SETTINGS = Settings(steps=4, guidance=3.0, height=32, width=32)
PROMPT = "a Red umbrella, and a user's cat!"


def readers(pipeline: Any) -> list[tuple[Any, str, int, int]]:
    """Tokenizers with the whole text they read, the tokens dropped, and where theirs begin."""
    name = type(pipeline).__name__
    if name == "QwenImagePipeline":
        return [(pipeline.tokenizer, pipeline.prompt_template_encode.format(PROMPT), 34, 0)]
    if name in ("ZImagePipeline", "Flux2KleinPipeline"):
        said = [{"role": "user", "content": PROMPT}]
        text = pipeline.tokenizer.apply_chat_template(
            said,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=name == "ZImagePipeline",
        )
        return [(pipeline.tokenizer, text, 0, 0)]
    if name == "StableDiffusion3Pipeline":
        return [
            (pipeline.tokenizer, PROMPT, 0, 0),
            (pipeline.tokenizer_3, PROMPT, 0, TOKEN_LIMIT),
        ]
    if name == "FluxPipeline":
        return [(pipeline.tokenizer_2, PROMPT, 0, 0)]
    if name == "SanaPipeline":
        before = "\n".join(INSTRUCTION)
        return [
            (
                pipeline.tokenizer,
                before + PROMPT.lower(),
                len(pipeline.tokenizer.encode(before)) - 2,
                0,
            )
        ]
    return [(pipeline.tokenizer, PROMPT.lower() if "PixArt" in name else PROMPT, 0, 0)]


def test_the_tokens_of_a_word_spell_it(tiny_pipeline: Any) -> None:
    """What a real tokenizer, template and special tokens make of a prompt, read back."""
    found = family_of(tiny_pipeline).encode([PROMPT], SETTINGS)
    spelled: dict[str, list[str]] = {}
    for tokenizer, text, dropped, offset in readers(tiny_pipeline):
        ids = tokenizer(text).input_ids[dropped:]
        for span in found.words[0]:
            own = [at - offset for at in span.tokens if offset <= at < offset + len(ids)]
            read = tokenizer.decode([ids[at] for at in own]).replace(" ", "").lower()
            spelled.setdefault(span.word.lower(), []).append(read)
    encoders = len(readers(tiny_pipeline))
    # CLIP's own tokenizer sets an apostrophe apart; its pieces are the same.
    words = ("red", "umbrella", "user's", "cat")
    assert {word: [word] * encoders for word in words} == spelled


def test_no_token_of_template_or_padding_is_a_word_s(fresh_pipeline: Any) -> None:
    for name in ("qwen", "z_image"):
        pipeline = fresh_pipeline(name)
        family = family_of(pipeline)
        found = family.encode(["a cat", "a photo of a red dog left of a blue car"], SETTINGS)
        tokenizer, text, dropped, _ = readers(pipeline)[0]
        prompt = tokenizer("a cat").input_ids
        before = tokenizer(text.split(PROMPT)[0]).input_ids[dropped:]
        taken = {at for span in found.words[0] for at in span.tokens}
        assert taken == set(range(len(before), len(before) + len(prompt))[1:])


def test_function_words_are_left_out_unless_there_is_nothing_else(tiny_pipeline: Any) -> None:
    found = family_of(tiny_pipeline).encode(["a red cat", "of a"], SETTINGS)
    assert [[span.word for span in words] for words in found.words] == [
        ["red", "cat"],
        ["of", "a"],
    ]
    assert found.cut == ((), ())


def test_words_beyond_the_token_limit_are_named_and_not_logged(
    tiny_pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = " ".join(["red"] * 600) + " cat umbrella dog"
    found = family_of(tiny_pipeline).encode([prompt], SETTINGS)
    last = max(at for span in found.words[0] for at in span.tokens)
    assert last < found.embeddings.shape[1]
    assert [*(span.word for span in found.words[0]), *found.cut[0]] == prompt.split()
    assert found.cut[0][-3:] == ("cat", "umbrella", "dog")
    assert not caplog.messages


def test_the_last_word_that_fits_is_kept(ddim_pipeline: Any) -> None:
    prompt = " ".join(["red"] * 20) + " cat umbrella dog"
    found = family_of(ddim_pipeline).encode([prompt], SETTINGS)
    assert [span.word for span in found.words[0]] == ["red"] * 20 + ["cat"]
    assert found.words[0][-1].tokens == (21,)
    assert found.cut == (("umbrella", "dog"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("🐈", []),
        ("חתול", ["חתול"]),
        ("café 3", ["café", "3"]),
        ("ice-cream_van", ["ice", "cream", "van"]),
        ("the dog’s 2nd bowl", ["dog’s", "2nd", "bowl"]),
        ("लाल बिल्ली", ["लाल", "बिल्ली"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("一只金毛狗", ["一", "只", "金", "毛", "狗"]),
        ("雪の中のレトリバー", ["雪", "の", "中", "の", "レトリバー"]),
        ("วิ่งใน", ["วิ่", "ง", "ใ", "น"]),
        ("강아지 눈", ["강아지", "눈"]),
    ],
)
def test_unusual_text_has_its_words_found(text: str, words: list[str]) -> None:
    tokenizer = clip_tokenizer()
    found = align_words(tokenizer, text, last=400)
    assert [span.word for span in found.words] == words


def test_two_encoders_of_one_prompt_share_its_words() -> None:
    clip = align_words(clip_tokenizer(), "a red cat umbrella", last=5)
    t5 = align_words(t5_tokenizer(), "a red cat umbrella", last=30)
    both = behind(clip, t5, 6)
    assert [span.word for span in both.words] == ["red", "cat", "umbrella"]
    assert both.words[0].tokens == (clip.words[0].tokens[0], 6 + t5.words[0].tokens[0])
    assert both.words[2].tokens == tuple(6 + at for at in t5.words[2].tokens)
    assert both.cut == ()
    without = behind(clip, AlignedWords((), clip.cut), 6)
    assert without.words == clip.words
    assert without.cut == ("umbrella",)
