"""CLIP, SigLIP, PickScore and VQAScore on tiny random models in the hub's format."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from promptprobe.tools.scorers.clip import in_parts
from promptprobe.tools.scorers.scorer import open_scorer

IMAGES = [
    Image.linear_gradient("L").convert("RGB").resize((64, 64)),
    Image.new("RGB", (64, 64), "red"),
    Image.radial_gradient("L").convert("RGB").resize((64, 64)),
]


def test_a_siglip_is_a_clip_judge_and_scores_alone_as_in_a_batch(siglip_folder: Path) -> None:
    scorer = open_scorer(f"clip:{siglip_folder}")
    values = [score.value for score in scorer("a red cat", IMAGES)]
    assert all(value is not None and -1 <= value <= 1 for value in values)
    assert len(set(values)) == 3
    assert scorer("a red cat", IMAGES[1:2])[0].value == pytest.approx(values[1], abs=1e-5)


def test_what_a_long_brief_says_at_its_end_counts(siglip_folder: Path) -> None:
    scorer = open_scorer(f"clip:{siglip_folder}")
    start = "a red cat " * 20
    values = {scorer(start + end, IMAGES[:1])[0].value for end in ("figure", "answer")}
    assert len(values) == 2


def test_a_brief_is_cut_at_white_space_and_loses_nothing() -> None:
    text = "one two three four five six seven eight nine ten"
    parts = in_parts(text, lambda part: len(part.split()), 3)
    assert " ".join(parts) == text
    assert max(len(part.split()) for part in parts) <= 3
    assert "".join(in_parts("字" * 10, len, 4)) == "字" * 10


def test_words_that_a_judge_has_no_piece_for_are_named(siglip_folder: Path) -> None:
    assert list(open_scorer(f"clip:{siglip_folder}").unread("a red zeppelin")) == ["zeppelin"]


def test_pickscore_is_the_similarity_times_the_models_own_scale(clip_folder: Path) -> None:
    import torch
    from transformers import CLIPModel

    [cosine] = open_scorer(f"clip:{clip_folder}")("a red cat", IMAGES[:1])
    [score] = open_scorer(f"pickscore:{clip_folder}")("a red cat", IMAGES[:1])
    with torch.no_grad():
        scale = float(CLIPModel.from_pretrained(clip_folder).logit_scale.exp())
    assert cosine.value is not None
    assert score.value == pytest.approx(cosine.value * scale, rel=1e-4)


def test_vqa_is_the_probability_of_yes_alone_as_in_a_batch(llava_folder: Path) -> None:
    scorer = open_scorer(f"vqa:{llava_folder}")
    scores = scorer("a red cat", IMAGES)
    values = [score.value for score in scores]
    assert all(value is not None and 0 < value < 1 for value in values), scores
    assert values[0] != values[1]
    assert scorer("a red cat", IMAGES[1:2])[0].value == pytest.approx(values[1], abs=1e-5)


@pytest.mark.parametrize("kind", ["clip", "pickscore", "vqa"])
def test_missing_weights_are_one_clear_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"judge {kind}.* did not load.*promptprobe judges"):
        open_scorer(f"{kind}:{tmp_path}")


def test_a_model_of_another_kind_is_refused_by_name(llava_folder: Path) -> None:
    with pytest.raises(ValueError, match="must be a CLIP or SigLIP, got a 'llava' model"):
        open_scorer(f"clip:{llava_folder}")
