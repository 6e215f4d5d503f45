"""Collecting: the right scenes, scores beside their own traces, and no work done twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptprobe.probe.families.stable_diffusion import StableDiffusion
from promptprobe.probe.family import Settings
from promptprobe.probe.shards import ShardError, read_shards
from promptprobe.probe.trace import record_trace
from promptprobe.tools import collect
from promptprobe.tools.collect import Collector, groups
from promptprobe.tools.records import Score
from promptprobe.tools.sprites.language import read

SETTINGS = Settings(steps=3, guidance=3.0, height=32, width=32)


def brightness(brief: str, images: np.ndarray) -> list[Score]:
    """A scorer of any picture."""
    return [Score(value=float(image.mean()) / 255, correct=bool(brief)) for image in images]


@pytest.fixture(scope="module")
def family(ddim_folder: Path) -> StableDiffusion:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ddim_folder)
    pipeline.set_progress_bar_config(disable=True)
    return StableDiffusion(pipeline)


def run(family: StableDiffusion, out: Path, candidates: int, scorer: Any = brightness) -> int:
    collector = Collector(family, SETTINGS, 1, scorer)
    return collect.collect(collector, out, candidates, model="tiny", seeds=2, per_shard=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_groups_keep_to_their_split_and_say_their_scene(split: Any) -> None:
    for group in islice(groups(split, 2), 200):
        assert group.scene.kind == "one object" or group.scene.split == split
        assert read(group.prompt).scene == group.scene.canonical


def test_no_scene_meets_a_seed_twice_in_any_split() -> None:
    pairs = [
        (group.scene.key, seed)
        for split in ("train", "validation")
        for group in islice(groups(split, 4), 600)
        for seed in group.seeds
    ]
    assert len(set(pairs)) == len(pairs)


def test_every_kind_is_collected_in_its_share() -> None:
    kinds = [group.scene.kind for group in islice(groups("train", 2), 1000)]
    for kind, share in collect.SHARES.items():
        assert kinds.count(kind) / 1000 == pytest.approx(share, abs=0.05)


def test_a_row_scores_the_picture_of_its_own_prompt_and_seed(
    family: StableDiffusion, tmp_path: Path
) -> None:
    run(family, tmp_path, 6)
    examples = read_shards(tmp_path)
    assert len(examples) == 6
    assert len({row.score for row in examples.rows}) == 6
    for row in examples.rows[::3]:
        conditioning = family.encode([row.prompt], SETTINGS)
        state = family.draw_noise([row.seed], SETTINGS)
        state = family.denoise(state, conditioning, SETTINGS, SETTINGS.steps)
        [score] = brightness(row.prompt, family.decode(state.latents))
        assert row.score == pytest.approx(score.value, abs=2e-3)
        trace, _ = record_trace(family, [row.prompt], [row.seed], SETTINGS, 1)
        [seen] = brightness(row.prompt, family.decode(trace.x0))
        assert row.preview == pytest.approx(seen.value, abs=2e-3)
        assert row.preview != row.score


def test_interrupted_it_goes_on_and_ends_with_the_same_files(
    family: StableDiffusion, tmp_path: Path
) -> None:
    assert run(family, tmp_path / "whole", 18) == 3
    scored: list[str] = []

    def failing(brief: str, images: np.ndarray) -> Sequence[Score]:
        scored.append(brief)
        if len(scored) == 9:  # two looks a prompt, three prompts a shard: in the second
            raise KeyboardInterrupt
        return brightness(brief, images)

    with pytest.raises(KeyboardInterrupt):
        run(family, tmp_path / "broken", 18, failing)
    (tmp_path / "broken" / "train-00001.jsonl.partial").write_text("half a li")
    assert run(family, tmp_path / "broken", 18) == 2
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_asking_for_more_only_adds(family: StableDiffusion, tmp_path: Path) -> None:
    run(family, tmp_path, 6)
    before = contents(tmp_path)
    assert run(family, tmp_path, 7) == 1
    assert before.items() <= contents(tmp_path).items()
    assert run(family, tmp_path, 7) == 0


def test_a_folder_of_other_settings_is_refused(family: StableDiffusion, tmp_path: Path) -> None:
    run(family, tmp_path, 6)
    other = Collector(family, Settings(steps=4, guidance=3.0, height=32, width=32), 1, brightness)
    with pytest.raises(ShardError, match="collected with steps 3, not 4"):
        collect.collect(other, tmp_path, 6, model="tiny", seeds=2, per_shard=3)


def test_bfloat16_changes_the_render_and_never_the_trace(family: StableDiffusion) -> None:
    chosen = list(islice(groups("train", 2), 2))
    exact, rows = Collector(family, SETTINGS, 1, brightness).shard("train", chosen)
    quick, other = Collector(family, SETTINGS, 1, brightness, bf16=True).shard("train", chosen)
    assert exact.maps.equal(quick.maps)
    assert [row.score for row in other] == pytest.approx([row.score for row in rows], abs=0.1)
    assert [row.score for row in other] != [row.score for row in rows]
