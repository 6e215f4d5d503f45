"""The loop's decisions as pure functions of trials: which to try, to keep, and to call best.

Nothing here knows the graph, so a policy can be replayed and tested alone.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, pstdev

from promptprobe.agent.search.beliefs import against_advice
from promptprobe.agent.search.schedule import Schedule
from promptprobe.tools.records import Candidate, Score, Trial

MOST_UNSCORED = 4
"""Number of pictures in a row without a score after which a run stops."""


def derive(seed: int, *path: int | str) -> int:
    """A distinct 32-bit seed for each path, the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, (seed, *path))).encode()).digest()
    return int.from_bytes(digest[:4])


def candidates_of(
    prompts: Sequence[str], count: int, seed: int, round: int
) -> tuple[Candidate, ...]:
    """`count` candidates, spread evenly over the prompts, each with its own seed.

    Two wordings of the same content draw nearly the same picture from one seed, and best-of-n needs
    pictures that differ. Seeds are fresh each round; round 0 uses the run's seed itself, so its
    picture is the one that the model would draw without promptprobe.
    """
    return tuple(
        Candidate(
            prompt=prompts[number % len(prompts)],
            seed=derive(seed, round, number) if round else seed,
        )
        for number in range(count)
    )


def go_on(
    trials: Sequence[Trial], schedule: Schedule, rung: int, seed: int
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Candidates that go on after a rung, best predicted first, and those among them that the
    looks advised against.

    Only at the last rung does a dropped candidate occasionally replace the last kept one.
    Candidates without a look come last.
    """
    at = schedule.rungs[rung]
    advantage = _advantages(trials, schedule, rung)
    ranked = sorted(trials, key=lambda trial: -advantage[trial.candidate])
    kept, dropped = (
        [trial.candidate for trial in part] for part in (ranked[: at.keep], ranked[at.keep :])
    )
    if rung + 1 < len(schedule.rungs):
        return tuple(kept), ()
    chosen, explored = against_advice(kept, dropped, seed)
    return chosen, (explored,) if explored else ()


def _advantages(trials: Sequence[Trial], schedule: Schedule, rung: int) -> dict[Candidate, float]:
    """The sum of the standardized looks so far, with the schedule's weights."""
    total = dict.fromkeys((trial.candidate for trial in trials), 0.0)
    taken = schedule.rungs[: rung + 1]
    for weight, step in zip(schedule.rungs[rung].weights, (r.step for r in taken), strict=True):
        seen = {trial.candidate: predicted_at(trial, step) for trial in trials}
        known = [value for value in seen.values() if value is not None]
        spread = pstdev(known) if known else 0.0
        for candidate, value in seen.items():
            if weight:
                total[candidate] += -math.inf if value is None else weight * value / (spread or 1)
    return total


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The first of `ranked`; None if nothing was rendered."""
    return next(iter(ranked(trials)), None)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Rendered trials, best score first, then those without a score, best predicted first.

    Ties are broken by being correct, then fewer extras, then the higher prediction, then the
    earlier trial: a rewrite must earn its place.
    """
    rendered = [trial for trial in trials if trial.image is not None]
    return sorted(rendered, key=_merit, reverse=True)


def _merit(trial: Trial) -> tuple[bool, float, bool, int, float]:
    value, extras = trial.value, trial.score.extras if trial.score else 0
    return value is not None, value or 0.0, is_correct(trial), -extras, predicted(trial)


def ranked_prompts(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Prompts tried so far, the best mean prediction or score first."""
    groups = by_prompt(trials)
    return tuple(sorted(groups, key=lambda prompt: -fmean(map(_promise, groups[prompt]))))


def by_prompt(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials grouped by prompt, in order of appearance."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.candidate.prompt].append(trial)
    return groups


def predicted_at(trial: Trial, step: int) -> float | None:
    """The prediction of the look after `step`."""
    found = (look.prediction for look in trial.looks if look.step == step)
    return next((one.score for one in found if one), None)


def predicted(trial: Trial) -> float:
    """The last prediction; minus infinity if there is none."""
    return -math.inf if trial.predicted is None else trial.predicted


def is_correct(trial: Trial) -> bool:
    """Whether the scorer found nothing missing."""
    return bool(trial.score and trial.score.correct)


def scores_nothing(scores: Sequence[Score]) -> bool:
    """Whether a scorer is of no use: it failed on all pictures, or left the last few unscored.

    Args:
        scores: scores of all pictures that could be scored, in order.
    """
    lately = scores[-MOST_UNSCORED:]
    if not lately or any(score.value is not None for score in lately):
        return False
    return len(lately) == MOST_UNSCORED or all(score.failed for score in scores)


def _promise(trial: Trial) -> float:
    value = trial.value
    return predicted(trial) if value is None else value
