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
OBJECT = 24
"""Longer side of every object in pixels."""
GRID = 4
"""Pixels between possible positions of an object: one cell of the latents. With free positions and
sizes, a silhouette has hundreds of appearances, too many to learn in two hours of CPU time."""


@dataclass(frozen=True)
class Placed:
    """One object on the canvas: centre and size in pixels."""

    noun: str
    colour: str
    x: float
    y: float
    size: float


def draw(scene: Scene, seed: int) -> tuple[np.ndarray, list[Placed]]:
    """A picture of the scene, uint8 [64, 64, 3], and its true objects."""
    rng = np.random.default_rng(seed)
    placed = place(scene, rng)
    return paint(placed, rng), placed


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Place a scene's objects on the grid, apart from one another and inside the canvas."""
    nouns = [(thing.noun, thing.colour) for thing in scene.things for _ in range(thing.count)]
    corner, room = np.zeros((len(nouns), 2), int), SIZE
    if len(nouns) > 2:  # a quarter of the canvas each
        quarters = rng.permutation(4)[: len(nouns)]
        corner, room = np.stack([quarters % 2, quarters // 2], -1) * SIZE // 2, SIZE // 2
    while True:
        steps = rng.integers(0, (room - OBJECT) // GRID + 1, (len(nouns), 2))
        centres = corner + steps * GRID + OBJECT / 2
        if _apart(centres) and _related(centres, scene):
            break
    free = list(COLOURS)
    return [
        Placed(noun, colour or free[rng.integers(len(free))], float(x), float(y), OBJECT)
        for (noun, colour), (x, y) in zip(nouns, centres, strict=True)
    ]


def _apart(centres: np.ndarray) -> bool:
    """Whether all bounding boxes are at least one step of the grid apart."""
    gap = np.abs(centres[:, None] - centres[None]).max(-1) - OBJECT
    return bool((gap + SIZE * np.eye(len(centres)) >= GRID).all())


def _related(centres: np.ndarray, scene: Scene) -> bool:
    if scene.relation is None:
        return True
    axis = 0 if scene.relation == "left of" else 1
    ahead = centres[1] - centres[0]
    return bool(ahead[axis] >= 20 and ahead[axis] >= 1.2 * abs(ahead[1 - axis]))


def paint(placed: list[Placed], rng: np.random.Generator) -> np.ndarray:
    """Paint silhouettes on the ground, each in its colour with a slight variation of tone."""
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
