"""Several scorers that select as one, on real tiny judges and on functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.scorers.function import names_code
from promptprobe.tools.scorers.scorer import open_scorer

IMAGES = [
    Image.linear_gradient("L").convert("RGB").resize((64, 64)),
    Image.new("RGB", (64, 64), "red"),
]


def half(brief: str, image: Any) -> float:
    return 0.5


def says(name: str, score: Score | float) -> Callable[..., Any]:
    """A function of this name that says the same of every picture."""

    def judge(brief: str, image: Any) -> Any:
        return score

    judge.__name__ = name
    return judge


def word(text: str, ok: bool, chance: float) -> Verdict:
    return Verdict(word=text, ok=ok, chance=chance)


def test_the_mean_of_each_value_on_its_judges_usual_range_selects(
    clip_folder: Path, siglip_folder: Path
) -> None:
    clip, siglip, pick = f"clip:{clip_folder}", f"clip:{siglip_folder}", f"pickscore:{clip_folder}"
    alone = [open_scorer(spec)("a red cat", IMAGES) for spec in (clip, siglip, pick)]
    together = open_scorer([clip, siglip, pick, half])
    assert together.name == f"{clip} + {siglip} + {pick} + half"
    for score, *parts in zip(together("a red cat", IMAGES), *alone, strict=True):
        a, b, c = (part.value for part in parts)
        assert a is not None and b is not None and c is not None
        shares = [(a - 0.1) / 0.3, b / 0.2, (c - 17) / 8, 0.5]
        assert score.value == pytest.approx(sum(shares) / 4)
        assert f"{clip} {a:.4g}, {shares[0]:.2f} of 0.1 to 0.4 (CLIP cosine" in score.explanation
        assert f"of 17 to 25 (PickScore {c:.2f}); half 0.5" in score.explanation


def test_one_name_opens_the_same_judges_as_a_list(clip_folder: Path) -> None:
    both = open_scorer(["sprites", f"clip:{clip_folder}"])
    again = open_scorer(both.name)
    assert again.name == both.name
    assert again("a red cat", IMAGES) == both("a red cat", IMAGES)


def test_one_that_is_unknown_or_there_twice_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown scorer 'sprits' \(did you mean 'sprites'"):
        open_scorer("critic:sprites + sprits")
    with pytest.raises(ValueError, match="two judges are called 'sprites'"):
        open_scorer(["sprites", "sprites"])


@pytest.mark.parametrize(
    ("part", "failed", "reason"),
    [
        (says("blind", Score(reason="there is no face")), False, "blind: there is no face"),
        (lambda brief, image: 1 / 0, True, "<lambda> failed: ZeroDivisionError"),
        (
            says("loud", 57.0),
            True,
            "loud gave 57, but when scorers are combined .* must return 0 to 1",
        ),
        (says("cosine", -0.2), True, "cosine gave -0.2"),
    ],
)
def test_a_picture_that_one_cannot_score_is_unscored_with_its_reason(
    part: Any, failed: bool, reason: str
) -> None:
    [score] = open_scorer([half, part])("a", IMAGES[:1])
    assert (score.value, score.failed) == (None, failed)
    assert re.match(reason, score.reason)


def test_a_mean_of_float32_that_is_rounded_beyond_1_is_1() -> None:
    [score] = open_scorer([half, says("mean", 1 + 2**-23)])("a", IMAGES[:1])
    assert score.value == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [(True, True, True), (True, False, False), (True, None, None), (False, None, None)],
)
def test_a_picture_is_correct_where_all_say_so_and_open_where_one_cannot_tell(
    first: bool | None, second: bool | None, together: bool | None
) -> None:
    scores = [Score(value=1, correct=one, extras=at) for at, one in enumerate((first, second), 1)]
    [score] = open_scorer([says("a", scores[0]), says("b", scores[1])])("a", IMAGES[:1])
    assert (score.correct, score.extras) == (together, 2)


def test_words_are_those_of_all_in_the_briefs_order_and_the_stricter_verdict_counts() -> None:
    one = Score(value=1, words=(word("red", True, 0.9), word("Red", True, 0.8)))
    other = Score(value=1, words=(word("CAT", True, 0.7), word("red", False, 0.3)))
    last = Score(value=1, words=(word("zeppelin", True, 1), word("car", True, 1)))
    scorer = open_scorer([says("a", one), says("b", other), says("c", last)])
    [score] = scorer("A red cat and a red car, not a tired one", IMAGES[:1])
    assert score.words == (
        word("red", False, 0.3),
        word("CAT", True, 0.7),
        word("Red", True, 0.8),
        word("car", True, 1),
        word("zeppelin", True, 1),
    )


@pytest.mark.parametrize("spec", ["sprites + python:f.py:g", "ocr +  http://host/", "python:a:b"])
def test_code_and_services_are_known_in_every_place(spec: str) -> None:
    assert names_code(spec)
    assert not names_code("ocr + clip:python + pickscore")
