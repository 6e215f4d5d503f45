"""From a run's trials to its next round: what is learned, and what the next round buys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from promptprobe.agent.search import planning
from promptprobe.agent.search.beliefs import preview_prior
from promptprobe.agent.search.schedule import Signal, from_pairwise
from promptprobe.agent.search.trust import trust_in
from promptprobe.tools.records import Budget, Candidate, Look, Prediction, Score, Trial, Verdict

SIGNAL = Signal(total=20, steps=(5, 10), correlations=(0.6, 0.8))


def finished(
    seed: int, score: float | None, prompt: str = "a", low: float | None = None, **at: float
) -> Trial:
    """A trial with looks: `at5` is what is predicted after five steps."""
    high = None if low is None else low + 0.2
    basis = "preview" if low is None else "probe"
    looks = [
        Look(step=int(name[2:]), prediction=Prediction(
            score=value, low=low, high=high, basis=basis, preview=at["at5"] + seed % 2 / 9))
        for name, value in at.items()
    ]  # fmt: skip
    return Trial(
        candidate=Candidate(prompt=prompt, seed=seed),
        round=1,
        looks=tuple(looks),
        prediction=looks[-1].prediction if looks else None,
        image=None if score is None else Path("image.png"),
        score=None if score is None else Score(value=score),
    )


def test_measured_ranks_are_the_signal_and_previews_join_only_where_they_rank_higher() -> None:
    measured = planning.prior_signal(20, {5: 0.6, 8: 0.65, 20: 0.9})
    assert measured.correlations[:2] == pytest.approx([from_pairwise(0.6), from_pairwise(0.65)])
    assert all(step > 8 for step in measured.steps[2:])
    assert all(one > from_pairwise(0.65) for one in measured.correlations[2:])
    assert planning.prior_signal(20, {}) == preview_prior(20)


def test_looks_that_say_nothing_are_found_out_and_looks_that_say_all_are_too() -> None:
    dice = Random(0)
    scores = [dice.random() for _ in range(60)]
    blind = [finished(n, s, at5=dice.random(), at10=dice.random()) for n, s in enumerate(scores)]
    sighted = [finished(n, s, at5=s + dice.random() / 9, at10=s) for n, s in enumerate(scores)]
    worse, better = (planning.believe(SIGNAL, t, "preview").signal(20) for t in (blind, sighted))
    assert worse.correlations[0] < 0.4
    assert better.correlations[0] > 0.8
    assert planning.believe(SIGNAL, [], "preview").signal(20).correlations == pytest.approx(
        SIGNAL.correlations
    )


def test_a_good_prompt_is_reseeded_and_where_prompts_differ_new_ones_are_worth_more() -> None:
    beliefs = planning.believe(SIGNAL, [], "preview")
    schedule = planning.plan_round(beliefs, 20, 3, planning.costs_of(2, 0, 0, 0, False),
                                   Budget(), None)  # fmt: skip
    alike = [finished(n, 0.5 + n / 10, p, at5=0.5) for n in range(4) for p in "abc"]
    good = alike + [finished(n, 0.95 + n / 100, "d", at5=0.5) for n in range(4)]
    for trials, action in ((good, "reseed"), (alike[:3], "rewrite")):
        known = planning.known_effects(planning.believe(SIGNAL, trials, "preview"), trials)
        assert known
        assert planning.decide(known, 0.9, schedule, rewriting=True).action == action
        assert planning.decide(known, 0.9, schedule, rewriting=False).action != "rewrite"


def test_times_are_planned_with_only_where_seconds_are_capped() -> None:
    free = planning.costs_of(2, step=0.1, look=1, score=3, capped=False)
    assert free.render_seconds(25) == 0
    capped = planning.costs_of(2, step=0.1, look=1, score=3, capped=True)
    assert capped.render_seconds(25) == pytest.approx(5.5)
    beliefs = planning.believe(SIGNAL, [], "preview")
    dear = planning.plan_round(beliefs, 20, 8, capped, Budget(), 30.0)
    cheap = planning.plan_round(beliefs, 20, 8, free, Budget(), None)
    assert dear.seconds <= 30
    assert dear.candidates < cheap.candidates


def test_scores_outside_of_their_intervals_break_trust_and_a_few_of_many_do_not() -> None:
    outside = [finished(n, 0.6, low=0.7, at5=0.8) for n in range(3)]
    assert "3 of 3 scores lie outside" in trust_in(outside, {}, {}).broken
    inside = [finished(n, 0.75, low=0.7, at5=0.8) for n in range(9)]
    assert trust_in([*inside, *outside], {}, {}).broken == ""
    assert trust_in([*inside, *outside], {}, {}).inside == 9
    assert trust_in([], {}, {}).broken == ""


def test_a_probe_that_contradicts_good_previews_is_not_trusted() -> None:
    def trials(scores: Sequence[float]) -> list[Trial]:
        found = []
        for seed, score in enumerate(scores):
            shown = Prediction(score=score, basis="probe", preview=seed)
            look = Look(step=5, prediction=shown)
            candidate = Candidate(prompt="ab"[seed % 2], seed=seed)
            found.append(Trial(candidate=candidate, round=1, looks=(look,), prediction=shown))
        return found

    good, weak = {3: 0.6, 5: 0.85}, {5: 0.6}
    ordered, mixed = range(10), [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert trust_in(trials(ordered), good, good).agreement == 1
    assert trust_in(trials(ordered), good, good).broken == ""
    assert "only 56% of pairs" in trust_in(trials(mixed), good, good).broken
    assert "its card promises 79%" in trust_in(trials(mixed), good, good).broken
    assert trust_in(trials(mixed[:4]), good, good).agreement is None  # too few
    assert trust_in(trials(mixed), good, weak).agreement is None  # previews say too little there
    assert trust_in(trials(mixed), weak, good).agreement is None  # the probe promises too little


def test_a_picture_ends_a_run_from_the_target_on_or_between_all_things_and_all_but_one() -> None:
    words = tuple(Verdict(word=f"thing {n}", ok=n > 0, chance=0.5) for n in range(4))
    first = finished(1, 0.75).model_copy(
        update={"score": Score(value=0.75, correct=False, words=words)}
    )
    assert planning.good_from(None, [first]) == 1 - 0.5 / 4
    assert planning.good_from(21.5, [first]) == 21.5
    assert planning.good_from(None, [finished(1, 0.75)]) is None
    assert planning.good_from(None, []) is None


def test_the_chance_to_end_a_run_follows_the_interval_and_of_previews_the_beliefs() -> None:
    sure, unsure = finished(1, None, low=0.7, at5=0.8), finished(2, None, low=0.3, at5=0.4)
    lost = finished(3, None)
    beliefs = planning.believe(SIGNAL, [sure, unsure, lost], "probe")
    found = planning.chances_of(beliefs, [sure, unsure, lost], good=0.8)
    assert found[sure.candidate] == pytest.approx(0.5)
    assert found[unsure.candidate] < 0.001
    assert found[lost.candidate] == 0

    dice = Random(1)
    seen = [finished(n, n / 20, at5=n / 20 + dice.gauss(-0.3, 0.02)) for n in range(20)]
    fresh = [finished(50 + n, None, at5=n / 20 - 0.3) for n in (2, 18)]
    beliefs = planning.believe(SIGNAL, [*seen, *fresh], "preview")
    low, high = list(planning.chances_of(beliefs, [*seen, *fresh], good=0.8).values())[-2:]
    assert low < 0.2 < 0.4 < high


def test_what_came_of_those_that_were_tried_says_what_to_expect_of_the_next() -> None:
    beliefs = planning.believe(SIGNAL, [], "probe")
    assert planning.fresh_chance(beliefs, [], good=0.8) == 0.5
    failed = [finished(n, 0.2, low=0.1, at5=0.2) for n in range(4)]
    unlikely = [finished(9 + n, None, low=0.1, at5=0.2) for n in range(4)]
    assert planning.fresh_chance(beliefs, failed, good=0.8) == pytest.approx(1 / 6)
    assert planning.fresh_chance(beliefs, failed + unlikely, good=0.8) == pytest.approx(0.1)
