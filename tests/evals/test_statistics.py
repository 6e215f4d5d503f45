"""Hand-computed cases: every figure of the project goes through these functions."""

import numpy as np
import pytest

from promptprobe.evals import statistics as st


def test_a_tied_guess_is_half_right_and_tied_scores_do_not_count():
    scores = np.array([[0.0, 1.0, 1.0], [0.5, 0.5, 0.5]])
    # Prompt 1 has two untied pairs: (0, 1) guessed right, (0, 2) a tie. Prompt 2 has none.
    guesses = np.array([[0.2, 0.9, 0.2], [0.1, 0.2, 0.3]])
    assert st.pairwise(guesses, scores).value == pytest.approx(1.5 / 2)
    assert st.pairwise(-scores, scores).value == 0


def test_pairwise_accuracies_are_compared_on_the_same_pairs():
    scores = np.array([[0.0, 1.0], [0.0, 1.0]])
    half = np.array([[0.0, 1.0], [1.0, 0.0]])
    difference = st.pairwise(scores, scores, half)
    assert difference.value == pytest.approx(0.5)
    assert difference.low == 0
    assert difference.high == 1


def test_rank_correlation_is_nan_for_constant_scores_and_zero_for_a_constant_guess():
    scores = np.array([[0.1, 0.2, 0.4], [0.3, 0.3, 0.3], [0.1, 0.2, 0.4], [0.1, 0.2, 0.4]])
    guesses = np.array([[1.0, 2, 3], [1, 2, 3], [5, 5, 5], [3, 2, 1]])
    np.testing.assert_allclose(st.rank_correlations(guesses, scores), [1, np.nan, 0, -1])
    assert st.within(guesses, scores)["excluded"] == 1


def test_the_rank_ceiling_is_what_an_untied_guess_can_reach():
    # Ranks of the scores 1.5, 1.5, 3.5, 3.5; of the best guess 1, 2, 3, 4: 2 / sqrt(5) exactly.
    assert st.rank_ceilings(np.array([[0.0, 0, 1, 1]])) == pytest.approx(2 / np.sqrt(5))
    assert st.ceiling(np.array([[0.0, 1], [0, 1]])).value == pytest.approx(2 / np.sqrt(5))


def test_auc_counts_ties_half_and_needs_both_classes():
    guesses = np.array([0.1, 0.4, 0.4, 0.9])
    assert st.auc(guesses, np.array([False, False, True, True])) == pytest.approx(3.5 / 4)
    assert np.isnan(st.auc(guesses, np.ones(4, bool)))


def test_pooled_figures_of_a_perfect_guess_are_one():
    scores = np.array([[0.0, 0.5], [0.5, 1.0], [0.25, 0.75]])
    for estimate in st.pooled(scores * 2 + 1, scores, threshold=0.5).values():
        assert estimate == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_headroom_is_a_ratio_of_sums_not_a_mean_of_ratios():
    scores = np.array([[0.0, 1.0], [0.4, 0.6]])
    selected = np.array([1.0, 0.4])
    # (0.5 - 0.1) / (0.5 + 0.1); the mean of the ratios would be (1 - 1) / 2 = 0.
    assert st.headroom(selected, scores).value == pytest.approx(0.4 / 0.6)


def test_without_any_headroom_there_is_no_share_of_it():
    assert st.headroom(np.array([0.5, 0.5]), np.full((2, 3), 0.5)).value is None


def test_best_of_kept_shares_the_choice_among_tied_guesses():
    scores = np.tile([[0.0, 1.0]], (400, 1))
    assert st.best_of_kept(np.zeros((400, 2)), scores, 1).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(st.best_of_kept(scores, scores, 1), 1)
    np.testing.assert_array_equal(st.best_of_kept(-scores, scores, 2), 1)


def test_best_of_n_is_exact_over_all_subsets():
    scores = np.array([[0.3, 0.0, 0.6]])
    assert st.best_of_n(scores, 1) == pytest.approx(0.3)
    assert st.best_of_n(scores, 2) == pytest.approx((0.3 + 0.6 + 0.6) / 3)
    assert st.best_of_n(scores, 3) == pytest.approx(0.6)
    assert st.best_of_n(scores, 1.5) == pytest.approx((0.3 + 0.5) / 2)


def test_best_of_n_can_be_graded_by_another_judge_and_shares_ties():
    selector = np.array([[1.0, 1.0, 0.0]])
    judge = np.array([[0.2, 0.6, 0.9]])
    assert st.best_of_n(selector, 3, judge) == pytest.approx(0.4)
    assert st.best_of_n(selector, 1, judge) == pytest.approx(judge.mean())


def test_best_of_n_refuses_more_seeds_than_the_table_has():
    with pytest.raises(ValueError, match="n is 4; the table has 3 seeds"):
        st.best_of_n(np.zeros((1, 3)), 4)


def test_the_interval_of_a_mean_is_close_to_the_normal_one():
    values = np.random.default_rng(1).normal(0, 1, 400)
    estimate = st.mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.02)


def test_one_row_has_a_value_and_no_interval():
    assert st.mean(np.array([0.4])) == st.Estimate(0.4, None, None)


def test_rows_without_a_value_are_left_out_of_a_mean():
    assert st.mean(np.array([0.2, np.nan, 0.6])).value == pytest.approx(0.4)


def test_a_share_of_all_rows_has_an_exact_interval_that_is_not_empty():
    everything = st.share(np.ones(10))
    assert everything.value == 1
    assert everything.low == pytest.approx(0.025 ** (1 / 10))  # Clopper-Pearson
    assert everything.high == 1


def test_the_same_table_gives_the_same_interval():
    table = np.random.default_rng(2).random((20, 8))
    assert st.mean(table.mean(1)) == st.mean(table.mean(1))


def test_rendering_until_right_takes_what_it_costs_and_keeps_what_it_found():
    # Row 1 is right at once and takes one render; row 2 never is and takes as many as allowed.
    selector = np.array([[1.0, 1.0, 1.0], [0.2, 0.2, 0.5]])
    right = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    values, taken = st.best_until_right(selector, right, 2.0, selector)
    assert taken == pytest.approx(2)  # (1 + 3) / 2
    np.testing.assert_allclose(values, [1.0, 0.5])
    values, taken = st.best_until_right(selector, right, 99.0, 1 - selector)
    assert taken == pytest.approx(2)
    np.testing.assert_allclose(values, [0.0, 0.5])
    assert st.best_until_right(selector, right, 1.5, selector)[0][1] == pytest.approx(0.4, abs=0.06)
