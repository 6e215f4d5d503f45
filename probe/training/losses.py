"""The training loss: scores, their order within a prompt, and words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from promptprobe.probe.model.network import COVERAGE, Output

Ranking = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps logits, scores and groups of a batch to a loss of the order within each group."""
Objective = Callable[[Output, Tensor, Tensor, Tensor], Tensor]
"""Maps output, scores, words and groups of a batch to a loss: `loss`, or a variant of it."""

RANKING = 0.5
"""Weight of the ranking loss relative to the MSE."""
SHARPNESS = 2.0
"""Factor of the difference between two seeds' logits in the ranking loss."""
WORDS = 0.5
"""Weight of the words' cross-entropy."""
TAIL = (1 - COVERAGE) / 2


def pairwise(
    logit: Float[Tensor, " batch"], score: Float[Tensor, " batch"], group: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """RankNet (Burges 2005), with each pair weighted by the difference of its scores."""
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
    """Loss of scores on their targets' scale 0 .. 1 and of words drawn (1) or not (0).

    Labels that are nan are left out.

    Args:
        ranking: loss of the order within a prompt, added to the MSE; None leaves it out.
        of_words: weight of the words' cross-entropy.
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
    """MSE of the score, as in Diffusion Probe, and the pinball loss of both quantiles."""
    mse = F.mse_loss(torch.sigmoid(logit), score)
    under, over = score - torch.sigmoid(low), score - torch.sigmoid(high)
    quantiles = torch.maximum(TAIL * under, (TAIL - 1) * under) + torch.maximum(
        (1 - TAIL) * over, -TAIL * over
    )
    return mse + quantiles.mean()
