"""Calibration of the network's output: scores are rescaled and intervals widened.

Each number of steps and each target has its own, fitted on candidates that the network was not
trained on.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from promptprobe.probe.model.network import COVERAGE


class Calibration(BaseModel):
    """Turns the network's logits into a score and its interval, as shares of the target's scale."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: float = Field(1.0, gt=0, description="multiplies the score's logit")
    offset: float = Field(0.0, description="added to the scaled logit")
    margin: float = Field(0.0, description="how far both ends of the interval are moved outward")

    def of(
        self,
        logit: Float[Tensor, " batch"],
        low: Float[Tensor, " batch"],
        high: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Score, low and high end from the network's logits; the score lies between the ends."""
        score, low, high = map(torch.sigmoid, (self.factor * logit + self.offset, low, high))
        return (
            score,
            torch.minimum((low - self.margin).clamp(0, 1), score),
            torch.maximum((high + self.margin).clamp(0, 1), score),
        )


def score_scale(
    logit: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"]
) -> tuple[float, float]:
    """Factor and offset of the logits, by least squares on the scores 0 .. 1 that they predict.

    Platt 1999. Training for rank leaves the logits overconfident; the order does not change.
    """
    scale = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([scale], max_iter=100, line_search_fn="strong_wolfe")

    def error() -> Tensor:
        optimizer.zero_grad()
        mse: Tensor = (torch.sigmoid(scale[0] * logit + scale[1]) - score).square().mean()
        mse.backward()
        return mse

    optimizer.step(error)
    factor, offset = scale.tolist()
    return (factor, offset) if factor > 0 else (1.0, 0.0)


def conformal_margin(
    score: Float[Tensor, " candidate"],
    low: Float[Tensor, " candidate"],
    high: Float[Tensor, " candidate"],
) -> float:
    """How far to move both ends outward to reach the promised coverage on unseen candidates.

    Split-conformal quantile regression: Romano, Patterson and Candes 2019 (arXiv 1905.03222), eq. 6
    and 8. The coverage holds for one candidate drawn from a new scene, not for a selected one.
    """
    outside = torch.maximum(low - score, score - high).sort().values
    rank = math.ceil((len(outside) + 1) * COVERAGE)
    return float(outside[rank - 1]) if rank <= len(outside) else 1.0
