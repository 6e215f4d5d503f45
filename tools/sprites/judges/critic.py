"""How well formed a Sprites picture is, whatever it shows: 1 is a clean drawing, 0 a wreck.

It never reads the brief. Trained by train/critic.py on drawings spoiled in known ways, and on what
the model makes of noise midway.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from promptprobe.tools.records import Score
from promptprobe.tools.sprites import WEIGHTS
from promptprobe.tools.sprites.judges.detector import Residual


class Critic(nn.Module):
    """Pixels in [-1, 1] to the logit of how well formed the picture is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            Residual(16),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            Residual(32),
            Residual(32, 2),
            nn.GroupNorm(8, 32),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 1)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        seen = self.body(images)
        logit: Tensor = self.head(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return logit.squeeze(1)


@cache
def load_critic(path: Path = WEIGHTS / "critic.safetensors") -> Critic:
    model = Critic()
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def score_images(images: np.ndarray) -> list[Score]:
    """uint8 [image, 64, 64, 3] to a score each, 0 .. 1."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return [
        Score(value=value, explanation=f"well formed: {value:.2f}")
        for value in load_critic()(pixels).sigmoid().tolist()
    ]
