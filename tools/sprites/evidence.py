"""What evals need from Sprites: held-out scenes in their own wordings, and the meaning of words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from itertools import zip_longest
from typing import get_args

import numpy as np

from promptprobe.tools.models.built_in import Brief, Evidence
from promptprobe.tools.splits import fraction, seed_of
from promptprobe.tools.sprites.draw import draw
from promptprobe.tools.sprites.language import Style, requirements_of, tokens, word
from promptprobe.tools.sprites.lexicon import in_common_words
from promptprobe.tools.sprites.world import KINDS, Scene, Split, scenes


def held_out(
    count: int, split: str, style: Style | None = None, one_object: bool = False
) -> list[Brief]:
    """`count` briefs of a split, kinds in turn, each scene once, in an order fixed by hash.

    When kinds with few scenes run out, the others take over. One-object scenes cannot be new;
    `one_object` adds them with new seeds. With style None, wordings have their natural frequencies.
    ValueError: the split does not exist or has too few scenes.
    """
    return [
        brief_of(scene, worded(scene, 0, style), split)
        for scene in held_out_scenes(count, split, one_object)
    ]


def held_out_scenes(count: int, split: str, one_object: bool = False) -> list[Scene]:
    """The scenes of `held_out`."""
    if split not in get_args(Split):
        raise ValueError(f"expected a split of {', '.join(get_args(Split))}; got {split!r}")
    order = _in_turn(split, one_object)
    if not 1 <= count <= len(order):
        raise ValueError(
            f"expected 1 to {len(order)} prompts, the scenes of split {split}, got {count}"
        )
    return order[:count]


def brief_of(scene: Scene, text: str, split: str) -> Brief:
    """A wording of a scene as a brief to measure on."""
    return Brief(text, scene.key, split, scene.kind, partial(_clean, scene))


def worded(scene: Scene, index: int, style: Style | None = None) -> str:
    """The index-th eval wording of a scene."""
    rng = np.random.default_rng(seed_of("eval wording", scene.key, index))
    return word(scene, rng, style)


@cache
def _in_turn(split: str, one_object: bool) -> list[Scene]:
    """Every scene of a split, with kinds in turn."""
    pools = []
    for kind in KINDS:
        joins = one_object and kind == "one object"
        fits = [scene for scene in scenes(kind) if joins or scene.split == split]
        pools.append(sorted(fits, key=lambda scene: fraction("eval order", split, scene.key)))
    return [scene for turn in zip_longest(*pools) for scene in turn if scene]


def _clean(scene: Scene, index: int) -> np.ndarray:
    return draw(scene, seed_of("eval clean", scene.key, index))[0]


def _meanings(prompt: str) -> list[str]:
    return [
        name for phrase, (role, value) in tokens(prompt) for name in (phrase, f"{role} {value}")
    ]


def _roles(brief: str) -> Mapping[str, str]:
    return {asking.word: asking.role for asking in requirements_of(brief)}


EVIDENCE = Evidence(
    held_out=held_out, common_words=in_common_words, meanings=_meanings, roles=_roles
)
