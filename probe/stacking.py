"""The network's view and the scorer's view of the x0 preview, joined into one score.

They err on different candidates: together they rank the seeds of a prompt better than either.
Three numbers, fitted on candidates that the network did not learn from (stacking, Wolpert 1992).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from promptprobe.probe.losses import score_loss

EDGE = 1e-6
"""Shares closer to 0 or 1 than this are taken to be this far from it: their logits are finite."""


class Stack(BaseModel):
    """logit of the joined score = network x logit of the network + preview x preview + offset."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: float = Field(ge=0)
    preview: float
    offset: float

    def __call__(
        self, share: Float[Tensor, " batch"], preview: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """The network's score, or an end of its interval, together with the preview's score."""
        logit = torch.logit(share, EDGE)
        return torch.sigmoid(self.network * logit + self.preview * preview + self.offset)


def fit_stack(
    network: Float[Tensor, " batch"],
    preview: Float[Tensor, " batch"],
    score: Float[Tensor, " batch"],
    group: Int[Tensor, " batch"],
) -> Stack:
    """The three numbers with the least `score_loss`. network, preview, score: in [0, 1]."""
    inputs = torch.stack([torch.logit(network, EDGE), preview, torch.ones_like(preview)])
    weights = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = score_loss(weights @ inputs, score, group)
        value.backward()
        return value

    solver.step(closure)
    slope, seen, offset = weights.tolist()
    return Stack(network=max(0.0, slope), preview=seen, offset=offset)
