"""The planner finds what brute force finds, and falls back to naive best-of-n."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest

from promptprobe.agent.search.draws import best_finished, correlations, draw, expected_best, weights
from promptprobe.agent.search.planner import plan
from promptprobe.agent.search.schedule import Costs, Schedule, Signal, from_pairwise, from_spearman

FLUX_LIKE = Signal(
    total=20, steps=(2, 4, 6, 8, 10, 12, 15), correlations=(.05, .25, .5, .68, .79, .86, .94)
)  # fmt: skip
SMALL = Signal(total=10, steps=(2, 4, 7), correlations=(0.4, 0.65, 0.85))
BLIND = Signal(total=20, steps=(2, 4, 8, 16), correlations=(0, 0, 0, 0))


def brute_force(signal: Signal, renders: int) -> float:
    """Best expected score of every affordable schedule of up to two rungs, on draws of its own."""
    drawn = draw(signal, 40, 6000, seed=7)
    steps, best = renders * signal.total, -np.inf
    for count in (0, 1, 2):
        for at in combinations(signal.steps, count):
            for keeps in combinations(range(20, 0, -1), count):
                spent = [
                    keep * (after - step)
                    for keep, step, after in zip(keeps, at, (*at, signal.total)[1:], strict=True)
                ]
                first = at[0] if at else signal.total
                start = min(40, (steps - sum(spent)) // first)
                if start >= 1 and (not keeps or start > keeps[0]):
                    rungs = tuple(zip(at, keeps, strict=True))
                    best = max(best, expected_best(drawn, signal, start, rungs))
    return best


def judged(schedule: Schedule, signal: Signal) -> float:
    drawn = draw(signal, 40, 6000, seed=7)
    rungs = tuple((rung.step, rung.keep) for rung in schedule.rungs)
    return expected_best(drawn, signal, schedule.candidates, rungs)


@pytest.mark.parametrize("renders", [2, 3, 4])
def test_no_schedule_of_two_rungs_is_better_than_the_planned_one(renders: int) -> None:
    planned = judged(plan(SMALL, renders), SMALL)
    assert planned >= brute_force(SMALL, renders) - 0.015


@pytest.mark.parametrize("renders", [1, 2, 2.8, 4, 5.6, 8, 24])
def test_a_schedule_stays_within_its_budget_and_uses_nearly_all_of_it(renders: float) -> None:
    schedule = plan(FLUX_LIKE, renders)
    assert schedule.renders <= renders + 1e-9
    assert schedule.renders > renders - 1 / 2
    steps, left, at = 0, schedule.candidates, 0
    for rung in schedule.rungs:
        steps, left, at = steps + left * (rung.step - at), rung.keep, rung.step
    assert schedule.nfe == pytest.approx(steps + left * (20 - at))
    assert schedule.finishes == left


@pytest.mark.parametrize("renders", [2, 3, 8])
def test_where_looks_say_nothing_the_schedule_is_naive_best_of_n(renders: int) -> None:
    schedule = plan(BLIND, renders)
    assert schedule.is_naive
    assert schedule.candidates == schedule.finishes == renders
    assert schedule.gain == schedule.naive_gain


def test_with_looks_that_rank_as_on_flux_pruning_gains_over_naive_best_of_n() -> None:
    schedule = plan(FLUX_LIKE, 4)
    assert schedule.gain > schedule.naive_gain + 0.08
    assert 5 <= schedule.candidates <= 10


def test_naive_gain_is_the_expected_maximum_of_gaussians() -> None:
    assert plan(BLIND, 8).naive_gain == pytest.approx(1.4236, abs=0.02)


def test_a_better_signal_and_a_larger_budget_gain_more() -> None:
    worse = FLUX_LIKE.model_copy(
        update={"correlations": tuple(0.6 * c for c in FLUX_LIKE.correlations)}
    )
    assert plan(FLUX_LIKE, 4).gain > plan(worse, 4).gain + 0.05
    gains = [plan(FLUX_LIKE, renders).gain for renders in (1, 2, 4, 8)]
    assert gains == sorted(gains)


def test_the_same_question_has_the_same_answer_and_takes_under_a_second() -> None:
    first = plan(FLUX_LIKE, 5.6)
    plan.cache_clear()
    draw.cache_clear()
    began = time.process_time()
    assert plan(FLUX_LIKE, 5.6) == first
    assert time.process_time() - began < 1


# -- costs -------------------------------------------------------------------------------------


def test_seconds_of_looks_are_paid_from_the_renders_they_would_have_bought() -> None:
    quick = Costs(nfe_per_step=2, step_seconds=0.1, look_seconds=0.01, finish_seconds=0.1)
    slow = quick.model_copy(update={"look_seconds": 0.5})
    dear = quick.model_copy(update={"look_seconds": 5.0})
    for costs in (quick, slow, dear):
        schedule = plan(FLUX_LIKE, 4, costs)
        assert schedule.seconds <= 4 * costs.render_seconds(20) + 1e-6
        assert schedule.nfe <= 4 * 40
    assert plan(FLUX_LIKE, 4, slow).gain < plan(FLUX_LIKE, 4, quick).gain
    assert plan(FLUX_LIKE, 4, dear).is_naive


def test_a_dear_scorer_finishes_fewer_and_looks_at_more() -> None:
    cheap = Costs(step_seconds=0.05, look_seconds=0.01, finish_seconds=0.01)
    dear = cheap.model_copy(update={"finish_seconds": 5.0})
    assert plan(FLUX_LIKE, 8, dear, seconds=20).finishes <= plan(FLUX_LIKE, 8, cheap).finishes
    assert plan(FLUX_LIKE, 8, dear, seconds=20).seconds <= 20


def test_a_budget_too_small_for_one_render_is_refused() -> None:
    with pytest.raises(ValueError, match="not one render"):
        plan(FLUX_LIKE, 0.5)
    with pytest.raises(ValueError, match="not one render"):
        plan(FLUX_LIKE, 4, Costs(step_seconds=1), seconds=10)


# -- the signal --------------------------------------------------------------------------------


def test_draws_correlate_as_the_signal_says() -> None:
    drawn = draw(SMALL, 10, 20_000, seed=3)
    found = np.corrcoef(np.vstack([drawn.looks.reshape(3, -1), drawn.final.reshape(1, -1)]))
    assert found == pytest.approx(correlations(SMALL), abs=0.01)


def test_in_a_chain_the_best_look_says_all() -> None:
    assert weights(SMALL, (2, 4)) == pytest.approx([0, 0.65], abs=0.01)


def test_under_a_ceiling_the_best_of_many_gains_less() -> None:
    capped = FLUX_LIKE.model_copy(
        update={"quantiles": (-3, -1.5, -0.8, -0.3, 0.1, 0.4, 0.6, 0.7, 0.75, 0.75)}
    )
    drawn = draw(capped, 10, 5000, seed=3)
    assert drawn.final.max() == 0.75
    assert plan(capped, 4).gain < plan(FLUX_LIKE, 4).gain
    with pytest.raises(ValueError, match="ascending"):
        Signal(total=20, steps=(4,), correlations=(0.3,), quantiles=(1.0, -1.0))


def test_a_later_look_that_ranks_worse_does_not_make_a_plan_worse() -> None:
    dip = Signal(total=20, steps=(4, 8, 9, 12), correlations=(0.4, 0.7, 0.5, 0.8))
    without = Signal(total=20, steps=(4, 8, 12), correlations=(0.4, 0.7, 0.8))
    assert plan(dip, 4).gain >= plan(without, 4).gain - 0.02
    assert np.linalg.eigvalsh(correlations(dip)).min() > -1e-9


def test_a_schedule_run_by_hand_on_looks_keeps_the_best_predicted() -> None:
    drawn = draw(SMALL, 5, 1, seed=0)
    first = np.argsort(-drawn.looks[0, 0])[:3]
    then = first[np.argsort(-drawn.looks[1, 0, first])[:2]]
    looks = dict(zip(SMALL.steps, drawn.looks, strict=True))
    best = best_finished(looks, drawn.final, 5, [(2, 3, [0.4]), (4, 2, [0, 0.65])])
    assert best[0] == drawn.final[0, then].max()


def test_a_signal_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="ascending steps"):
        Signal(total=20, steps=(8, 4), correlations=(0.1, 0.2))
    with pytest.raises(ValueError, match="ascending steps"):
        Signal(total=20, steps=(4, 20), correlations=(0.1, 0.2))
    with pytest.raises(ValueError, match="2 correlations"):
        Signal(total=20, steps=(4, 8), correlations=(0.1,))


def test_rank_figures_of_a_card_become_correlations() -> None:
    assert from_pairwise(0.5) == 0
    assert from_pairwise(1) == 1
    assert from_spearman(1) == pytest.approx(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200_000)
    y = 0.6 * x + 0.8 * rng.standard_normal(200_000)
    right = ((x[::2] > x[1::2]) == (y[::2] > y[1::2])).mean()
    assert from_pairwise(right) == pytest.approx(0.6, abs=0.01)
