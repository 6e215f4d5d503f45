"""Scores how well formed a Sprites picture is, whatever it shows: 1 is clean, 0 is ruined.

It never reads the brief. It is trained by train/critic.py on drawings that are spoiled in known
ways, and on the model's x0 predictions from noisy drawings.
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
    """Maps pixels in [-1, 1] to the logit of how well formed the picture is."""

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
        features = self.body(images)
        logit: Tensor = self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))
        return logit.squeeze(1)


@cache
def load_critic(path: Path = WEIGHTS / "critic.safetensors") -> Critic:
    model = Critic()
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def score_images(images: np.ndarray) -> list[Score]:
    """One score 0 .. 1 for each image, uint8 [image, 64, 64, 3]."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return [
        Score(value=value, explanation=f"well formed: {value:.2f}")
        for value in load_critic()(pixels).sigmoid().tolist()
    ]
