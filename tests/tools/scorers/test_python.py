"""Judges that are the caller's own Python: what they may return, and how they may fail."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
    [score] = open_scorer("python:operator:ne")("a", IMAGES[:1])
    assert score.value == 1


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
        ({"value": 0.5}, "got dict {'value': 0.5}"),
        (torch.zeros(2), "got Tensor of shape (2,)"),
        (np.array(["0.5"]), "expected a number or a Score, got ndarray of shape (1,)"),
        (1j, "got complex 1j"),
    ],
)
def test_what_is_no_number_leaves_an_image_unscored(value: Any, says: str) -> None:
    [score] = open_scorer(lambda brief, image: value)("a", IMAGES[:1])
    assert score.value is None
    assert says in score.reason


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.5),
        np.array([[0.5]]),
        torch.tensor(0.5, requires_grad=True),
        torch.tensor([[0.5]], dtype=torch.bfloat16),
        Decimal("0.5"),
        Score(value=0.5),
        0.5,
    ],
)
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
        "hangs failed: TimeoutError: no answer within 0.05 s, so it is not called again"
    ] * 2


def test_a_wrong_signature_is_found_on_noise() -> None:
    with pytest.raises(ValueError, match=r"image of noise.*positional argument.*Expected a funct"):
        open_scorer(lambda image: 1.0).check("a cat")


def test_a_function_may_decline_noise_with_a_reason_of_its_own() -> None:
    open_scorer(lambda brief, image: Score(reason="there is no face")).check("a face")
    open_scorer(lambda brief, image: 0.0).check("a face")


@pytest.mark.parametrize("value", [True, np.bool_(True)])
def test_yes_is_1(value: Any) -> None:
    [score] = open_scorer(lambda brief, image: value)("a", IMAGES[:1])
    assert score.value == 1


def test_of_a_list_one_bad_value_costs_one_score() -> None:
    first, second = open_scorer(lambda brief, images: (x for x in [0.5, None]))("a", IMAGES)
    assert first.value == 0.5
    assert "expected a number or a Score, got NoneType None" in second.reason


def test_one_that_scores_the_first_of_a_list_alone_is_found_on_noise() -> None:
    def first(brief: str, images: Any) -> list[float]:
        return [images[0].width / 1000]

    judges: list[Any] = [first, ["critic:sprites", first]]
    for judge in judges:
        with pytest.raises(ValueError, match=r"image of noise.* first returned 1 scores for 2 im"):
            open_scorer(judge).check("a cat")


@pytest.mark.parametrize("value", [{0: 0.5, 1: 0.7}, {0.5, 0.7}, 0.5, np.array(0.5), "ab"])
def test_what_has_no_order_is_no_list(value: Any) -> None:
    scores = open_scorer(lambda brief, images: value)("a", IMAGES)
    assert {score.value for score in scores} == {None}
    assert "expected a list of 2 numbers, got" in scores[0].reason


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_no_error_of_a_function_ends_the_process(error: type[BaseException]) -> None:
    def leaves(brief: str, image: Any) -> float:
        raise error

    [score] = open_scorer(leaves)("a", IMAGES[:1])
    assert score.reason.startswith(f"leaves failed: RuntimeError: {error.__name__}")


def test_what_a_function_does_to_its_picture_nobody_else_sees() -> None:
    picture = Image.new("RGB", (64, 64))

    def shrinks(brief: str, image: Image.Image) -> float:
        image.thumbnail((1, 1))
        image.close()
        return 0.5

    def shrink_all(brief: str, images: list[Image.Image]) -> list[float]:
        return [shrinks(brief, image) for image in images]

    for judge in (shrinks, shrink_all):
        assert open_scorer(judge)("a", [picture])[0].value == 0.5
    assert picture.size == (64, 64)


async def awaits(brief: str, image: Any) -> float:
    return 0.5


async def awaits_all(brief: str, images: Any) -> list[float]:
    return [0.5]


def keywords(*, brief: str, image: Any) -> float:
    return 0.5


def swapped(image: Any, brief: str) -> float:
    return float(image.width)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (awaits, "it is an async function, but a judge is not awaited"),
        (awaits_all, "it is an async function, but a judge is not awaited"),
        (keywords, "takes 0 positional arguments"),
        (swapped, "'str' object has no attribute 'width'"),
    ],
)
def test_how_a_judge_is_called_is_said_where_a_function_is_made_otherwise(
    function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(ValueError, match=rf"{says}.*\. Expected a function of \(brief, image\)"):
        open_scorer(function).check("a cat")


class Reader:
    """A judge that was loaded once."""

    def __call__(self, brief: str, images: list[Any]) -> list[float]:
        return [0.5] * len(images)

    def light(self, brief: str, image: Any) -> float:
        return 0.25


def weighed(weight: float, brief: str, image: Any) -> float:
    return weight


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*given: Any) -> Any:
        return function(*given)

    return inner


@pytest.mark.parametrize(
    ("judge", "name", "value"),
    [
        (Reader(), "Reader", 0.5),
        (Reader().light, "light", 0.25),
        (functools.partial(weighed, 0.75), "weighed", 0.75),
        (decorated(Reader().__call__), "__call__", 0.5),
    ],
)
def test_all_that_can_be_called_judges_under_its_own_name(
    judge: Callable[..., Any], name: str, value: float
) -> None:
    scorer = open_scorer(judge)
    assert scorer.name == name
    assert [score.value for score in scorer("a", IMAGES)] == [value, value]


def test_a_class_is_no_judge_until_there_is_one_of_it() -> None:
    with pytest.raises(ValueError, match="Reader is a class: give an instance of it"):
        open_scorer(Reader)


# files


def test_a_file_finds_what_lies_next_to_it_and_may_hold_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "of_a_judges_own.py").write_text("LEVEL = 0.25")
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from of_a_judges_own import LEVEL\n"
        "@dataclass\nclass Judge:\n    level: float\n"
        "    def __call__(self, brief, image):\n        return self.level\n"
        "judge = Judge(LEVEL)\n"
    )
    [score] = open_scorer(f"python:{tmp_path / 'own.py'}:judge")("a", IMAGES[:1])
    assert score.value == 0.25


def test_a_file_in_the_home_folder_is_found(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own.parent))
    assert open_scorer("python:~/judge.py:many")("a", IMAGES)[1].value == 20


def test_a_module_of_the_folder_that_we_stand_in_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package_of_a_judge").mkdir()
    (tmp_path / "package_of_a_judge/own.py").write_text("from .level import f")
    (tmp_path / "package_of_a_judge/level.py").write_text("def f(brief, image):\n    return 0.5")
    monkeypatch.chdir(tmp_path)
    [score] = open_scorer("python:package_of_a_judge.own:f")("a", IMAGES[:1])
    assert score.value == 0.5
    with pytest.raises(ValueError, match=r"relative import.*name it as python:PACKAGE.MODULE"):
        open_scorer("python:package_of_a_judge/own.py:f")


def test_a_file_is_read_as_it_is_now_whatever_its_date(own: Path) -> None:
    spec, date = f"python:{own}:number", own.stat()
    for level in ("0.1", "0.9"):
        own.write_text(f"def number(brief, image):\n    return {level}\n")
        os.utime(own, ns=(date.st_atime_ns, date.st_mtime_ns))
        assert open_scorer(spec)("a", IMAGES[:1])[0].value == float(level)
    assert not (own.parent / "__pycache__").exists()
