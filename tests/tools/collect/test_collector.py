"""Collecting: scores beside their own traces, and no work done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe.probe.families.family import Settings
from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion
from promptprobe.probe.trace import record_trace
from promptprobe.probe.training.shards import (
    Row,
    ShardError,
    read_collection,
    read_rows,
    read_shards,
    shards_of,
)
from promptprobe.tools.collect.collector import Collector, collect, image_path
from promptprobe.tools.collect.prompts import Wanted, jobs
from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.scorers.scorer import Scorer, open_scorer
from tests.images import brightness

SETTINGS = Settings(steps=3, guidance=3.0, height=32, width=32)
PROMPTS = [
    Wanted(prompt=f"{number} photos of a {thing}", scene=thing, kind="thing")
    for number, thing in enumerate(("red cat", "dog", "blue car", "moon", "key", "star"), 2)
]


def by_word(brief: str, image: Image.Image) -> Score:
    """Bright pictures show the last word of the brief, and nothing is known of the others."""
    value = brightness(brief, image)
    word = Verdict(word=brief.split()[-1], ok=value > 0.5, chance=value)
    return Score(value=value, correct=value > 0.5, words=(word,))


def darkness(brief: str, image: Image.Image) -> float:
    return 10 - brightness(brief, image)


def sharpness(brief: str, image: Image.Image) -> float:
    return float(brightness(brief, image) > 0.5)


@pytest.fixture(scope="module")
def family(ddim_folder: Path) -> StableDiffusion:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(ddim_folder)
    pipeline.set_progress_bar_config(disable=True)
    return StableDiffusion(pipeline)


def a_collector(family: StableDiffusion, judge: Any = by_word, steps: int = 3) -> Collector:
    settings = Settings(steps=steps, guidance=3.0, height=32, width=32)
    scorers = (open_scorer(judge), open_scorer(darkness))
    return Collector("tiny", family, settings, (1, 2), scorers)


def run(
    family: StableDiffusion, out: Path, prompts: list[Wanted] = PROMPTS, judge: Any = by_word
) -> int:
    return collect(a_collector(family, judge), out, prompts, seeds=2, per_shard=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_row_judges_the_picture_of_its_own_prompt_and_seed(
    family: StableDiffusion, tmp_path: Path
) -> None:
    assert run(family, tmp_path) == 12
    examples = read_shards(tmp_path)
    assert [row.seed for row in examples.rows] == [
        job.seed for group in jobs(PROMPTS, 2) for job in group
    ]
    for row in examples.rows[::5]:
        conditioning = family.encode([row.prompt], SETTINGS)
        state = family.draw_noise([row.seed], SETTINGS)
        state = family.denoise(state, conditioning, SETTINGS, SETTINGS.steps)
        [pixels] = family.decode(state.latents)
        final = by_word(row.prompt, Image.fromarray(pixels))
        assert final.value is not None
        assert row.scores["by_word score"] == pytest.approx(final.value, abs=2e-3)
        assert row.scores["darkness score"] == pytest.approx(10 - final.value, abs=2e-3)
        assert row.drawn == (*(None,) * (len(row.words) - 1), final.words[0].ok)
        for k, seen in zip((1, 2), row.previews, strict=True):
            trace, _ = record_trace(family, [row.prompt], [row.seed], SETTINGS, k)
            [pixels] = family.decode(trace.x0)
            look = by_word(row.prompt, Image.fromarray(pixels))
            assert seen.score == pytest.approx(look.value, abs=2e-3)
            assert seen.words[-1] == pytest.approx(look.words[0].chance, abs=2e-3)
            _, other = row.looks(("by_word score", "darkness score"), k - 1)
            assert other == pytest.approx(10 - (look.value or 0), abs=2e-3)


def test_interrupted_it_goes_on_and_ends_with_the_same_files(
    family: StableDiffusion, tmp_path: Path
) -> None:
    run(family, tmp_path / "whole")
    judged: list[str] = []

    def dies(brief: str, images: Any) -> list[Score]:
        judged.append(brief)
        if len(judged) == 9:  # three looks a prompt, two prompts a shard: in the second one
            raise KeyboardInterrupt
        return [by_word(brief, image) for image in images]

    broken = a_collector(family)
    broken = Collector(
        broken.model, family, SETTINGS, broken.windows, (Scorer("by_word", dies), broken.scorers[1])
    )
    with pytest.raises(KeyboardInterrupt):
        collect(broken, tmp_path / "broken", PROMPTS, seeds=2, per_shard=4)
    assert len(shards_of(tmp_path / "broken")) == 1
    (tmp_path / "broken" / "shard-00001.parquet.partial").write_text("half a ta")
    assert run(family, tmp_path / "broken") == 8
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_more_prompts_only_add(family: StableDiffusion, tmp_path: Path) -> None:
    run(family, tmp_path, PROMPTS[:3])
    before = contents(tmp_path)
    assert run(family, tmp_path) == 6
    assert before.items() <= contents(tmp_path).items()
    held = [(row.prompt, row.seed) for path in shards_of(tmp_path) for row in read_rows(path)]
    assert len(held) == len(set(held)) == 12
    assert run(family, tmp_path) == 0


def test_of_a_picture_that_is_there_only_the_first_steps_are_run(
    family: StableDiffusion, tmp_path: Path
) -> None:
    """Traces of the same batch are equal; scores, of pictures drawn in another one, to 1e-4."""
    collector = a_collector(family)
    drawn = [job for group in jobs(PROMPTS[:2], 2) for job in group]
    kept = []
    for job in drawn:
        conditioning = family.encode([job.wanted.prompt], SETTINGS)
        state = family.draw_noise([job.seed], SETTINGS)
        state = family.denoise(state, conditioning, SETTINGS, SETTINGS.steps)
        path = tmp_path / f"{job.seed}.png"
        Image.fromarray(family.decode(state.latents)[0]).save(path)
        kept.append(job._replace(picture=path))
    assert all(collector.distance(job) < 1 for job in kept)
    collect(collector, tmp_path / "drawn", PROMPTS[:2], seeds=2)
    assert collect(collector, tmp_path / "kept", [], seeds=2, given=[kept, kept[:1]]) == 4
    expected = by_candidate(tmp_path / "drawn")
    assert_alike(by_candidate(tmp_path / "kept"), expected)
    [path] = shards_of(tmp_path / "kept")
    assert path.read_bytes() == (tmp_path / "drawn" / path.name).read_bytes()

    both = tmp_path / "both"
    assert collect(collector, both, PROMPTS[:3], seeds=2, given=[kept[:3]]) == 6
    assert collect(collector, both, PROMPTS[:3], seeds=2, given=[kept]) == 0
    found = by_candidate(both)
    assert_alike({key: found[key] for key in expected}, expected)


def by_candidate(folder: Path) -> dict[tuple[str, int], Row]:
    return {(row.prompt, row.seed): row for row in read_shards(folder).rows}


def assert_alike(found: dict[tuple[str, int], Row], expected: dict[tuple[str, int], Row]) -> None:
    """The same rows, but for the last digits of their scores: these change with the batch."""
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].scores == pytest.approx(row.scores, abs=1e-4)
        for ours, theirs in zip(found[key].previews, row.previews, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
            assert ours.words == pytest.approx(theirs.words, abs=1e-4)
        same = {"scores": row.scores, "previews": row.previews}
        assert found[key].model_copy(update=same) == row


def test_more_seeds_of_a_prompt_only_add(family: StableDiffusion, tmp_path: Path) -> None:
    run(family, tmp_path, PROMPTS[:1])
    assert collect(a_collector(family), tmp_path, PROMPTS[:1], seeds=3) == 1
    assert len({row.seed for row in read_shards(tmp_path).rows}) == 3


def test_a_picture_that_one_judge_could_not_score_keeps_the_other_s(
    family: StableDiffusion, tmp_path: Path
) -> None:
    def fails(brief: str, image: Image.Image) -> float:
        raise RuntimeError("no")

    run(family, tmp_path, PROMPTS[:1], fails)
    for row in read_shards(tmp_path).rows:
        assert list(row.scores) == ["darkness score"]
        assert [seen.score for seen in row.previews] == [None, None]
        assert "no" in row.explanation


def test_a_folder_of_other_settings_is_refused(family: StableDiffusion, tmp_path: Path) -> None:
    run(family, tmp_path, PROMPTS[:1])
    with pytest.raises(ShardError, match="collected with steps 3, not 4"):
        collect(a_collector(family, steps=4), tmp_path, PROMPTS[:1], seeds=2)


def test_judges_grade_and_images_are_kept_where_asked(
    family: StableDiffusion, tmp_path: Path
) -> None:
    collector = replace(a_collector(family), judges=(open_scorer(sharpness),), keep_images=True)
    collect(collector, tmp_path, PROMPTS[:2], seeds=2)
    collection = read_collection(tmp_path)
    assert collection.targets == ("by_word score", "darkness score")
    assert collection.judges == ("sharpness score",)
    for row in read_shards(tmp_path).rows:
        assert set(row.scores) == {*collection.targets, *collection.judges}
        assert "sharpness score" not in row.preview_scores
        with Image.open(image_path(tmp_path, row)) as image:
            assert brightness(row.prompt, image) == pytest.approx(
                row.scores["by_word score"], abs=0.02
            )
