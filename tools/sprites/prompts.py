"""Training prompts of the Sprites world: `python -m promptprobe.tools.sprites.prompts`.

They are scenes of a split in natural wordings, always the same ones; a longer list extends a
shorter one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count, islice
from typing import Literal

import numpy as np

from promptprobe.tools.collect.prompts import Wanted
from promptprobe.tools.splits import fraction
from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.world import Kind, Scene, scenes

SHARES: dict[Kind, float] = {
    "one object": 0.05,
    "colours": 0.10,
    "two objects": 0.15,
    "counting": 0.20,
    "attribute binding": 0.25,
    "position": 0.25,
}
"""Kinds whose seeds differ more are more useful for training."""

Part = Literal["train", "validation"]


def prompts(split: Part) -> Iterator[Wanted]:
    """Endless prompts of a split. One-object scenes cannot be new; outside training, only their
    seeds are."""
    pools = {kind: _pool(kind, split) for kind in SHARES}
    shares = np.array([SHARES[kind] if pools[kind] else 0.0 for kind in SHARES])
    kinds, taken = list(SHARES), dict.fromkeys(SHARES, 0)
    for number in count():
        rng = np.random.default_rng([int(fraction("collect", split) * 2**52), number])
        kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        scene = pools[kind][taken[kind] % len(pools[kind])]
        taken[kind] += 1
        yield Wanted(prompt=word(scene, rng), scene=scene.key, kind=kind, split=split)


def _pool(kind: Kind, split: Part) -> list[Scene]:
    found = [scene for scene in scenes(kind) if kind == "one object" or scene.split == split]
    return sorted(found, key=lambda scene: fraction("collect order", split, scene.key))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print prompts of the Sprites world, as JSON lines."
    )
    parser.add_argument("--train", type=int, default=2560, help="prompts of training scenes")
    parser.add_argument("--validation", type=int, default=384, help="prompts of validation scenes")
    options = parser.parse_args()
    for split, number in (("train", options.train), ("validation", options.validation)):
        for wanted in islice(prompts(split), number):  # type: ignore[arg-type]
            print(wanted.model_dump_json())


if __name__ == "__main__":
    main()
