"""Other settings to validate for: each a collection of its own, and impossible ones refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptprobe.tools.collect.collector import Collector
from promptprobe.tools.collect.other_settings import open_others, rescaled
from promptprobe.tools.models.model import Model, open_model
from promptprobe.tools.records import Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import settings_of
from tests.images import brightness


@pytest.fixture(scope="module")
def model(ddim_folder: Path) -> Model:
    return open_model(ddim_folder, Generation(steps=10, guidance=3))


@pytest.fixture(scope="module")
def home(model: Model) -> Collector:
    settings = settings_of(model.generation)
    return Collector(model.name, model.family, settings, (1, 2, 4), (open_scorer(brightness),))


def test_each_setting_is_changed_alone_and_windows_keep_their_shares(
    model: Model, home: Collector
) -> None:
    also = ("steps=20", "guidance=1", "height=64", "steps=20")
    steps, guidance, height = open_others(home, model.generation, also)
    assert [one.folder for one in (steps, guidance, height)] == [
        "steps-20", "guidance-1", "height-64",
    ]  # fmt: skip
    assert (steps.collector.settings.steps, steps.collector.settings.guidance) == (20, 3)
    assert (guidance.collector.settings.steps, guidance.collector.settings.guidance) == (10, 1)
    assert (height.collector.settings.height, height.collector.settings.width) == (64, 32)
    assert steps.collector.windows == (2, 4, 8)
    assert guidance.collector.windows == height.collector.windows == home.windows


def test_windows_of_few_steps_come_together_and_end_before_the_picture() -> None:
    assert rescaled((1, 2, 3, 5, 8, 10), 25, 50) == (2, 4, 6, 10, 16, 20)
    assert rescaled((1, 2, 3, 5, 8, 10), 25, 5) == (1, 2)
    assert rescaled((8, 9), 10, 2) == (1,)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("steps", "one of steps, guidance, height, width, with its value .* got 'steps'"),
        ("sampler=3", "got 'sampler=3'"),
        ("steps=1", "steps=1: expected at least 2 steps"),
        ("steps=many", "steps=many: .*valid integer"),
        ("steps=10", "steps=10: this is the value that the probe is made with"),
        ("guidance=3.0", "guidance=3.0: this is the value that the probe is made with"),
        ("guidance=nan", "guidance=nan: Input should be"),
        ("height=33", "height=33: .*33"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(
    model: Model, home: Collector, spec: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        open_others(home, model.generation, [spec])


def test_more_settings_than_a_card_holds_are_refused(model: Model, home: Collector) -> None:
    with pytest.raises(ValueError, match="expected at most 64 settings to validate for, got 65"):
        open_others(home, model.generation, [f"steps={steps}" for steps in range(20, 85)])
