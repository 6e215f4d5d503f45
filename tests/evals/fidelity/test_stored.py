"""Fidelity on a collection: what its shards hold is read, and only what they lack is drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptprobe.__main__ import main
from promptprobe.evals.bench import Bench
from promptprobe.evals.briefs import from_shards
from promptprobe.evals.fidelity import fidelity
from promptprobe.evals.fidelity.experiment import run_experiment
from promptprobe.evals.fidelity.stored import stored
from promptprobe.evals.sampling import grade, sample, values
from promptprobe.probe.training.dataset import splits_of
from promptprobe.tools.collect.collector import Collector, collect, rows_in
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.sprites.prompts import prompts
from tests.evals.fidelity.conftest import brightness
from tests.evals.random_probe import random_probe

SEEDS = 2


def as_scorer(name: str, judge: Any) -> Scorer:
    return Scorer(name, lambda brief, images: judge(brief, np.stack([*map(np.asarray, images)])))


def never(brief: str, images: np.ndarray) -> Any:
    raise AssertionError(f"asked about {brief}")


@pytest.fixture
def judged(bench: Bench) -> Bench:
    """The bench with a second judge."""
    return replace(bench, grader="redness", judge=brightness(lambda _: False, 2))


@pytest.fixture
def shards(judged: Bench, tmp_path: Path) -> Path:
    """Twelve prompts of which none, some or all are held out, with the scores of both judges."""
    scorer, judge = (as_scorer("brightness", judged.score), as_scorer("redness", judged.judge))
    collector = Collector("tiny", judged.family, judged.settings, (1, 2), (scorer,), (judge,))
    wanted = [*islice(prompts("train"), 2), *islice(prompts("validation"), 10)]
    collect(collector, tmp_path / "shards", wanted, SEEDS)
    return tmp_path / "shards"


def briefs_of(shards: Path) -> list[Brief]:
    rows = {row.prompt: row for row in rows_in(shards)}
    return [Brief(row.prompt, row.scene, row.split, row.kind) for row in rows.values()][:4]


def test_what_a_collection_holds_is_not_drawn_again(judged: Bench, shards: Path) -> None:
    briefs = briefs_of(shards)
    idle = replace(judged, family=None, score=never, judge=never)  # draws and judges nothing
    [table] = stored(idle, shards, [briefs], SEEDS, (1, 2))

    assert [prompt for prompt, _ in table.pairs[::SEEDS]] == [brief.text for brief in briefs]
    drawn = sample(judged, table.pairs, (1, 2))
    np.testing.assert_array_equal(table.scores, values(grade(judged.score, briefs, drawn.images)))
    assert table.graded is not None
    np.testing.assert_array_equal(table.graded, values(grade(judged.judge, briefs, drawn.images)))
    for k in (1, 2):
        looks = values(grade(judged.score, briefs, drawn.previews[k]))
        np.testing.assert_array_equal(table.previews(k), looks)


def test_a_judge_that_a_collection_lacks_grades_the_images_drawn_anew(
    judged: Bench, shards: Path
) -> None:
    briefs = briefs_of(shards)
    other = replace(judged, grader="greenness", judge=brightness(lambda _: False, 1))
    [table] = stored(other, shards, [briefs], SEEDS, (1,))
    images = sample(judged, table.pairs).images
    assert table.graded is not None
    np.testing.assert_array_equal(table.graded, values(grade(other.judge, briefs, images)))


def test_an_eval_on_a_collection_asks_a_probe_about_held_out_prompts_alone(
    judged: Bench, shards: Path
) -> None:
    rows = rows_in(shards)
    held_out = {rows[group[0]].prompt for group in splits_of(rows).calibration}
    assert (
        len(from_shards(judged, shards, SEEDS).test) > len(held_out) - 2
    )  # previews learn nothing
    probe = random_probe(judged.family, judged.settings, ("brightness score",), (1, 2))
    probed = replace(judged, probe=probe, probe_name="own")
    sample_of = from_shards(probed, shards, SEEDS)
    assert {brief.text for brief in (*sample_of.test, *sample_of.known)} <= held_out

    drawn = run_experiment(probed, sample_of, SEEDS)
    again = sample(probed, drawn.test.pairs, (1,))
    looks = [score.value for score in drawn.test.views[1].seen]
    assert len(looks) == len(drawn.test.pairs) == len(drawn.test.views[1].predictions)
    exact = probe.predict(again.traces[1], 1)
    told = [one.score for one in drawn.test.views[1].blind]
    np.testing.assert_allclose(told, [one.score for one in exact], atol=0.01)
    assert any("its intervals were calibrated on them" in note for note in fidelity.notes(drawn))


def test_prompts_with_too_few_seeds_are_left_out_with_what_to_do(
    judged: Bench, shards: Path
) -> None:
    with pytest.raises(ValueError, match=r"12 of 12 prompts .* fewer than 3 seeds .*--seeds 2"):
        from_shards(judged, shards, 3)


def test_prompts_of_no_collection_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "fidelity", "--prompts", "shards"]) == 2
    assert "name it with --shards DIR" in capsys.readouterr().err
