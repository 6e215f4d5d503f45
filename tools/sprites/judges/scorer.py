"""The sprites scorer compares the objects that the detector finds with the brief's scene.

The score itself depends on whether objects are found. In addition, each word gets the detector's
chance, which says far more on a blurred preview, where little is found.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from promptprobe.tools.records import Score
from promptprobe.tools.sprites.grading import CLEARLY, grade
from promptprobe.tools.sprites.judges.detector import (
    CELL,
    Heat,
    heat,
    load_detector,
    objects,
    peaks,
)
from promptprobe.tools.sprites.language import Requirement, read, requirements_of
from promptprobe.tools.sprites.world import COLOURS, NOUNS, Scene, Thing

BATCH = 64
FAINT = 0.05
"""A peak below this is not counted as an object."""
SOFT = 1.5
"""Pixels over which "clearly left of" goes from unlikely to likely."""


def score_images(brief: str, images: np.ndarray) -> list[Score]:
    """One score for each image, uint8 [n, 64, 64, 3]; unscored if the brief names no scene."""
    heats: list[Heat] = []
    scores = grade(brief, images, lambda shown: list(map(objects, _heats(shown, into=heats))))
    scene = read(brief).scene
    if scene is None:
        return scores
    asked = requirements_of(brief)
    return [
        _with_chances(score, scene, asked, one) for score, one in zip(scores, heats, strict=True)
    ]


def _heats(images: np.ndarray, into: list[Heat]) -> list[Heat]:
    model = load_detector()
    for first in range(0, len(images), BATCH):
        into += heat(model, images[first : first + BATCH])
    return into


def _with_chances(score: Score, scene: Scene, asked: list[Requirement], seen: Heat) -> Score:
    things = {thing.noun: thing for thing in scene.things}
    words = tuple(
        verdict.model_copy(update={"chance": _chance(asking, things, scene, seen)})
        for verdict, asking in zip(score.words, asked, strict=True)
    )
    return score.model_copy(update={"words": words})


def _chance(asking: Requirement, things: dict[str, Thing], scene: Scene, seen: Heat) -> float:
    """The chance that the picture shows what a word asks for, from the most likely cells."""
    if asking.role == "relation":
        return _related(scene, seen)
    thing = things[asking.noun]
    there = seen.nouns[NOUNS.index(thing.noun)]
    if asking.role == "noun":
        return float(there.max())
    found = peaks(there[None])[0] & (there > FAINT)
    if asking.role == "count":
        return max(0.0, 1 - abs(float(there[found].sum()) - thing.count) / thing.count)
    coloured = _coloured(thing, seen)
    if thing.count == 1:
        return float(coloured.max())
    return min(1.0, float(coloured[found].sum()) / thing.count)


def _coloured(thing: Thing, seen: Heat) -> Tensor:
    """Chance of a thing in its colour, if it has one, at each cell: [row, col]."""
    there = seen.nouns[NOUNS.index(thing.noun)]
    return there * seen.colours[list(COLOURS).index(thing.colour)] if thing.colour else there


def _related(scene: Scene, seen: Heat) -> float:
    """The chance of the relation, from the most likely pair of cells for the two things."""
    first, second = (_coloured(thing, seen) for thing in scene.things)
    axis = 1 if scene.relation == "left of" else 0
    place = torch.arange(first.shape[axis]) * float(CELL)
    ahead = place[None] - place[:, None]  # of the second thing, in pixels
    clear = torch.sigmoid((ahead - CLEARLY) / SOFT)
    best = [chances.amax(1 - axis) for chances in (first, second)]
    return float((best[0][:, None] * best[1][None] * clear).max())
