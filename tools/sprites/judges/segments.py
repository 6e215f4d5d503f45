"""The second judge: colour segmentation and mask matching. It shares nothing with the detector.

It never selects; it only grades what others selected.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from promptprobe.tools.records import Score
from promptprobe.tools.sprites.draw import GROUND, Placed, silhouette
from promptprobe.tools.sprites.grading import grade
from promptprobe.tools.sprites.world import COLOURS, NOUNS

AREA = 60
"""Minimum size of an object's patch in pixels."""
LIKE = 0.66
"""Minimum intersection over union of an object's patch with the best silhouette."""
TILE = 24


def judge_images(brief: str, images: np.ndarray) -> list[Score]:
    """One score for each image, uint8 [n, 64, 64, 3]; unscored if the brief names no scene."""
    return grade(brief, images, lambda seen: [segments(image) for image in seen])


def segments(image: np.ndarray) -> list[Placed]:
    """Connected patches of one palette colour that match a silhouette, uint8 [64, 64, 3]."""
    palette = np.array([GROUND, *COLOURS.values()], np.float32)
    distance = np.linalg.norm(image[:, :, None].astype(np.float32) - palette, axis=-1)
    nearest = distance.argmin(-1)
    # Edges blend into the ground: a pixel more than halfway to the ground belongs to no object.
    nearest[np.linalg.norm(image.astype(np.float32) - palette[0], axis=-1) < 70] = 0
    patches, number = ndimage.label(nearest > 0, np.ones((3, 3)))
    found = []
    for patch in range(1, number + 1):
        inside = patches == patch
        for part in _parts(inside, nearest):
            placed = _match(part, nearest)
            if placed:
                found.append(placed)
    return found


def _parts(inside: np.ndarray, nearest: np.ndarray) -> list[np.ndarray]:
    """The patch, or one part for each colour if objects with large areas of two colours touch."""
    counts = np.bincount(nearest[ndimage.binary_erosion(inside)], minlength=len(COLOURS) + 1)
    large = np.flatnonzero(counts >= AREA)
    if len(large) < 2:
        return [inside]
    return [inside & (nearest == colour) for colour in large]


def _match(part: np.ndarray, nearest: np.ndarray) -> Placed | None:
    if part.sum() < AREA:
        return None
    rows, cols = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    crop = part[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    square[top : top + height, left : left + width] = crop
    shape = np.asarray(Image.fromarray(square).resize((TILE, TILE), Image.Resampling.BILINEAR))
    overlap = np.minimum(shape, _tiles()).sum((1, 2)) / np.maximum(shape, _tiles()).sum((1, 2))
    best = int(overlap.argmax())
    if overlap[best] < LIKE:
        return None
    solid = nearest[ndimage.binary_erosion(part) & (nearest > 0)]
    colour = list(COLOURS)[np.bincount(solid, minlength=len(COLOURS) + 1)[1:].argmax()]
    x, y = float(cols.mean()), float(rows.mean())
    return Placed(NOUNS[best], colour, x, y, float(side))


@cache
def _tiles() -> np.ndarray:
    return np.stack([silhouette(noun, TILE) for noun in NOUNS])
