"""Finds the objects of a Sprites picture with a small dense network, one output per 4 x 4 cell.

Objects are centres as in CenterNet (Zhou et al. 2019, arXiv 1904.07850): a heat map for each noun,
with the colour and the offset of the centre.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from promptprobe.tools.sprites import WEIGHTS
from promptprobe.tools.sprites.draw import Placed
from promptprobe.tools.sprites.world import COLOURS, NOUNS

CELL = 4
THRESHOLD = 0.4
APART = 9.0
"""Of two centres closer than this many pixels, only the more confident one is kept."""


class Residual(nn.Module):
    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.first(self.norm(x))))


class Detector(nn.Module):
    """Maps pixels in [-1, 1] to logits of nouns and colours, and the centre's offset, per cell."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            Residual(32),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            Residual(64),
            Residual(64, 2),
            Residual(64, 2),
            Residual(64),
            nn.GroupNorm(8, 64),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(64, len(NOUNS) + len(COLOURS) + 2, 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias[: len(NOUNS)], -4.0)  # most cells are empty

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of nouns and of colours, and offsets, [batch, noun | colour | 2, row, col]."""
        nouns, colours, offsets = self.head(self.body(images)).split(
            (len(NOUNS), len(COLOURS), 2), dim=1
        )
        return nouns, colours, offsets


@cache
def load_detector(path: Path = WEIGHTS / "detector.safetensors") -> Detector:
    model = Detector()
    model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


class Heat(NamedTuple):
    """The network's output for one image, by cell."""

    nouns: Float[Tensor, "noun row col"]
    """Chance that an object of this noun has its centre here."""
    colours: Float[Tensor, "colour row col"]
    """Chance that the object here has this colour."""
    offsets: Float[Tensor, "2 row col"]
    """x and y of the centre within the cell, in cells."""


@torch.no_grad()
def heat(model: Detector, images: np.ndarray) -> list[Heat]:
    """The network's output for each image, uint8 [n, 64, 64, 3]."""
    pixels = rearrange(torch.from_numpy(images.copy()), "n h w c -> n c h w").float() / 127.5 - 1
    nouns, colours, offsets = model(pixels)
    return [Heat(*maps) for maps in zip(nouns.sigmoid(), colours.softmax(1), offsets, strict=True)]


def peaks(chance: Float[Tensor, "noun row col"]) -> Bool[Tensor, "noun row col"]:
    """Where no neighbouring cell has a higher chance."""
    return chance == max_pool2d(chance[:, None], 3, stride=1, padding=1)[:, 0]


def objects(seen: Heat) -> list[Placed]:
    """The objects of an image; sizes are not estimated (0)."""
    peak, noun = seen.nouns.max(0)
    colour = seen.colours.argmax(0)
    cells = torch.nonzero(peaks(peak[None])[0] & (peak > THRESHOLD)).tolist()
    cells.sort(key=lambda cell: -peak[cell[0], cell[1]].item())
    kept: list[Placed] = []
    for row, col in cells:
        x, y = ((torch.tensor([col, row]) + seen.offsets[:, row, col]) * CELL).tolist()
        if all(max(abs(x - item.x), abs(y - item.y)) >= APART for item in kept):
            name = list(COLOURS)[int(colour[row, col])]
            kept.append(Placed(NOUNS[int(noun[row, col])], name, x, y, 0.0))
    return kept
