"""What a prediction is trained for: scores, their order within a prompt, and words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptprobe.probe.network import COVERAGE, Output

RANKING = 0.5
"""Weight of the ranking loss beside the MSE."""
SHARPNESS = 2.0
"""Logits between two seeds count this much in the ranking loss."""
WORDS = 0.5
"""Weight of the words' cross-entropy."""
TAIL = (1 - COVERAGE) / 2


def loss(
    output: Output,
    scores: Float[Tensor, "batch target"],
    words: Float[Tensor, "batch word"],
    group: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Of scores on their targets' scale 0 .. 1, and of words drawn (1) or not (0); nan: unknown."""
    parts = []
    for at, score in enumerate(scores.unbind(1)):
        known = ~score.isnan()
        if known.any():
            logit, low, high = (x[known, at] for x in (output.logit, output.low, output.high))
            parts.append(score_loss(logit, low, high, score[known], group[known]))
    if (known := ~words.isnan()).any():
        drawn = F.binary_cross_entropy_with_logits(output.words[known], words[known])
        parts.append(WORDS * drawn)
    return torch.stack(parts).sum()


def score_loss(
    logit: Float[Tensor, " batch"],
    low: Float[Tensor, " batch"],
    high: Float[Tensor, " batch"],
    score: Float[Tensor, " batch"],
    group: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """MSE of the score, as in the paper; its rank within each group (RankNet, Burges 2005), where a
    pair counts by how far apart its scores are and ties do not; both quantiles (pinball)."""
    mse = F.mse_loss(torch.sigmoid(logit), score)
    apart = (score[:, None] - score[None]).clamp_min(0) * (group[:, None] == group[None])
    ahead = logit[:, None] - logit[None]
    ranking = (apart * F.softplus(-SHARPNESS * ahead)).sum() / apart.sum().clamp_min(1)
    under, over = score - low, score - high
    quantiles = torch.maximum(TAIL * under, (TAIL - 1) * under) + torch.maximum(
        (1 - TAIL) * over, -TAIL * over
    )
    return mse + RANKING * ranking + quantiles.mean()
