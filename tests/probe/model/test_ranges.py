"""A card's ranges: other settings are taken where the probe was validated, and only there."""

from __future__ import annotations

import re

import pytest

from promptprobe.probe.model.card import (
    SETTINGS,
    Check,
    ModelSpec,
    ProbeError,
    Ranges,
    Setting,
    check,
    ranges_of,
)
from promptprobe.probe.model.network import NetworkConfig
from tests.probe.planted import FACTS, a_card

SHAPE = NetworkConfig(layers=2, channels=2, dim=8, windows=2, targets=2, width=8)
WIDE = Ranges(steps=(15, 50), guidance=(1.0, 5.0), height=(48, 96), width=(64, 96))


def even(steps: int, extra: int = 0) -> ModelSpec:
    """As FACTS, in other steps; extra evaluations stand where the first step does."""
    path = (999.0,) * extra + tuple(999 - 1000 / steps * step for step in range(steps))
    return FACTS.model_copy(update={"steps": steps, "timesteps": path})


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_within_its_range_is_accepted_and_one_outside_refused_with_both(
    name: Setting,
) -> None:
    card = a_card(SHAPE).model_copy(update={"ranges": WIDE})
    low, high = getattr(WIDE, name)
    for value in (low, high):
        check(card, FACTS.model_copy(update={name: value}))
    for value in (low - 1, high + 1):
        found = f"validated for {name} {low} to {high}, but the model in use has {value};"
        with pytest.raises(ProbeError, match=re.escape(found) + rf".*--also {name}={value}"):
            check(card, FACTS.model_copy(update={name: value}))


def test_timesteps_are_compared_where_they_follow_from_the_same_settings() -> None:
    card = a_card(SHAPE).model_copy(update={"ranges": WIDE})
    check(card, even(15))
    other = FACTS.model_copy(update={"guidance": 4.0, "timesteps": even(25, 1).timesteps})
    with pytest.raises(ProbeError, match="made for timesteps"):
        check(card, other)


def test_with_other_steps_the_window_at_the_nearest_noise_level_is_asked() -> None:
    """Its windows, 2 and 5 of 25 steps, stood at 959 and 839 of 999."""
    card = a_card(SHAPE)
    assert [card.window_for(k, even(15)) for k in (1, 2, 3, 4)] == [2, 2, 5, 5]
    assert [card.window_for(k, even(50)) for k in (1, 6, 7, 50)] == [2, 2, 5, 5]
    assert [card.window_for(k, even(15, 9)) for k in (1, 2, 3, 4)] == [2, 2, 5, 5]


def test_with_its_own_steps_only_its_own_windows_are_asked() -> None:
    card = a_card(SHAPE)
    assert [card.window_for(k, FACTS) for k in (2, 5)] == [2, 5]
    with pytest.raises(ProbeError, match="trained to see 2, 5 steps, but 3 are probed"):
        card.window_for(3, FACTS)


def test_ranges_stretch_to_the_farthest_value_before_one_that_fails() -> None:
    def found(setting: Setting, value: float, holds: bool) -> Check:
        figures = dict.fromkeys(
            ("within_pairwise", "within_pairwise_home", "coverage", "interval_width")
        )
        return Check(setting=setting, value=value, holds=holds, candidates=0, **figures)

    checks = (
        found("steps", 100, True),
        found("steps", 15, True),
        found("steps", 50, False),
        found("steps", 40, True),
        found("steps", 20, True),
        found("guidance", 1.0, False),
        found("height", 96, True),
    )
    ranges = ranges_of(FACTS, checks)
    assert (ranges.steps, ranges.guidance) == ((15, 40), (3.0, 3.0))
    assert (ranges.height, ranges.width) == ((64, 96), (64, 64))
