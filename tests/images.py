"""What tests of pictures share: a scorer of the simplest kind, a file's pixels and what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from promptprobe.tools.pictures.png import EXACT
from promptprobe.tools.records import Candidate, Generation

SETTING = re.compile(r'\s*([\w ]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


def brightness(brief: str, image: Image.Image) -> float:
    return float(np.asarray(image, float).mean() / 255)


def pixels(path: Path | None) -> np.ndarray:
    assert path is not None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def read_exact(path: Path) -> tuple[Candidate, Generation]:
    """What `save_png` was given, from the picture alone."""
    with Image.open(path) as image:
        found = json.loads(image.info[EXACT])
    candidate = Candidate(prompt=found["prompt"], seed=found["seed"])
    return candidate, Generation.model_validate(found["generation"])


def read_parameters(path: Path) -> dict[str, str]:
    """What a viewer would read: "prompt", "negative_prompt" and each setting by its name."""
    with Image.open(path) as image:
        *lines, last = image.info["parameters"].split("\n")
    negative = [line.removeprefix("Negative prompt:").strip() for line in lines[1:]]
    found = {"prompt": lines[0], "negative_prompt": " ".join(negative)}
    for key, value in SETTING.findall(last):
        found[key] = json.loads(value) if value.startswith('"') else value
    return found
