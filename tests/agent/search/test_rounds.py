"""Prompt and seed effects told apart, and what the next round buys."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest

from promptprobe.agent.search.beliefs import preview_prior
from promptprobe.agent.search.planner import plan
from promptprobe.agent.search.rounds import Observed, effects, expected_improvement, next_round
from promptprobe.agent.search.schedule import Schedule

SIGNAL = preview_prior(20)


def observed(means: dict[str, float], seeds: int, spread: float, seed: int = 0) -> list[Observed]:
    dice = Random(seed)
    return [
        Observed(prompt=prompt, value=dice.gauss(mean, spread))
        for prompt, mean in means.items()
        for _ in range(seeds)
    ]


def schedules(between: float, within: float) -> tuple[Schedule, Schedule]:
    """For fresh seeds of one prompt, and for new prompts, as `planning.decide` has them."""
    planned = plan(SIGNAL, 4)
    reseed, rewrite = (
        planned.model_copy(
            update={"gain": planned.gain * spread, "deviation": planned.deviation * spread}
        )
        for spread in (math.sqrt(within), math.sqrt(within + between))
    )
    return reseed, rewrite


def test_a_lucky_seed_does_not_make_a_prompt_the_best() -> None:
    found = effects(
        [
            *(Observed(prompt="steady", value=v) for v in (0.8, 0.82, 0.78, 0.8, 0.81)),
            Observed(prompt="lucky", value=0.9),
            *(Observed(prompt="poor", value=v) for v in (0.3, 0.35, 0.2)),
        ],
        between=0.01,
        within=0.09,
    )
    assert found.prompts[-1].prompt == "poor"
    lucky = next(one for one in found.prompts if one.prompt == "lucky")
    assert 0.5 < lucky.mean < 0.8
    assert lucky.variance > found.prompts[-1].variance


def test_shrunken_means_miss_by_less_than_plain_ones() -> None:
    dice = Random(3)
    means = {str(i): dice.gauss(0, 0.5) for i in range(40)}
    seen = observed(means, seeds=3, spread=1.0)
    found = {one.prompt: one.mean for one in effects(seen, between=0.25, within=1).prompts}
    plain = {name: fmean(o.value for o in seen if o.prompt == name) for name in means}
    missed = [
        fmean((guess[name] - mean) ** 2 for name, mean in means.items()) for guess in (found, plain)
    ]
    assert missed[0] < 0.75 * missed[1]


def test_variances_move_from_the_card_to_what_is_seen() -> None:
    means = {str(i): 3.0 * (i % 2) for i in range(20)}
    found = effects(observed(means, seeds=8, spread=0.2), between=0.1, within=1)
    assert found.between > 1.5
    assert found.within < 0.2
    alone = effects(observed({"a": 0}, 2, 0.2), between=0.1, within=1)
    assert alone.between == 0.1


def test_predictions_count_less_than_scores() -> None:
    sure = effects([Observed(prompt="a", value=1.0), Observed(prompt="b", value=0.0)], 1, 0.1)
    unsure = effects(
        [Observed(prompt="a", value=1.0, noise=2.0), Observed(prompt="b", value=0.0)], 1, 0.1
    )
    assert sure.prompts[0].mean > unsure.prompts[0].mean


def test_where_wording_matters_the_next_round_rewrites_and_else_it_reseeds() -> None:
    reseed, rewrite = schedules(between=4, within=0.1)
    wordy = effects(observed({"a": 0.0, "b": 0.1, "c": -0.1}, 4, 0.3), between=4, within=0.1)
    assert next_round(wordy, 0.5, reseed, rewrite, worth=0.01).action == "rewrite"
    reseed, rewrite = schedules(between=0.01, within=1)
    seedy = effects(observed({"a": 1.0, "b": -1.0, "c": -1.2}, 6, 1.0), between=0.5, within=1)
    choice = next_round(seedy, 1.5, reseed, rewrite, worth=0.01)
    assert choice.action == "reseed"
    assert choice.prompt == "a"


def test_a_brief_that_already_scores_well_costs_no_rewriting() -> None:
    reseed, rewrite = schedules(between=0.001, within=0.001)
    known = effects(observed({"brief": 0.95}, 4, 0.03), between=0.001, within=0.001)
    assert next_round(known, 1.0, reseed, rewrite, worth=0.05).action == "stop"


def test_without_a_rewriter_a_round_reseeds_or_stops() -> None:
    reseed, _ = schedules(between=4, within=1)
    known = effects(observed({"brief": 0.0}, 4, 1.0), between=4, within=1)
    assert next_round(known, 0.5, reseed, None, worth=0.05).action == "reseed"
    assert next_round(known, 9.0, reseed, None, worth=0.05).action == "stop"


def test_expected_improvement_is_that_of_a_gaussian() -> None:
    assert expected_improvement(1, 0, 0.4) == pytest.approx(0.6)
    assert expected_improvement(0, 1, 0) == pytest.approx(0.39894, abs=1e-4)
    assert expected_improvement(-9, 1, 0) == pytest.approx(0, abs=1e-9)


def test_effects_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        effects([], 1, 1)
