"""The interval of a prediction: as wide as unseen candidates need it to be."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.network import COVERAGE


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
