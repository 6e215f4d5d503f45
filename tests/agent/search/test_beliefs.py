"""What a run learns of its looks from what it finishes, and what it assumes before."""

from __future__ import annotations

from random import Random

import pytest

from promptprobe.agent.search.beliefs import (
    AGAINST_ADVICE,
    PREVIEW_RANKS,
    Beliefs,
    Looked,
    against_advice,
    learn,
    preview_prior,
    prior_beliefs,
)
from promptprobe.agent.search.planner import plan
from promptprobe.agent.search.schedule import Signal

CARD = Signal(total=20, steps=(4, 8), correlations=(0.4, 0.7))


def candidates(
    prompts: int, seeds: int, finished: int, rank: float = 0.4, seed: int = 0
) -> list[Looked]:
    """Standard scores; the look after 4 steps is calibrated; the best predicted are finished."""
    dice, found = Random(seed), []
    for prompt in range(prompts):
        mean = dice.gauss(0, 2)
        group = []
        for _ in range(seeds):
            told = dice.gauss(0, rank)
            score = mean + told + dice.gauss(0, (1 - rank**2) ** 0.5)
            group.append((mean + told, score))
        group.sort(reverse=True)
        found += [
            Looked(prompt=str(prompt), predictions={4: p}, score=s if i < finished else None)
            for i, (p, s) in enumerate(group)
        ]
    return found


def correlation(beliefs: Beliefs) -> float:
    return beliefs.looks[0].correlation


def test_before_anything_is_finished_the_card_is_believed() -> None:
    beliefs = prior_beliefs(CARD, within=1)
    assert beliefs.signal(20).correlations == pytest.approx(CARD.correlations)
    assert learn(beliefs, []) == beliefs
    assert prior_beliefs(CARD, 4, spreads={4: 3}).signal(20).correlations == pytest.approx(
        CARD.correlations
    )


def test_choosing_by_the_looks_does_not_make_them_seem_worse() -> None:
    prior = prior_beliefs(CARD, within=1)
    learned = learn(prior, candidates(prompts=200, seeds=12, finished=3))
    assert correlation(learned) == pytest.approx(0.4, abs=0.07)
    assert learned.looks[1] == prior.looks[1]


def test_looks_that_say_nothing_are_found_out() -> None:
    prior = prior_beliefs(CARD, within=1)
    dice = Random(1)
    shuffled = [
        Looked(prompt=c.prompt, predictions={4: dice.gauss(0, 0.4)}, score=c.score)
        for c in candidates(prompts=40, seeds=6, finished=6)
    ]
    learned = learn(prior, shuffled)
    assert abs(correlation(learned)) < 0.15
    few = learn(prior, shuffled[:60])
    assert correlation(learned) < correlation(few) < correlation(prior)


def test_a_better_probe_than_the_card_says_is_believed_more_with_each_finish() -> None:
    prior = prior_beliefs(CARD, within=1)
    found = [
        correlation(learn(prior, candidates(prompts, 8, 8, rank=0.9))) for prompts in (2, 8, 60)
    ]
    assert correlation(prior) < found[0] < found[1] < found[2]
    assert found[2] > 0.8


def test_a_constant_error_does_not_change_the_rank() -> None:
    prior = prior_beliefs(CARD, within=1)
    honest = candidates(30, 6, 6)
    high = [c.model_copy(update={"predictions": {4: c.predictions[4] + 5}}) for c in honest]
    assert correlation(learn(prior, high)) == pytest.approx(correlation(learn(prior, honest)))


def test_one_finished_candidate_says_nothing_of_ranks() -> None:
    prior = prior_beliefs(CARD, within=1)
    alone = [Looked(prompt="a", predictions={4: 3.0}, score=-3.0)]
    assert correlation(learn(prior, alone)) == pytest.approx(correlation(prior))


def test_what_was_learned_changes_the_next_plan() -> None:
    prior = prior_beliefs(Signal(total=20, steps=(4,), correlations=(0.1,)), within=1)
    learned = learn(prior, candidates(200, 8, 8, rank=0.9))
    assert plan(prior.signal(20), 3).is_naive
    assert not plan(learned.signal(20), 3).is_naive


def test_the_stated_share_of_finishes_goes_against_the_advice() -> None:
    swaps = 0
    for seed in range(2000):
        finish, odd = against_advice(("a", "b", "c"), ("d", "e"), seed)
        assert len(finish) == 3 and finish[0] == "a"
        swaps += odd is not None
        assert (odd in finish and odd in ("d", "e")) if odd else finish == ("a", "b", "c")
    assert swaps / 6000 == pytest.approx(AGAINST_ADVICE, abs=0.01)
    assert against_advice(("a",), ("b",), 0) == (("a",), None)
    assert against_advice(("a", "b"), (), 0) == (("a", "b"), None)
    assert against_advice(("a", "b"), ("c",), 5) == against_advice(("a", "b"), ("c",), 5)


def test_the_prior_for_previews_is_stretched_over_any_number_of_steps() -> None:
    assert preview_prior(20).steps == tuple(range(1, 20))
    twenty, fifty = preview_prior(20).correlations, preview_prior(50).correlations
    assert (fifty[9], fifty[24]) == pytest.approx((twenty[3], twenty[9]))
    assert list(PREVIEW_RANKS) == sorted(PREVIEW_RANKS)


def test_with_the_prior_alone_pruning_is_late_and_gains_a_little() -> None:
    schedule = plan(preview_prior(20), 4)
    assert schedule.naive_gain < schedule.gain < schedule.naive_gain + 0.1
    assert schedule.finishes >= 2
