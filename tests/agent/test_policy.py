"""Whom to render, which is best, what next."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from promptprobe.agent.policy import (
    best_of,
    rewrite_or_reseed,
    seeds_of,
    select,
    stop,
)
from promptprobe.tools.records import BUDGETS, Candidate, Prediction, Score, Trial


def trial(
    prompt: str,
    seed: int,
    predicted: float | None = 0.5,
    score: float | None = None,
    correct: bool = False,
) -> Trial:
    return Trial(
        candidate=Candidate(prompt=prompt, seed=seed),
        round=1,
        prediction=None if predicted is None else Prediction(score=predicted, basis="preview"),
        image=None if score is None else Path("image.png"),
        score=None if score is None else Score(value=score, correct=correct),
    )


def test_the_best_predicted_are_chosen_at_most_half_of_one_prompt() -> None:
    trials = [trial("a", s, 0.9) for s in range(4)] + [trial("b", s, 0.1) for s in range(4)]
    chosen, explored = select(trials, renders=3, seed=1)
    assert len(set(chosen)) == 3
    assert len(explored) == 1
    favourites = [candidate for candidate in chosen if candidate not in explored]
    assert [candidate.prompt for candidate in favourites] == ["a", "a"]


@given(
    predicted=st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=24),
    prompts=st.integers(1, 5),
    renders=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_selection_fills_the_budget_and_never_repeats(
    predicted: list[float | None], prompts: int, renders: int, seed: int
) -> None:
    trials = [trial(f"p{n % prompts}", n, value) for n, value in enumerate(predicted)]
    chosen, explored = select(trials, renders, seed)
    assert len(chosen) == min(renders, len(trials))
    assert max(Counter(chosen).values()) == 1
    assert set(explored) <= set(chosen)
    assert select(trials, renders, seed) == (chosen, explored)


def test_one_prompt_alone_gets_all_renders() -> None:
    chosen, _ = select([trial("a", s, s / 9) for s in range(8)], renders=3, seed=0)
    assert len(chosen) == 3


def test_a_rewrite_must_beat_the_earlier_trial_to_be_best() -> None:
    first, equal, better = (
        trial("a", 0, score=0.5),
        trial("b", 1, score=0.5),
        trial("c", 2, score=0.6),
    )
    assert best_of([first, equal]) == first
    assert best_of([first, equal, better]) == better


def test_an_unscored_image_is_best_only_where_nothing_is_scored() -> None:
    unscored = trial("a", 0, 0.9).model_copy(update={"image": Path("i.png")})
    assert best_of([unscored, trial("b", 1, 0.1, score=0.0)]) == trial("b", 1, 0.1, score=0.0)
    assert best_of([unscored, trial("b", 1, 0.1)]) == unscored
    assert best_of([trial("b", 1, 0.1)]) is None


def test_stop_reasons() -> None:
    light = BUDGETS["light"]
    assert stop(trial("a", 0, score=0.9, correct=True), 0, light, 0) == "target reached"
    assert stop(trial("a", 0, score=0.9), 2, light, 0) == "budget spent"
    assert stop(trial("a", 0, score=0.9), 2, BUDGETS["heavy"], 2) == "no improvement"
    assert stop(trial("a", 0, score=0.9), 1, light, 1) is None


def test_seeds_are_fresh_each_round_and_the_first_is_the_users() -> None:
    assert seeds_of(7, 0, 4) == (7,)
    assert len({*seeds_of(7, 0, 4), *seeds_of(7, 1, 4), *seeds_of(7, 2, 4)}) == 9
    assert seeds_of(7, 1, 4) == seeds_of(7, 1, 4) != seeds_of(8, 1, 4)


def test_wording_that_matters_asks_for_rewrites_and_seeds_that_matter_for_seeds() -> None:
    by_wording = [trial(p, s, {"a": 0.1, "b": 0.9}[p] + s / 100) for p in "ab" for s in range(4)]
    by_seed = [trial(p, s, s / 4) for p in "ab" for s in range(4)]
    assert rewrite_or_reseed(by_wording) == "rewrite"
    assert rewrite_or_reseed(by_seed) == "reseed"
    assert rewrite_or_reseed([trial("a", 0, None)]) == "rewrite"
