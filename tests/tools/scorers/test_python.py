"""Judges that are the caller's own Python: what they may return, and how they may fail."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptprobe.tools.records import Score
from promptprobe.tools.scorers.function import open_function
from promptprobe.tools.scorers.scorer import open_scorer

IMAGES = [Image.new("RGB", (4, 4), (level,) * 3) for level in (10, 20)]
OWN = """
def brightness(brief, image):
    return image.getpixel((0, 0))[0] / 255

def many(brief, images):
    return [image.getpixel((0, 0))[0] for image in images]

number = 5
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "judge.py"
    path.write_text(OWN)
    return path


def test_a_function_of_a_file_scores_one_image_or_all_at_once(own: Path) -> None:
    one, many = open_scorer(f"python:{own}:brightness"), open_scorer(f"python:{own}:many")
    assert [score.value for score in one("a", IMAGES)] == [10 / 255, 20 / 255]
    assert [score.value for score in many("a", IMAGES)] == [10, 20]
    assert one.name == f"python:{own}:brightness"


def test_a_function_of_a_module_is_found_by_its_dotted_name() -> None:
    [score] = open_scorer("python:operator:countOf")("aba", ["a"])  # type: ignore[list-item]
    assert score.value == 2


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("judge.py", "expected python:FILE.py:FUNCTION"),
        ("none.py:score", "there is no file none.py"),
        ("no.such.module:score", "cannot be imported: ModuleNotFoundError"),
        ("operator:nothing", "operator has no nothing"),
    ],
)
def test_what_cannot_be_found_is_one_clear_line(spec: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_scorer(f"python:{spec}")


def test_what_is_no_function_or_fails_at_import_is_one_clear_line(
    own: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is int; expected a function"):
        open_scorer(f"python:{own}:number")
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    with pytest.raises(ValueError, match="cannot be imported: SystemExit"):
        open_scorer(f"python:{tmp_path / 'broken.py'}:score")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "expected a finite number, got nan"),
        ("0.5", "expected a number or a Score, got str '0.5'"),
        (None, "expected a number or a Score, got NoneType None"),
        (np.zeros((2, 3)), "got ndarray of shape (2, 3)"),
        ([1.0], "got list [1.0]"),
    ],
)
def test_what_is_no_number_leaves_an_image_unscored(value: Any, says: str) -> None:
    [score] = open_scorer(lambda brief, image: value)("a", IMAGES[:1])
    assert score.value is None
    assert says in score.reason


@pytest.mark.parametrize("value", [np.float32(0.5), np.array([0.5]), Score(value=0.5), 0.5])
def test_numbers_of_every_kind_are_numbers(value: Any) -> None:
    [score] = open_scorer(lambda brief, image: value)("a", IMAGES[:1])
    assert score.value == 0.5


def test_a_function_that_hangs_is_waited_for_once() -> None:
    never, asked = threading.Event(), []

    def hangs(brief: str, image: Any) -> float:
        asked.append(image)
        never.wait()
        return 1.0

    judge = open_function(hangs, patience=0.05)
    scores = judge.score_images("a", IMAGES)
    never.set()
    assert len(asked) == 1
    assert [score.reason for score in scores] == [
        "hangs failed: TimeoutError: no answer within 0.05 s, and it is asked no more"
    ] * 2


def test_a_wrong_signature_is_found_on_noise() -> None:
    with pytest.raises(ValueError, match=r"image of noise.*positional argument.*Expected a funct"):
        open_scorer(lambda image: 1.0).check("a cat")


def test_a_function_may_decline_noise_with_a_reason_of_its_own() -> None:
    open_scorer(lambda brief, image: Score(reason="there is no face")).check("a face")
    open_scorer(lambda brief, image: 0.0).check("a face")
