"""Training batches: newly drawn scenes of the train split, a pure function of step and size."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from promptprobe.tools.sprites.draw import Placed, draw
from promptprobe.tools.sprites.world import Kind, Scene, scenes

MIX: dict[Kind, float] = {
    "one object": 0.2,
    "colours": 0.15,
    "two objects": 0.15,
    "attribute binding": 0.17,
    "position": 0.2,
    "counting": 0.13,
}
FIRST: dict[Kind, float] = {"one object": 0.2, "colours": 0.8}
"""The mix from which nouns are learned first; from scenes of every kind this would take hours."""


@cache
def train_scenes(kind: Kind) -> list[Scene]:
    return [scene for scene in scenes(kind) if scene.split == "train"]


def sample_scenes(rng: np.random.Generator, size: int, mix: dict[Kind, float] = MIX) -> list[Scene]:
    """Scenes of the train split, kinds in the proportions of `mix`."""
    kinds = rng.choice(list(mix), size, p=list(mix.values()))
    pools = [train_scenes(kind) for kind in kinds]
    return [pool[rng.integers(len(pool))] for pool in pools]


def batch(
    step: int, size: int, mix: dict[Kind, float] = MIX
) -> tuple[Tensor, list[list[Placed]], list[Scene]]:
    """Images [size, 3, 64, 64] in [-1, 1], their true objects, and their scenes."""
    rng = np.random.default_rng([step, size])
    chosen = sample_scenes(rng, size, mix)
    drawn = [draw(scene, int(rng.integers(2**52))) for scene in chosen]
    images = torch.from_numpy(np.stack([image for image, _ in drawn]))
    return to_model(images), [placed for _, placed in drawn], chosen


def to_model(images: Tensor) -> Tensor:
    """uint8 [n, 64, 64, 3] -> float [n, 3, 64, 64] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
