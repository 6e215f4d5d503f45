"""Properties that every statistic in the table has, known values, and the page made from them."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from promptprobe.probe import statistics
from promptprobe.probe.statistics import STATISTICS, Statistic

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
N = 3
"""Candidates, words and layers."""
ROWS, COLS = 6, 10

each = pytest.mark.parametrize("statistic", STATISTICS, ids=[row.name for row in STATISTICS])
seeds = st.integers(0, 10**6)
examples = settings(max_examples=20, deadline=None)

MOST = {
    "0 .. 1": 1,
    "0 .. ln RC": math.log(ROWS * COLS),
    "from 0": math.inf,
}

SHARES = {"mass", "peak"}

KNOWN: dict[str, tuple[object, object]] = {
    "mass": (0.5, 0.5 / 256),
    "peak": (0.5, 0.5),
    "spatial_entropy": (math.log(256), 0),
    "focus": (0, 1),
    "gap_rms": (0.5, 0.5 / 16),
    "x0_std": (0, 0.5 * math.sqrt(255) / 256),
}
"""Of inputs that are 0.5 at every place, and at row 3, column 9 alone."""


def random_inputs(seed: int, sharpness: float = 3) -> dict[str, Tensor]:
    """Three words' shares, with two keys more that take some, and latents twice as fine."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(N, N + 2, N, ROWS, COLS, generator=generator) * sharpness
    gap, x0 = torch.randn(2, N, 4, 2 * ROWS, 2 * COLS, generator=generator) * sharpness
    return {"maps": keys.softmax(1)[:, :N], "gap": gap, "x0": x0}


def alike(picture: Tensor) -> dict[str, Tensor]:
    """One candidate, word, layer and channel."""
    one = picture[None, None]
    return {"maps": one[None], "gap": one, "x0": one}


def one_hot(row: int, col: int) -> Tensor:
    picture = torch.zeros(16, 16)
    picture[row, col] = 0.5
    return picture


UNIFORM = torch.full((16, 16), 0.5)


def measure(statistic: Statistic, inputs: dict[str, Tensor]) -> Tensor:
    return statistic.function(**{name: inputs[name] for name in statistic.axes if name in inputs})


def pick(tensor: Tensor, axes: str, wanted: str, places: list[int]) -> Tensor:
    """These places, in this order, along every axis that holds what is wanted."""
    for number, axis in enumerate(axes.split()):
        if axis == wanted:
            tensor = tensor.index_select(number, torch.tensor(places))
    return tensor


@each
@given(seed=seeds, sharpness=st.floats(0, 20))
@examples
def test_a_statistic_keeps_its_range(statistic: Statistic, seed: int, sharpness: float) -> None:
    value = measure(statistic, random_inputs(seed, sharpness))
    assert bool((value >= 0).all())
    assert bool((value <= MOST[statistic.range] + 1e-5).all())


@each
@given(
    seed=seeds,
    axis=st.sampled_from(["batch", "word", "layer"]),
    places=st.lists(st.integers(0, N - 1), min_size=1, unique=True),
)
@examples
def test_candidates_words_and_layers_stand_alone_and_in_any_order(
    statistic: Statistic, seed: int, axis: str, places: list[int]
) -> None:
    inputs = random_inputs(seed)
    picked = {
        name: pick(inputs[name], axes, axis, places)
        for name, axes in statistic.axes.items()
        if name != "return"
    }
    expected = pick(measure(statistic, inputs), statistic.axes["return"], axis, places)
    torch.testing.assert_close(measure(statistic, picked), expected, atol=1e-6, rtol=1e-5)


@each
@given(seed=seeds, attention=st.floats(0.01, 1), latents=st.floats(-10, 10))
@examples
def test_shares_scale_with_attention_companions_with_latents_and_nothing_else_does(
    statistic: Statistic, seed: int, attention: float, latents: float
) -> None:
    inputs = random_inputs(seed)
    companions = {"gap", "x0"}
    scaled = {
        name: value * (latents if name in companions else attention)
        for name, value in inputs.items()
    }
    factor = abs(latents) if companions & set(statistic.axes) else 1.0
    if statistic.name in SHARES:
        factor *= attention
    expected = measure(statistic, inputs) * factor
    torch.testing.assert_close(measure(statistic, scaled), expected, atol=1e-5, rtol=1e-4)


@each
def test_uniform_and_one_hot_pictures_have_known_values(statistic: Statistic) -> None:
    for picture, known in zip((UNIFORM, one_hot(3, 9)), KNOWN[statistic.name], strict=True):
        value = measure(statistic, alike(picture)).squeeze()
        torch.testing.assert_close(value, torch.tensor(known).to(value), atol=1e-5, rtol=0)


@each
def test_nothing_in_is_nought_out(statistic: Statistic) -> None:
    assert not measure(statistic, alike(torch.zeros(16, 16))).any()


# The table


def test_every_public_function_of_tensors_is_in_the_table() -> None:
    helpers = {"distribution", "statistic", "table"}
    functions = inspect.getmembers(statistics, inspect.isfunction)
    here = {name for name, f in functions if f.__module__ == statistics.__name__}
    public = {name for name in here - helpers if not name.startswith("_")}
    assert public == {row.name for row in STATISTICS}


def test_the_page_has_the_table_of_the_code() -> None:
    command = "python -m promptprobe.probe.statistics"
    page = PAGE.read_text()
    table = page.partition(f"<!-- table: {command} -->")[2].partition("<!-- end of table -->")[0]
    assert table.strip() == statistics.table(), f"put what `{command}` prints into {PAGE}"
