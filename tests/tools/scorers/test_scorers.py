from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptprobe.tools.records import Score
from promptprobe.tools.scorers.scorer import Scorer, open_scorer
from promptprobe.tools.sprites.draw import draw
from promptprobe.tools.sprites.world import Scene, Thing

RED_CAT = Scene((Thing("cat", "red"),))


def drawn(scene: Scene, seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(draw(scene, seed)[0]).resize((side, side))


def test_a_function_scores_each_image_and_may_return_a_score():
    def redness(brief: str, image: Image.Image) -> float | Score:
        mean = np.asarray(image, float).mean()
        return Score(value=1.0, correct=True) if brief == "x" else mean

    scorer = open_scorer(redness)
    images = [Image.new("RGB", (4, 4), (level,) * 3) for level in (10, 20)]
    assert [score.value for score in scorer("any", images)] == [10.0, 20.0]
    assert scorer("x", images)[0].correct is True
    assert scorer.name == "redness"


def test_one_failure_costs_one_score_and_says_why():
    def picky(brief: str, image: Image.Image) -> float:
        if image.width > 4:
            raise RuntimeError("too wide")
        return 0.5

    first, second = open_scorer(picky)("a", [Image.new("RGB", (9, 4)), Image.new("RGB", (4, 4))])
    assert first.value is None
    assert first.reason == "picky failed: RuntimeError: too wide"
    assert second.value == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_unscored(value: float):
    (score,) = open_scorer(lambda brief, image: value)("a", [Image.new("RGB", (4, 4))])
    assert score.value is None
    assert "expected a finite number" in score.reason


def test_a_judge_that_returns_too_few_scores_leaves_all_unscored():
    scorer = Scorer("short", lambda brief, images: [Score(value=1.0)])
    scores = scorer("a", [Image.new("RGB", (4, 4))] * 2)
    assert [score.reason for score in scores] == ["short returned 1 scores for 2 images"] * 2


def test_a_score_without_value_and_reason_gets_a_reason():
    (score,) = open_scorer(lambda brief, image: Score())("a", [Image.new("RGB", (4, 4))])
    assert score.reason.endswith("gave neither a value nor a reason")


@pytest.mark.parametrize("spec", ["beauty", "clip:", "", "sprite"])
def test_an_unknown_scorer_lists_the_known_ones(spec: str):
    with pytest.raises(
        ValueError, match=r"unknown scorer .*known: clip:ID, pickscore, .*, segments:sprites"
    ):
        open_scorer(spec)


def test_clip_scores_lie_between_minus_one_and_one_and_follow_the_image(clip_folder: Path):
    scorer = open_scorer(f"clip:{clip_folder}")
    images = [drawn(RED_CAT, 1, side) for side in (64, 200)] + [Image.new("RGB", (64, 64))]
    together = scorer("a red cat", images)
    assert all(-1 <= score.value <= 1 for score in together if score.value is not None)
    assert together[0].value != together[2].value
    (alone,) = scorer("a red cat", images[:1])
    assert alone.value == pytest.approx(together[0].value, abs=1e-5)


def test_the_clip_of_sprites_prefers_the_true_caption():
    scorer = open_scorer("clip:sprites")
    captions = ("a red cat", "a blue cat", "a red house", "two cats")
    for seed in range(4):
        image = drawn(RED_CAT, seed)
        values = [score.value or 0 for text in captions for score in scorer(text, [image])]
        assert values[0] > max(values[1:])


def test_clip_takes_a_brief_that_is_longer_than_its_encoder(clip_folder: Path):
    (score,) = open_scorer(f"clip:{clip_folder}")("red cat " * 200, [drawn(RED_CAT, 1)])
    assert score.value is not None


def test_a_clip_folder_with_nothing_in_it_is_a_clear_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"did not load.*Give a folder that contains it"):
        open_scorer(f"clip:{tmp_path}")


def test_a_clip_folder_may_lie_in_the_home_folder_and_one_that_is_not_there_is_no_hub_id(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(clip_folder.parent))
    scorer = open_scorer(f"clip:~/{clip_folder.name}")
    assert scorer.name == f"clip:~/{clip_folder.name}"
    with pytest.raises(ValueError, match=rf"there is no folder {clip_folder.parent}/nothing\."):
        open_scorer("clip:~/nothing")


def test_the_sprites_second_judge_sees_colour_and_noun_at_any_size():
    judge = open_scorer("segments:sprites")
    right, wrong, large = judge(
        "a red cat",
        [drawn(RED_CAT, 3), drawn(Scene((Thing("cat", "blue"),)), 3), drawn(RED_CAT, 3, 128)],
    )
    assert right.correct is True
    assert wrong.correct is False
    assert large.correct is True


def test_the_critic_knows_a_clean_drawing_whatever_was_asked_for():
    clean = drawn(RED_CAT, 3)
    noise = np.random.default_rng(0).normal(0, 40, (64, 64, 3))
    noisy = Image.fromarray((np.asarray(clean) + noise).clip(0, 255).astype(np.uint8))
    ghost = Image.blend(clean, drawn(Scene((Thing("house", "green"),)), 5), 0.4)
    critic = open_scorer("critic:sprites")
    scores = [score.value or 0 for score in critic("a blue car", [clean, noisy, ghost])]
    assert scores[0] > 0.8 > 0.6 > max(scores[1:])
    assert scores[0] == pytest.approx(critic("a red cat", [clean])[0].value, abs=1e-5)


def test_nothing_to_score_is_nothing():
    assert open_scorer("sprites")("a red cat", []) == []
