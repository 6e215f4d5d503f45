"""Rungs, keep rules and pairs, on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from promptprobe.evals.baselines.baselines import Cost, Method, at_budget
from promptprobe.evals.selection import successive_halving
from promptprobe.evals.selection.pairs import pairs

LOOK, FINISH, FULL = Cost(10, 0.2), Cost(40, 0.8), Cost(50, 1.0)


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).random((40, 8))


def look(k: int, since: int) -> Cost:
    return Cost(2.0 * (k - since), 0.1)


def finish(k: int) -> Cost:
    return Cost(2.0 * (25 - k), 1.0)


def test_a_rung_pays_only_for_what_the_last_one_kept():
    one = successive_halving.cost(((5, 1),), 8, look, finish)
    two = successive_halving.cost(((3, 4), (8, 1)), 8, look, finish)
    assert one.nfe == 8 * 10 + 40
    assert two.nfe == 8 * 6 + 4 * 10 + 34
    assert two.seconds == pytest.approx(8 * 0.1 + 4 * 0.1 + 1.0)


def test_what_a_rung_dropped_does_not_come_back(scores):
    late = {1: -scores, 2: scores}  # the first look is all wrong, the second all right
    left = successive_halving.kept(((1, 4), (2, 1)), late)
    assert (left.sum(1) == 1).all()
    worst_four = np.sort(scores, 1)[:, 3]
    np.testing.assert_allclose(scores[left], worst_four)


def test_the_rule_that_is_chosen_recovers_most_and_is_the_cheapest_of_those(scores):
    guesses = {1: np.random.default_rng(1).random(scores.shape), 2: scores}
    costs = {
        rule: successive_halving.cost(rule, 8, look, finish).nfe
        for rule in successive_halving.rules([1, 2], 8)
    }
    chosen = successive_halving.choose(costs, guesses, scores)
    assert chosen == ((2, 1),)
    assert successive_halving.best_kept(chosen, guesses, scores).sum() == scores.max(1).sum()


def test_a_keep_rule_keeps_a_best_seed_as_often_as_it_was_fitted_to(scores):
    rng = np.random.default_rng(2)
    truth = rng.random((2000, 8))
    guesses = truth + rng.normal(0, 0.2, truth.shape)
    margin = successive_halving.keep_margin(guesses[:1000], truth[:1000])
    found = successive_halving.keep_rule(guesses[1000:], truth[1000:], margin)
    assert found["best_kept"]["value"] == pytest.approx(0.9, abs=0.03)
    assert 0.125 < found["kept"]["value"] < 0.6
    certain = successive_halving.keep_rule(scores, scores, 0.0)
    assert certain["kept"]["value"] == pytest.approx(1 / 8)


def test_within_the_budget_a_look_that_knows_beats_naive_and_one_too_dear_has_no_point(scores):
    point = at_budget(Method(scores, LOOK, FINISH), scores, FULL, scores.max(1))
    assert point is not None
    assert (point["keep"], point["share_of_nfe"]) == (1, 0.3)
    assert point["recovered"]["value"] == 1
    assert point["minus_naive_at_equal_nfe"]["low"] > 0
    assert point["predictor_minus_this"]["value"] == 0
    assert at_budget(Method(scores, FULL, FULL), scores, FULL) is None


def test_a_probe_that_knows_finds_good_pictures_and_pairs_in_the_right_order(scores):
    found = pairs(Method(scores, LOOK, FINISH), scores, FULL, threshold=0.5)
    assert found["good"]["with"]["value"] > 0.99
    assert found["good"]["times"]["low"] > 1.5
    assert found["pairs_that_differ"]["renders_at_equal_nfe"] == 3.2
    assert found["pairs_that_differ"]["in_the_right_order"]["value"] == 1


def test_random_renders_differ_as_often_as_counting_says():
    one_odd = np.array([[1.0, 0.0, 0.0, 0.0]] * 3)
    found = pairs(Method(one_odd, Cost(0, 0), FULL), one_odd, FULL, threshold=0.5)
    assert found["pairs_that_differ"]["renders_at_equal_nfe"] == 2
    assert found["pairs_that_differ"]["without"]["value"] == pytest.approx(0.5)
