"""Runs that end with the first good picture: when to look, whom to finish, and at which rate."""

from __future__ import annotations

import math
from random import Random
from statistics import NormalDist

import pytest

from promptprobe.agent.search.beliefs import preview_prior
from promptprobe.agent.search.schedule import Costs, Signal
from promptprobe.agent.search.stopping import look_rate, plan_until_good, turn
from promptprobe.tools.records import Candidate

GOOD_LOOKS = Signal(total=25, steps=(3, 5, 8), correlations=(0.6, 0.9, 0.95))
NORMAL = NormalDist()


def candidates(count: int) -> list[Candidate]:
    return [Candidate(prompt="a", seed=seed) for seed in range(count)]


def simulated_rate(
    correlation: float, chance: float, look: float, finish: float, bar: float
) -> float:
    """Good pictures per render's worth of many looks, when all of `bar` or more are finished."""
    dice, spent, good = Random(1), 0.0, 0
    rest, limit = math.sqrt(1 - correlation**2), NORMAL.inv_cdf(1 - chance)
    for _ in range(40_000):
        seen = dice.gauss(0, 1)
        spent += look
        if NORMAL.cdf((correlation * seen - limit) / rest) >= bar:
            spent += finish
            good += correlation * seen + rest * dice.gauss(0, 1) > limit
    return good / spent


@pytest.mark.parametrize("chance", [0.1, 0.4])
@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_the_rate_is_what_a_simulation_finds_and_no_other_bar_finds_more(
    correlation: float, chance: float
) -> None:
    look, finish = 0.2, 0.8
    rate, bar = look_rate(correlation, chance, look, finish)
    found = simulated_rate(correlation, chance, look, finish, bar)
    assert found == pytest.approx(rate, rel=0.05)
    for other in (bar / 2, bar * 1.4):
        assert simulated_rate(correlation, chance, look, finish, other) < found * 1.01


def test_a_blind_look_brings_less_than_plain_renders_and_a_perfect_one_much_more() -> None:
    assert look_rate(0.0, 0.3, 0.2, 0.8)[0] <= 0.3
    assert look_rate(0.999, 0.3, 0.2, 0.8)[0] == pytest.approx(0.3 / (0.2 + 0.3 * 0.8), rel=0.05)


def test_where_looks_tell_little_the_plan_is_plain_renders() -> None:
    blind = Signal(total=25, steps=(5, 10), correlations=(0.05, 0.1))
    schedule = plan_until_good(blind, 3.5, Costs(), chance=0.4)
    assert (schedule.candidates, schedule.rungs, schedule.waves) == (3, (), None)
    few = plan_until_good(preview_prior(4), 3, Costs(), chance=0.9)
    assert few.is_naive


def test_a_good_look_is_taken_within_the_budget_and_the_harder_the_brief_the_lower_the_bar() -> (
    None
):
    easy, hard = (plan_until_good(GOOD_LOOKS, 3, Costs(nfe_per_step=2), p) for p in (0.5, 0.1))
    for schedule in (easy, hard):
        [rung] = schedule.rungs
        assert rung.step in GOOD_LOOKS.steps
        assert 2 < schedule.renders <= 3
        assert schedule.nfe == pytest.approx(schedule.renders * 50)
        assert schedule.candidates > 3
        assert schedule.gain > schedule.naive_gain
    assert easy.waves is not None
    assert hard.waves is not None
    assert hard.waves.chance < easy.waves.chance


def test_the_callers_prompts_are_all_in_the_first_wave_and_a_cap_on_candidates_holds() -> None:
    own = plan_until_good(GOOD_LOOKS, 3, Costs(), 0.4, least=6)
    assert own.waves is not None
    assert own.waves.size == 6
    assert own.candidates >= 6
    assert plan_until_good(GOOD_LOOKS, 3, Costs(), 0.4, most=4).candidates == 4


def test_dear_looks_are_not_taken_and_seconds_are_held() -> None:
    slow = Costs(step_seconds=0.1, look_seconds=5, finish_seconds=0.1)
    assert plan_until_good(GOOD_LOOKS, 3, slow, 0.4).is_naive
    timed = Costs(step_seconds=0.1, look_seconds=0.05, finish_seconds=0.2)
    assert plan_until_good(GOOD_LOOKS, 3, timed, 0.4, seconds=5).seconds <= 5
    with pytest.raises(ValueError, match="not one render fits"):
        plan_until_good(GOOD_LOOKS, 0.5, Costs(), 0.4)


def test_turn_by_turn_who_is_worth_it_is_finished_and_else_two_more_are_looked_at() -> None:
    schedule = plan_until_good(GOOD_LOOKS, 3, Costs(), 0.4)
    assert schedule.waves is not None
    bar, look = schedule.waves.chance, schedule.rungs[0].step / 25
    one, other, *fresh = candidates(6)
    assert turn(schedule, {one: bar, other: bar / 2}, fresh, 2) == ((), (one,))
    assert turn(schedule, {one: bar / 2, other: 0}, fresh, 2) == (tuple(fresh[:2]), ())
    assert turn(schedule, {one: 0.1}, fresh, 1 + look / 2) == ((fresh[0],), ())


def test_the_last_of_a_round_goes_to_the_best_chance_and_nothing_beyond_it_is_begun() -> None:
    schedule = plan_until_good(GOOD_LOOKS, 3, Costs(), 0.4)
    finish = 1 - schedule.rungs[0].step / 25
    one, other, *fresh = candidates(6)
    assert turn(schedule, {one: 0.0, other: 0.1}, fresh, finish) == ((), (other,))
    assert turn(schedule, {one: 0.9, other: 0.1}, fresh, finish / 2) == ((), ())
    assert turn(schedule, {}, [], 3) == ((), ())
