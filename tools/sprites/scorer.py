"""The sprites scorer: what the detector finds, against the scene that the brief asks for."""

from __future__ import annotations

import numpy as np

from promptprobe.tools.records import Score
from promptprobe.tools.sprites.detector import find, load_detector
from promptprobe.tools.sprites.draw import Placed
from promptprobe.tools.sprites.truth import grade

BATCH = 64


def score_images(brief: str, images: np.ndarray) -> list[Score]:
    """One score an image, uint8 [n, 64, 64, 3]; unscored where the brief names no scene."""
    return grade(brief, images, _detected)


def _detected(images: np.ndarray) -> list[list[Placed]]:
    model = load_detector()
    return [
        found
        for first in range(0, len(images), BATCH)
        for found in find(model, images[first : first + BATCH])
    ]
