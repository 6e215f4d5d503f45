"""What the comparison says of pictures whose content is known, and both judges of real drawings."""

import numpy as np
import pytest

from promptprobe.tools.sprites.draw import Placed, draw
from promptprobe.tools.sprites.grading import compare
from promptprobe.tools.sprites.judges.scorer import score_images
from promptprobe.tools.sprites.judges.segments import judge_images, segments
from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.world import KINDS, Kind, Scene, Thing, scenes

CAT, CAR = Placed("cat", "red", 15, 30, 24), Placed("car", "blue", 48, 30, 24)
LEFT = Scene((Thing("cat", "red"), Thing("car", "blue")), "left of")


@pytest.mark.parametrize(
    ("scene", "found", "value", "words"),
    [
        (LEFT, [CAT, CAR], 1.0, "all there"),
        (LEFT, [CAT], 0.4, "missing: blue car; not so: red cat left of blue car"),
        (LEFT, [CAT, Placed("car", "green", 48, 30, 24)], 0.6, "the car is green, not blue"),
        (Scene(LEFT.things[::-1], "left of"), [CAT, CAR], 0.8, "not so: blue car left of red cat"),
        (Scene((Thing("cat", None, 3),)), [CAT, CAT], 2 / 3, "2 of 3 cats"),
        (Scene((Thing("cat", None, 2),)), [CAT, CAT, CAT], 0.5, "3 of 2 cats"),
        (Scene((Thing("cat"),)), [CAT, CAR, CAT], 1.0, "all there"),
        (Scene((Thing("key"),)), [], 0.0, "missing: key"),
        (Scene((Thing("key", "black", 4),)), [], 0.0, "missing: 4 black keys"),
    ],
)
def test_the_score_is_the_share_of_requirements_that_hold(
    scene: Scene, found: list[Placed], value: float, words: str
) -> None:
    score = compare(scene, found)
    assert score.value == pytest.approx(value)
    assert score.correct == (value == 1.0)
    assert words in score.explanation


@pytest.mark.parametrize(
    ("found", "extras", "words"),
    [
        ([CAT, CAR], 0, "all there"),
        ([CAT, CAR, CAT], 1, "all there; also: a second red cat"),
        ([CAT, CAR, Placed("car", "green", 9, 9, 9)], 1, "all there; also: a green car"),
        ([CAT, CAR, Placed("key", "black", 9, 9, 9)], 1, "all there; also: a black key"),
    ],
)
def test_what_nobody_asked_for_is_named_and_leaves_the_score(
    found: list[Placed], extras: int, words: str
) -> None:
    score = compare(LEFT, found)
    assert (score.value, score.correct, score.extras) == (1.0, True, extras)
    assert score.explanation == words


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_judge_finds_what_was_drawn(kind: Kind) -> None:
    for index, scene in enumerate(scenes(kind)[::79]):
        image, placed = draw(scene, index)
        found = {(item.noun, item.colour) for item in segments(image)}
        assert found == {(item.noun, item.colour) for item in placed}
        assert compare(scene, segments(image)).correct


def test_the_second_judge_of_a_brief_without_a_scene_gives_a_reason_not_zero() -> None:
    (score,) = judge_images("a zebra", np.zeros((1, 64, 64, 3), np.uint8))
    assert score.value is None and "nothing" in score.reason


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_all_right_exactly_where_the_picture_is(kind: Kind) -> None:
    pool = scenes(kind)[::61]
    for index, scene in enumerate(pool):
        pictures = np.stack([draw(other, index)[0] for other in (scene, pool[index - 1])])
        for judge in (score_images, judge_images):
            for score in judge(word(scene, np.random.default_rng(index)), pictures):
                assert score.words
                assert all(verdict.ok for verdict in score.words) == score.correct


def test_each_word_is_blamed_for_what_it_asks() -> None:
    picture = draw(Scene((Thing("cat", "blue"), Thing("car", "blue")), "above"), 0)[0]
    [score] = score_images("a red cat left of a blue car", picture[None])
    assert {verdict.word: verdict.ok for verdict in score.words} == {
        "red": False, "cat": True, "left": False, "of": False, "blue": True, "car": True,
    }  # fmt: skip
    assert all((verdict.chance > 0.5) == verdict.ok for verdict in score.words)
