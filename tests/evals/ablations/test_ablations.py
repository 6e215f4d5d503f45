"""What the variants of our network change, and that they change nothing else."""

from __future__ import annotations

import pytest
import torch

from promptprobe.evals.ablations.ablations import ABLATIONS, listwise
from promptprobe.probe.training.dataset import Splits
from tests.probe.planted import planted


def test_listwise_wants_the_best_seed_of_each_prompt_ahead() -> None:
    score = torch.tensor([1.0, 0.0, 0.2, 0.9])
    group = torch.tensor([0, 0, 1, 1])
    right, wrong = (listwise(x * score, score, group) for x in (5.0, -5.0))
    assert right < wrong
    moved = 5 * score + torch.tensor([3.0, 3.0, 0.0, 0.0])  # a whole prompt
    assert listwise(moved, score, group).item() == pytest.approx(right.item(), abs=1e-5)


def test_a_coarser_grid_keeps_each_place_s_mean() -> None:
    examples = planted(3)
    maps = ABLATIONS["... maps of 8 x 8"].inputs(examples).maps.float()
    assert torch.equal(maps[..., ::2, ::2], maps[..., 1::2, 1::2])
    assert torch.allclose(maps.mean((-2, -1)), examples.maps.float().mean((-2, -1)), atol=1e-3)


def test_the_halves_of_the_layers_are_all_of_them() -> None:
    examples = planted(3)
    first, second = (
        ABLATIONS[f"... the {half} half of the layers"].inputs(examples).maps
        for half in ("first", "second")
    )
    assert torch.equal(first + second, examples.maps)
    assert first.any() and second.any()


def test_fewer_prompts_leave_the_others_of_validation_alone() -> None:
    splits = Splits([[at] for at in range(8)], [[8]], [[9]])
    few = ABLATIONS["... a quarter of the prompts"].taught(splits)
    assert few == Splits([[0], [4]], [[8]], [[9]])
