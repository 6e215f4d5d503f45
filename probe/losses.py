"""What a prediction is trained for: close to the score, and in the right order within a prompt."""

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
TAIL = (1 - COVERAGE) / 2


def score_loss(
    logit: Float[Tensor, " batch"], score: Float[Tensor, " batch"], group: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """MSE of the score, as in the paper, and its rank within each group (RankNet, Burges 2005).

    A pair counts by how far apart its scores are; ties do not.
    """
    mse = F.mse_loss(torch.sigmoid(logit), score)
    apart = (score[:, None] - score[None]).clamp_min(0) * (group[:, None] == group[None])
    ahead = logit[:, None] - logit[None]
    ranking = (apart * F.softplus(-SHARPNESS * ahead)).sum() / apart.sum().clamp_min(1)
    return mse + RANKING * ranking


def loss(
    output: Output, score: Float[Tensor, " batch"], group: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """`score_loss`, and the pinball loss of both quantiles of the interval."""
    low, high = score - output.low, score - output.high
    quantiles = torch.maximum(TAIL * low, (TAIL - 1) * low) + torch.maximum(
        (1 - TAIL) * high, -TAIL * high
    )
    return score_loss(output.logit, score, group) + quantiles.mean()
