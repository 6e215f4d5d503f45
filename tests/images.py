"""What tests of pictures share: a scorer of the simplest kind, and a file's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def brightness(brief: str, image: Image.Image) -> float:
    return float(np.asarray(image, float).mean() / 255)


def pixels(path: Path | None) -> np.ndarray:
    assert path is not None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)
