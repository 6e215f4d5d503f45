"""Scenes, splits and drawings: deterministic, disjoint, and what they say they are."""

from collections import Counter

import numpy as np
import pytest

from promptprobe.tools.splits import seed_of
from promptprobe.tools.sprites.draw import SIZE, draw
from promptprobe.tools.sprites.world import KINDS, NOUNS, Kind, Scene, Thing, scenes


def test_every_scene_has_its_kind_and_a_key_of_its_own() -> None:
    everything = [(kind, scene) for kind in KINDS for scene in scenes(kind)]
    assert all(scene.kind == kind for kind, scene in everything)
    assert len({scene.key for _, scene in everything}) == len(everything)


def test_splits_are_by_scene_and_each_is_there() -> None:
    splits = Counter(scene.split for kind in KINDS for scene in scenes(kind))
    assert set(splits) == {"train", "validation", "test", "composition"}
    assert splits["train"] > 0.6 * splits.total()
    assert {scene.split for scene in scenes("one object")} == {"train"}


def test_order_means_nothing_without_a_relation() -> None:
    cat, car = Thing("cat", "red"), Thing("car", "blue")
    assert Scene((cat, car)).key == Scene((car, cat)).key
    assert Scene((cat, car), "above").key != Scene((car, cat), "above").key


def test_held_out_compositions_are_in_no_other_split() -> None:
    def triples(split: str) -> set[tuple[str, str | None, str]]:
        return {
            (thing.noun, thing.colour, scene.relation or "and")
            for kind in ("attribute binding", "position")
            for scene in scenes(kind)
            if (scene.split == "composition") == (split == "composition")
            for thing in scene.things
            if thing.colour
        }

    only = triples("composition") - triples("the rest")
    assert only
    for scene in scenes("position"):
        if scene.split == "composition":
            assert any((t.noun, t.colour, scene.relation) in only for t in scene.things)


def test_no_seed_recurs_across_splits_or_scenes() -> None:
    chosen = scenes("attribute binding")[:200]
    seeds = [
        seed_of(split, s.key, i) for split in ("train", "test") for s in chosen for i in range(8)
    ]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_shows_its_scene_and_is_the_same_for_the_same_seed(kind: Kind) -> None:
    for index, scene in enumerate(scenes(kind)[::97]):
        image, placed = draw(scene, index)
        again, _ = draw(scene, index)
        other, _ = draw(scene, index + 1)
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        assert np.array_equal(image, again) and not np.array_equal(image, other)
        asked = Counter(noun for t in scene.things for noun in [t.noun] * t.count)
        assert Counter(item.noun for item in placed) == asked
        if scene.relation:
            ahead = "x" if scene.relation == "left of" else "y"
            assert getattr(placed[0], ahead) < getattr(placed[1], ahead)


def test_there_are_at_least_twelve_nouns_and_six_colours() -> None:
    assert len(NOUNS) >= 12
    assert len({scene.things[0].colour for scene in scenes("colours")}) >= 6
