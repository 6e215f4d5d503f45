"""The sprites scorer: what the detector finds, against the scene that the brief asks for."""

from __future__ import annotations

import numpy as np

from promptprobe.tools.records import Score
from promptprobe.tools.sprites.detector import find, load_detector
from promptprobe.tools.sprites.language import read
from promptprobe.tools.sprites.truth import compare

BATCH = 64


def score_images(brief: str, images: np.ndarray) -> list[Score]:
    """One score an image, uint8 [n, 64, 64, 3]; unscored where the brief names no scene."""
    reading = read(brief)
    if reading.scene is None:
        return [Score(reason=f"this brief has no scene to check: {reading.problem}")] * len(images)
    model = load_detector()
    found = [
        objects
        for first in range(0, len(images), BATCH)
        for objects in find(model, images[first : first + BATCH])
    ]
    return [compare(reading.scene, objects) for objects in found]
