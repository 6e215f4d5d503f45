"""The data of the evals: held-out briefs that mean their scene, and seeds that recur nowhere."""

import numpy as np
import pytest

from promptprobe.evals.baselines.baselines import Cost, Method, curve, leave_seed_out
from promptprobe.evals.baselines.features import words
from promptprobe.evals.baselines.ridge import fit_ridge, out_of_fold
from promptprobe.evals.model import chosen_difference, wordings
from promptprobe.tools.splits import seed_of
from promptprobe.tools.sprites.evidence import EVIDENCE, held_out, held_out_scenes
from promptprobe.tools.sprites.language import read


@pytest.mark.parametrize("split", ["validation", "test", "composition"])
def test_held_out_briefs_mean_their_scene_and_no_scene_comes_twice(split):
    briefs, scenes = held_out(150, split), held_out_scenes(150, split)
    assert [read(brief.text).scene for brief in briefs] == [scene.canonical for scene in scenes]
    assert {scene.split for scene in scenes} == {split}
    assert len({brief.content for brief in briefs}) == 150


def test_one_object_scenes_join_only_when_asked_and_with_seeds_of_their_own():
    kinds = {brief.kind for brief in held_out(60, "test")}
    assert "one object" not in kinds
    alone = [b for b in held_out(60, "test", one_object=True) if b.kind == "one object"]
    trained = [b for b in held_out(10, "train") if b.kind == "one object"]
    assert alone
    assert not {s for b in alone for s in b.seeds(8)} & {s for b in trained for s in b.seeds(8)}


def test_the_seeds_of_a_scene_are_those_that_published_figures_rest_on():
    [brief], [scene] = held_out(1, "test"), held_out_scenes(1, "test")
    assert brief.seeds(3) == [seed_of("test", scene.key, at) for at in range(3)]


def test_asking_for_more_scenes_than_a_split_has_is_refused():
    with pytest.raises(ValueError, match="scenes of split test, got 100000"):
        held_out(100_000, "test")


def test_the_wordings_of_a_scene_differ_and_mean_the_same():
    for scene in held_out_scenes(20, "test"):
        texts = wordings(scene)
        assert len(set(texts)) == 4
        assert {read(text).scene for text in texts} == {scene.canonical}


def test_a_wording_chosen_by_luck_shows_no_difference_on_the_other_seeds():
    # Wording 1 is best on even seeds and worst on odd ones: luck. In scene 2 it is really better.
    luck = [[0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 1.0, 0.0]]
    real = [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    np.testing.assert_allclose(chosen_difference(np.array([luck, real])), [-0.5, 1.0])


def test_the_mean_of_the_other_seeds_leaves_the_own_score_out():
    np.testing.assert_allclose(leave_seed_out(np.array([[0.0, 0.3, 0.6]])), [[0.45, 0.3, 0.15]])


def test_prompt_only_learns_which_words_are_hard():
    known, fresh = held_out(200, "validation"), held_out(100, "test")
    told, asked = (
        words([[f"kind {b.kind}", *EVIDENCE.meanings(b.text)] for b in bs]) for bs in (known, fresh)
    )
    hard = lambda briefs: np.array([float(b.kind != "position") for b in briefs])  # noqa: E731
    predicted = fit_ridge(told, hard(known), np.arange(200.0))(asked)
    easy = hard(fresh) == 1
    assert predicted[easy].min() > predicted[~easy].max()


def test_a_guess_out_of_fold_never_saw_its_group():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30.0), 4)
    own = np.eye(30)[groups.astype(int)]  # tells the group and nothing else
    y = rng.normal(size=30)[groups.astype(int)]
    assert np.corrcoef(fit_ridge(own, y, groups)(own), y)[0, 1] > 0.9
    assert np.corrcoef(out_of_fold(own, y, groups), y)[0, 1] < 0.3


def test_a_curve_starts_with_all_looks_and_stops_at_the_cost_of_finishing_everything():
    scores = np.random.default_rng(0).random((30, 4))
    full = Cost(50, 1.0)
    points = curve(Method(scores, Cost(10, 0.2), Cost(40, 0.8)), scores, full)
    assert [point["nfe"] for point in points] == [80, 120, 160, 200]
    assert points[0]["recovered"]["value"] == 1
    assert points[-1]["naive_at_equal_nfe"]["value"] == 1
    coarse = curve(Method(scores, Cost(10, 0.2), full), scores, full)
    assert [point["nfe"] for point in coarse] == [90, 140, 190]


def test_random_guesses_cost_nothing_and_recover_what_naive_renders_do():
    scores = np.tile(np.random.default_rng(0).random((1, 4)), (300, 1))
    dice = np.random.default_rng(1).random(scores.shape)
    for point in curve(Method(dice, Cost(0, 0), Cost(50, 1.0)), scores, Cost(50, 1.0)):
        assert point["minus_naive_at_equal_nfe"]["value"] == pytest.approx(0, abs=0.1)
