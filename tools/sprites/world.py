"""The world that Sprites draws: what a scene is, and which scenes are held out.

A scene is the canonical content of a brief, whatever its wording. Everything here is a pure
function of its arguments, so that labels, splits and seeds are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, permutations, product
from typing import Literal, get_args

from promptprobe.tools.splits import fraction

NOUNS = (
    "bird", "car", "cat", "fish", "heart", "house",
    "key", "moon", "mushroom", "star", "tree", "umbrella",
)  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (255, 137, 20),
    "yellow": (240, 205, 20),
    "green": (44, 150, 60),
    "blue": (40, 90, 215),
    "purple": (140, 60, 175),
    "black": (30, 30, 34),
}
COUNTS = (2, 3, 4)

Relation = Literal["left of", "above"]
Kind = Literal["one object", "two objects", "counting", "colours", "position", "attribute binding"]
Split = Literal["train", "validation", "test", "composition"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, order=True)
class Thing:
    """What a brief asks for with one noun; without a colour, any will do."""

    noun: str
    colour: str | None = None
    count: int = 1

    def __str__(self) -> str:
        return " ".join(
            filter(None, [str(self.count) if self.count > 1 else "", self.colour, self.noun])
        )


@dataclass(frozen=True)
class Scene:
    """One or two things and their relation: `things[0]` is left of, or above, `things[1]`."""

    things: tuple[Thing, ...]
    relation: Relation | None = None

    @property
    def canonical(self) -> Scene:
        """The scene in canonical form: without a relation, the order of things is fixed."""
        return self if self.relation else replace(self, things=tuple(sorted(self.things, key=str)))

    @property
    def key(self) -> str:
        return f" {self.relation or '+'} ".join(map(str, self.canonical.things))

    @property
    def kind(self) -> Kind:
        """GenEval's kind of this scene."""
        if self.relation:
            return "position"
        if any(thing.count > 1 for thing in self.things):
            return "counting"
        coloured = any(thing.colour for thing in self.things)
        if len(self.things) == 1:
            return "colours" if coloured else "one object"
        return "attribute binding" if coloured else "two objects"

    @property
    def split(self) -> Split:
        """By hash of the scene; one-object scenes cannot be new and are always for training.

        `composition` holds every scene with a (noun, colour, relation) that training never saw.
        """
        if self.kind == "one object":
            return "train"
        if len(self.things) == 2 and any(map(self._held_out, self.things)):
            return "composition"
        share = fraction("scene", self.key)
        return "train" if share < 0.8 else "validation" if share < 0.9 else "test"

    def _held_out(self, thing: Thing) -> bool:
        triple = (thing.noun, thing.colour or "", self.relation or "and")
        return thing.colour is not None and fraction("composition", *triple) < 0.06


def scenes(kind: Kind) -> list[Scene]:
    """Every scene of a kind, in a fixed order."""
    if kind == "one object":
        return [Scene((Thing(noun),)) for noun in NOUNS]
    if kind == "colours":
        return [Scene((Thing(noun, colour),)) for noun, colour in product(NOUNS, COLOURS)]
    if kind == "counting":
        return [
            Scene((Thing(noun, colour, count),))
            for noun, colour, count in product(NOUNS, (None, *COLOURS), COUNTS)
        ]
    if kind == "two objects":
        return [Scene((Thing(a), Thing(b))) for a, b in combinations(NOUNS, 2)]
    if kind == "attribute binding":
        return [
            Scene((Thing(a, ca), Thing(b, cb)))
            for (a, b), (ca, cb) in product(combinations(NOUNS, 2), permutations(COLOURS, 2))
        ]
    return [
        Scene((Thing(a, ca), Thing(b, cb)), relation)
        for (a, b), (ca, cb), relation in product(
            permutations(NOUNS, 2), [(None, None), *permutations(COLOURS, 2)], RELATIONS
        )
    ]


@cache
def _keys(kind: Kind) -> frozenset[str]:
    return frozenset(scene.key for scene in scenes(kind))


def is_of_this_world(scene: Scene) -> bool:
    """Whether scenes of this form are part of the world, whatever their split."""
    return scene.key in _keys(scene.kind)
