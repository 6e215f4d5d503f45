"""Draws scenes of the Sprites world: recoloured silhouettes on a plain light ground.

The silhouettes are Microsoft's Fluent Emoji High Contrast (MIT, see NOTICE), rasterized once by
`train/rasterize.py` into `silhouettes.png`. Deterministic in the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from promptprobe.tools.sprites.world import COLOURS, NOUNS, Scene

SIZE = 64
GROUND = (243, 242, 238)
SILHOUETTES = Path(__file__).with_name("silhouettes.png")
SIZES = {1: (26, 33), 2: (24, 30), 3: (21, 26), 4: (20, 25)}


@dataclass(frozen=True)
class Placed:
    """One object on the canvas: centre and size in pixels."""

    noun: str
    colour: str
    x: float
    y: float
    size: float


def draw(scene: Scene, seed: int) -> tuple[np.ndarray, list[Placed]]:
    """A picture of the scene, uint8 [64, 64, 3], and the truth about it."""
    rng = np.random.default_rng(seed)
    placed = place(scene, rng)
    return paint(placed, rng), placed


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Positions for a scene's objects: apart from one another and inside the canvas."""
    nouns = [(thing.noun, thing.colour) for thing in scene.things for _ in range(thing.count)]
    low, high = SIZES[len(nouns)]
    sizes = rng.integers(low, high, len(nouns))
    low_corner = np.zeros((len(nouns), 2))
    room = SIZE if len(nouns) < 3 else SIZE / 2
    if len(nouns) > 2:  # a quarter of the canvas each
        quarters = rng.permutation(4)[: len(nouns)]
        low_corner = np.stack([quarters % 2, quarters // 2], -1) * room
    while True:
        centres = low_corner + rng.uniform(sizes / 2, room - sizes / 2, (2, len(nouns))).T
        if _apart(centres, sizes) and _related(centres, scene):
            break
    free = list(COLOURS)
    return [
        Placed(noun, colour or free[rng.integers(len(free))], float(x), float(y), float(size))
        for (noun, colour), (x, y), size in zip(nouns, centres, sizes, strict=True)
    ]


def _apart(centres: np.ndarray, sizes: np.ndarray) -> bool:
    """No two bounding boxes come closer than a pixel."""
    gap = np.abs(centres[:, None] - centres[None]).max(-1) - (sizes[:, None] + sizes[None]) / 2
    return bool((gap + 1e3 * np.eye(len(sizes)) >= 1).all())


def _related(centres: np.ndarray, scene: Scene) -> bool:
    if scene.relation is None:
        return True
    axis = 0 if scene.relation == "left of" else 1
    ahead = centres[1] - centres[0]
    return bool(ahead[axis] >= 20 and ahead[axis] >= 1.2 * abs(ahead[1 - axis]))


def paint(placed: list[Placed], rng: np.random.Generator) -> np.ndarray:
    """Silhouettes over the ground, each in its colour with a slight variation of tone."""
    canvas = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = np.array(GROUND) + rng.normal(0, 2)
    for thing in placed:
        size = round(thing.size)
        alpha = silhouette(thing.noun, size)[..., None]
        left = int(np.clip(round(thing.x - size / 2), 0, SIZE - size))
        top = int(np.clip(round(thing.y - size / 2), 0, SIZE - size))
        patch = canvas[top : top + size, left : left + size]
        patch += alpha * (np.array(COLOURS[thing.colour]) + rng.normal(0, 6, 3) - patch)
    return canvas.clip(0, 255).round().astype(np.uint8)


@cache
def silhouette(noun: str, size: int) -> np.ndarray:
    """Coverage of one noun in [0, 1], float32 [size, size]."""
    with Image.open(SILHOUETTES) as sheet:
        side = sheet.height
        tile = NOUNS.index(noun) * side
        mask = sheet.convert("L").crop((tile, 0, tile + side, side))
    return np.asarray(mask.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255
