"""What a prediction is trained for: scores, their order within a prompt, and words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptprobe.probe.model.network import COVERAGE, Output

Ranking = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits, scores and groups of a batch to a loss of their order within each group."""
Objective = Callable[[Output, Tensor, Tensor, Tensor], Tensor]
"""Output, scores, words and groups of a batch to a loss: `loss`, or a variant of it."""

RANKING = 0.5
"""Weight of the ranking loss, next to the MSE."""
SHARPNESS = 2.0
"""Logits between two seeds count this much in the ranking loss."""
WORDS = 0.5
"""Weight of the words' cross-entropy."""
TAIL = (1 - COVERAGE) / 2


def pairwise(
    logit: Float[Tensor, " batch"], score: Float[Tensor, " batch"], group: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """RankNet (Burges 2005): a pair counts by how far apart its scores are, and ties do not."""
    apart = (score[:, None] - score[None]).clamp_min(0) * (group[:, None] == group[None])
    ahead = logit[:, None] - logit[None]
    return (apart * F.softplus(-SHARPNESS * ahead)).sum() / apart.sum().clamp_min(1)


def loss(
    output: Output,
    scores: Float[Tensor, "batch target"],
    words: Float[Tensor, "batch word"],
    group: Int[Tensor, " batch"],
    ranking: Ranking | None = pairwise,
    of_words: float = WORDS,
) -> Float[Tensor, ""]:
    """Loss of scores on their targets' scale 0 .. 1, and of words drawn (1) or not (0); nan: none.

    Args:
        ranking: of scores within a prompt, added to their MSE; None leaves it out.
        of_words: weight of the words.
    """
    parts = [output.logit.new_zeros(())]
    for at, score in enumerate(scores.unbind(1)):
        known = ~score.isnan()
        if known.any():
            logit, low, high = (x[known, at] for x in (output.logit, output.low, output.high))
            parts.append(score_loss(logit, low, high, score[known]))
            if ranking:
                parts.append(RANKING * ranking(logit, score[known], group[known]))
    if of_words and (known := ~words.isnan()).any():
        drawn = F.binary_cross_entropy_with_logits(output.words[known], words[known])
        parts.append(of_words * drawn)
    return torch.stack(parts).sum()


def score_loss(
    logit: Float[Tensor, " batch"],
    low: Float[Tensor, " batch"],
    high: Float[Tensor, " batch"],
    score: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """MSE of the score, as in the paper; both quantiles (pinball)."""
    mse = F.mse_loss(torch.sigmoid(logit), score)
    under, over = score - torch.sigmoid(low), score - torch.sigmoid(high)
    quantiles = torch.maximum(TAIL * under, (TAIL - 1) * under) + torch.maximum(
        (1 - TAIL) * over, -TAIL * over
    )
    return mse + quantiles.mean()
