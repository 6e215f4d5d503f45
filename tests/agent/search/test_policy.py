"""Whom to render, which is best, what next."""

from __future__ import annotations

from pathlib import Path

from promptprobe.agent.search.policy import best_of, candidates_of, go_on
from promptprobe.agent.search.schedule import Rung, Schedule
from promptprobe.tools.records import Candidate, Look, Prediction, Score, Trial


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


def looked_at(seed: int, **scores: float) -> Trial:
    """A candidate with looks: `at5` is the prediction after five steps."""
    looks = [
        Look(step=int(name[2:]), prediction=Prediction(score=score, basis="preview"))
        for name, score in scores.items()
    ]
    return Trial(candidate=Candidate(prompt="a", seed=seed), round=1, looks=tuple(looks))


PLANNED = Schedule(
    total=10, candidates=8, renders=3, nfe=30, seconds=0, gain=1, deviation=1, naive_gain=0.9,
    rungs=(Rung(step=2, keep=4, weights=(1,)), Rung(step=5, keep=2, weights=(0, 1))),
)  # fmt: skip


def test_the_best_predicted_go_on_and_the_last_look_decides() -> None:
    looks = [{2: s / 8, 5: -s / 8} for s in range(8)]
    trials = [looked_at(s, **{f"at{k}": v for k, v in x.items()}) for s, x in enumerate(looks)]
    first, explored = go_on(trials, PLANNED, 0, seed=1)
    assert ([c.seed for c in first], explored) == ([7, 6, 5, 4], ())
    left = [trial for trial in trials if trial.candidate in first]
    second, _ = go_on(left, PLANNED, 1, seed=1)
    assert second[0].seed == 4


def test_now_and_then_a_dropped_one_is_finished_against_the_advice() -> None:
    trials = [looked_at(s, at2=s / 8, at5=s / 8) for s in range(4)]
    found = [go_on(trials, PLANNED, 1, seed) for seed in range(200)]
    assert all(chosen[0].seed == 3 for chosen, _ in found)
    assert 20 <= sum(bool(explored) for _, explored in found) <= 60  # 2 finishes a run, 10% each
    assert go_on(trials, PLANNED, 1, seed=5) == go_on(trials, PLANNED, 1, seed=5)


def test_what_could_not_be_looked_at_comes_last() -> None:
    trials = [trial("a", 0, None), *(looked_at(s, at2=0.1 * s, at5=0.0) for s in range(1, 6))]
    chosen, _ = go_on(trials, PLANNED, 0, seed=0)
    assert [candidate.seed for candidate in chosen] == [5, 4, 3, 2]


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


def test_equal_scores_go_to_the_picture_without_extras_then_the_prediction_then_the_earlier() -> (
    None
):
    plain, likelier = trial("a", 0, 0.4, score=1.0), trial("a", 1, 0.8, score=1.0)
    crowded = trial("a", 2, 0.9, score=1.0)
    crowded = crowded.model_copy(update={"score": Score(value=1.0, correct=False, extras=1)})
    assert best_of([plain, likelier, crowded]) == likelier
    assert best_of([plain, crowded]) == plain
    assert best_of([plain, trial("a", 3, 0.4, score=1.0)]) == plain


def test_candidates_are_spread_over_prompts_each_with_a_fresh_seed() -> None:
    found = candidates_of(("a", "b"), 5, seed=7, round=1)
    assert [candidate.prompt for candidate in found] == ["a", "b", "a", "b", "a"]
    assert len({candidate.seed for candidate in found}) == 5
    assert candidates_of(("a",), 1, seed=7, round=0) == (Candidate(prompt="a", seed=7),)
    again = candidates_of(("a",), 5, seed=7, round=2)
    assert {c.seed for c in again}.isdisjoint(c.seed for c in found)
