"""A prediction's scores as sure as its errors allow; its interval as wide as they need it to be."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.network import COVERAGE


def score_scale(
    logit: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"]
) -> tuple[float, float]:
    """Factor and offset of the logits, by least squares of the scores 0 .. 1 that they foretell.

    Platt 1999. Training for rank leaves logits surer than they should be; the order stays as it is.
    """
    scale = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([scale], max_iter=100, line_search_fn="strong_wolfe")

    def error() -> Tensor:
        optimizer.zero_grad()
        wrong: Tensor = (torch.sigmoid(scale[0] * logit + scale[1]) - score).square().mean()
        wrong.backward()
        return wrong

    optimizer.step(error)
    factor, offset = scale.tolist()
    return (factor, offset) if factor > 0 else (1.0, 0.0)


def conformal_margin(
    score: Float[Tensor, " candidate"],
    low: Float[Tensor, " candidate"],
    high: Float[Tensor, " candidate"],
    coverage: float = COVERAGE,
) -> float:
    """How far to move both ends out so that unseen candidates fall inside as often as promised.

    Split-conformal quantile regression: Romano, Patterson and Candes 2019 (arXiv 1905.03222), eq. 6
    and 8. The promise is for one candidate drawn from a new scene, not for a selected one.
    """
    outside = torch.maximum(low - score, score - high).sort().values
    rank = math.ceil((len(outside) + 1) * coverage)
    return float(outside[rank - 1]) if rank <= len(outside) else 1.0


def calibrated(
    score: Float[Tensor, " batch"],
    low: Float[Tensor, " batch"],
    high: Float[Tensor, " batch"],
    margin: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The raw interval, moved out by the margin, within [0, 1] and around the score."""
    return (
        torch.minimum((low - margin).clamp(0, 1), score),
        torch.maximum((high + margin).clamp(0, 1), score),
    )
