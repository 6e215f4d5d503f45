"""Properties of the statistics: ranges, uniform and one-hot maps, permutation, scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptprobe.probe.statistics import (
    drift,
    focus,
    mass,
    overlap,
    peak,
    spatial_entropy,
    spread,
)

PER_MAP = [mass, peak, spatial_entropy, focus, spread]


def random_maps(seed: int, words: int = 3, sharpness: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, words + 2, 2, 16, 16, generator=generator) * sharpness
    return keys.softmax(1)[:, :words]


def one_hot(row: int, col: int) -> Tensor:
    maps = torch.zeros(1, 1, 1, 16, 16)
    maps[..., row, col] = 0.5
    return maps


UNIFORM = torch.full((1, 1, 1, 16, 16), 0.25)


@given(st.integers(0, 10**6), st.floats(0, 20))
@settings(max_examples=30, deadline=None)
def test_every_statistic_keeps_its_range(seed: int, sharpness: float) -> None:
    maps = random_maps(seed, sharpness=sharpness)
    most = {mass: 1, peak: 1, spatial_entropy: math.log(256), focus: 1, spread: 0.75}
    for statistic, limit in most.items():
        value = statistic(maps)
        assert value.shape == (2, 3, 2)
        assert bool((value >= -1e-6).all())
        assert bool((value <= limit + 1e-5).all())
    for value in (overlap(maps), drift(maps, random_maps(seed + 1))):
        assert bool((value >= 0).all())
        assert bool((value <= 1 + 1e-5).all())


@given(st.integers(0, 10**6), st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_words_may_come_in_any_order(seed: int, order: list[int]) -> None:
    maps = random_maps(seed)
    for statistic in PER_MAP:
        assert torch.allclose(statistic(maps[:, order]), statistic(maps)[:, order], atol=1e-6)
    expected = overlap(maps)[:, order][:, :, order]
    assert torch.allclose(overlap(maps[:, order]), expected, atol=1e-6)


@pytest.mark.parametrize("statistic", [spatial_entropy, focus, spread])
def test_where_a_word_looks_does_not_depend_on_how_much(
    statistic: Callable[[Tensor], Tensor],
) -> None:
    maps = random_maps(0)
    assert torch.allclose(statistic(maps), statistic(maps * 0.01), atol=1e-4)


def test_a_uniform_map_has_no_focus_and_the_greatest_entropy() -> None:
    assert mass(UNIFORM).item() == pytest.approx(0.25)
    assert peak(UNIFORM).item() == pytest.approx(0.25)
    assert spatial_entropy(UNIFORM).item() == pytest.approx(math.log(256), abs=1e-4)
    assert focus(UNIFORM).item() == pytest.approx(0, abs=1e-5)
    assert spread(UNIFORM).item() == pytest.approx(math.sqrt(2 * (256 - 1) / 12) / 16, abs=1e-5)


def test_a_one_hot_map_is_in_full_focus() -> None:
    maps = one_hot(3, 9)
    assert mass(maps).item() == pytest.approx(0.5 / 256)
    assert peak(maps).item() == 0.5
    assert spatial_entropy(maps).item() == pytest.approx(0, abs=1e-6)
    assert focus(maps).item() == 1
    assert spread(maps).item() == pytest.approx(0, abs=1e-6)


def test_two_places_half_a_map_apart_spread_by_a_quarter() -> None:
    maps = one_hot(4, 2) + one_hot(4, 10)
    assert spread(maps).item() == pytest.approx(0.25)
    assert spread(maps.transpose(-1, -2)).item() == pytest.approx(0.25)


def test_no_attention_at_all_is_no_focus() -> None:
    assert focus(torch.zeros(1, 1, 1, 16, 16)).item() == 0


def test_overlap_is_one_with_itself_and_zero_apart() -> None:
    maps = torch.cat([one_hot(1, 1), one_hot(9, 9), one_hot(1, 1)], 1)
    expected = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert torch.allclose(overlap(maps)[0, :, :, 0], expected)


def test_drift_is_nought_in_place_and_one_when_the_word_moved() -> None:
    assert drift(one_hot(1, 1), one_hot(1, 1) / 3).item() == pytest.approx(0)
    assert drift(one_hot(1, 1), one_hot(2, 1)).item() == pytest.approx(1)
    assert drift(UNIFORM, one_hot(2, 1)).item() == pytest.approx(255 / 256)
