"""Grades the objects found in a picture against its scene: a score, a verdict, and words.

All judges of this world share it; they differ in how they find objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.sprites.draw import Placed
from promptprobe.tools.sprites.language import Requirement, plural, read, requirements_of
from promptprobe.tools.sprites.world import Scene, Thing

CLEARLY = 4.0
"""Minimum distance in pixels between two centres for one to be left of, or above, the other."""


def grade(
    brief: str, images: np.ndarray, find: Callable[[np.ndarray], list[list[Placed]]]
) -> list[Score]:
    """One score for each image, uint8 [n, 64, 64, 3], from the objects that `find` finds in it.

    If the brief names no scene, images are unscored with the reason, and `find` is not called.
    """
    reading = read(brief)
    if reading.scene is None:
        return [Score(reason=f"this brief has no scene to check: {reading.problem}")] * len(images)
    asked = requirements_of(brief)
    return [
        compare(reading.scene, found).model_copy(
            update={"words": verdicts(reading.scene, asked, found)}
        )
        for found in find(images)
    ]


def verdicts(
    scene: Scene, asked: Sequence[Requirement], found: Sequence[Placed]
) -> tuple[Verdict, ...]:
    """Verdicts on the words that ask for something; all ok exactly if the picture is correct."""
    things = {thing.noun: thing for thing in scene.things}
    results = []
    for asking in asked:
        if asking.role == "relation":
            ok = _relation(scene, found)
        else:
            thing = things[asking.noun]
            number, coloured, _ = _thing(thing, found)
            there = any(item.noun == thing.noun for item in found)
            ok = {"noun": there, "count": number == 1, "colour": coloured == 1}[asking.role]
        results.append(Verdict(word=asking.word, ok=ok, chance=float(ok)))
    return tuple(results)


def compare(scene: Scene, found: Sequence[Placed]) -> Score:
    """The share of the scene's requirements that hold, and an explanation of those that do not.

    A thing requires its noun in the right number (if the number is one, more of it are no fault)
    and in its colour; a relation is one more requirement. Other objects in the picture do not
    change the score, as in GenEval; they are counted and named. `correct` means that every
    requirement holds.
    """
    met: list[float] = []
    words: list[str] = []
    for thing in scene.things:
        number, coloured, fault = _thing(thing, found)
        met += [number] if thing.colour is None else [number, coloured]
        words += fault
    if scene.relation:
        holds = _relation(scene, found)
        met.append(float(holds))
        words += [] if holds else [f"not so: {scene.key}"]
    value, extras = sum(met) / len(met), list(_extras(scene, found))
    parts = words or ["all there"]
    if extras:
        parts.append(f"also: {', '.join(extras)}")
    explanation = "; ".join(parts)
    return Score(value=value, correct=value == 1.0, explanation=explanation, extras=len(extras))


def _extras(scene: Scene, found: Sequence[Placed]) -> Iterator[str]:
    """Objects in the picture that the brief did not ask for, in words."""
    asked = {thing.noun: thing for thing in scene.things}
    for item in found:
        if item.noun not in asked:
            yield f"a {item.colour} {item.noun}"
    for noun, thing in asked.items():
        same = [item for item in found if item.noun == noun]
        # If several were asked for, one too many is not an extra but a wrong number.
        if thing.count == 1 and len(same) > 1:
            meant = [thing.colour in (None, item.colour) for item in same]
            same.pop(meant.index(True) if any(meant) else 0)
            for item in same:
                second = "second " if thing.colour in (None, item.colour) else ""
                yield f"a {second}{item.colour} {noun}"


def _thing(thing: Thing, found: Sequence[Placed]) -> tuple[float, float, list[str]]:
    """How right the number and the colour are, each in [0, 1], and what is wrong in words."""
    same = [item for item in found if item.noun == thing.noun]
    right = [item for item in same if thing.colour in (None, item.colour)]
    number = max(0.0, 1 - abs(len(same) - thing.count) / thing.count)
    if thing.count == 1:  # more of it are no fault: nobody asked for "only one"
        number = float(bool(same))
    coloured = min(len(right), thing.count) / thing.count
    if not same:
        return number, coloured, [f"missing: {_named(thing)}"]
    faults = [f"{len(same)} of {_named(thing)}"] if number < 1 else []
    if coloured < 1 and len(right) < len(same):
        wrong = next(item for item in same if item not in right)
        faults.append(f"the {thing.noun} is {wrong.colour}, not {thing.colour}")
    return number, coloured, faults


def _named(thing: Thing) -> str:
    """The thing in words, such as "red cat" or "4 black keys"."""
    noun = plural(thing.noun) if thing.count > 1 else thing.noun
    return str(replace(thing, noun=noun))


def _relation(scene: Scene, found: Sequence[Placed]) -> bool:
    """Whether some pair of the two things, in their colours if given, has the scene's relation."""
    first, second = (
        [item for item in found if item.noun == thing.noun and thing.colour in (None, item.colour)]
        for thing in scene.things
    )
    if scene.relation == "left of":
        return any(b.x - a.x >= CLEARLY for a in first for b in second)
    return any(b.y - a.y >= CLEARLY for a in first for b in second)
