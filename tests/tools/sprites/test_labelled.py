"""The detector against human eyes, on images that the model generated.

`labelled.png` holds them, sixteen a row; `labelled.jsonl` says of each, in order, what it was asked
for, what was seen in it before the detector was asked, and whether that is what was asked for.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptprobe.tools.sprites.judges.detector import heat, load_detector, objects
from promptprobe.tools.sprites.judges.scorer import score_images

HERE = Path(__file__).parent
SIDE, COLUMNS = 64, 16


@pytest.fixture(scope="module")
def labels() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "labelled.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def images(labels: list[dict[str, Any]]) -> np.ndarray:
    with Image.open(HERE / "labelled.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    places = (divmod(at, COLUMNS) for at in range(len(labels)))
    return np.stack(
        [
            pixels[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            for row, column in places
        ]
    )


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Cohen's, of two judges' yes and no."""
    agreed = float((one == other).mean())
    by_chance = float(one.mean() * other.mean() + (1 - one).mean() * (1 - other).mean())
    return (agreed - by_chance) / (1 - by_chance)


def test_the_scorer_agrees_with_eyes_on_what_is_correct(
    labels: list[dict[str, Any]], images: np.ndarray
) -> None:
    assert len(labels) >= 200
    eyes = np.array([label["correct"] for label in labels], float)
    scorer = np.array(
        [
            bool(score_images(label["prompt"], image[None])[0].correct)
            for label, image in zip(labels, images, strict=True)
        ],
        float,
    )
    assert kappa(eyes, scorer) >= 0.85


def test_the_detector_finds_the_objects_that_eyes_find(
    labels: list[dict[str, Any]], images: np.ndarray
) -> None:
    shared = seen = detected = 0
    for label, found in zip(labels, map(objects, heat(load_detector(), images)), strict=True):
        eyes = Counter(label["seen"])
        detector = Counter(f"{item.colour} {item.noun}" for item in found)
        shared += (eyes & detector).total()
        seen += eyes.total()
        detected += detector.total()
    assert shared / seen >= 0.9
    assert shared / detected >= 0.9
