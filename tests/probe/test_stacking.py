"""Stacking: two views of a candidate become one that is no worse than either."""

from __future__ import annotations

import torch

from promptprobe.probe.stacking import Stack, fit_stack


def views(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The network's view, the preview's, the score that both see half of, eight seeds a prompt."""
    half, other, error = torch.randn(3, count, generator=torch.Generator().manual_seed(seed))
    score = torch.sigmoid(half + other + 0.3 * error)
    network, preview = torch.sigmoid(half), torch.sigmoid(3 * other)
    return network, preview, score, torch.arange(count) // 8


def right(guess: torch.Tensor, score: torch.Tensor) -> float:
    """Share of pairs in the right order."""
    above = score[:, None] > score[None]
    return float((guess[:, None] > guess[None])[above].float().mean())


def test_on_fresh_candidates_both_views_together_rank_better_than_either() -> None:
    stack = fit_stack(*views(800, seed=0))
    network, preview, score, _ = views(400, seed=1)
    joined = stack(network, preview)
    assert right(joined, score) > max(right(network, score), right(preview, score)) + 0.1
    assert float((joined - score).square().mean()) < float((network - score).square().mean())


def test_a_preview_that_says_nothing_is_given_no_weight() -> None:
    network, _, score, group = views(800, seed=0)
    stack = fit_stack(network, torch.rand(800), score, group)
    assert abs(stack.preview) < 0.3 < stack.network


def test_a_network_that_is_sure_leaves_the_score_finite() -> None:
    joined = Stack(network=1.0, preview=1.0, offset=0.0)(torch.tensor([0.0, 1.0]), torch.ones(2))
    assert joined.isfinite().all()
    assert joined[0] < joined[1]
