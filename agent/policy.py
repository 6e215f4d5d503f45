"""The loop's decisions, as pure functions of trials: whom to render, which is best, what next.

Nothing here knows the graph, so a policy can be replayed and tested alone.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from statistics import fmean

from promptprobe.agent.events import Decision, StopReason
from promptprobe.tools.records import MAX_SEED, Budget, Candidate, Trial

PATIENCE = 2
"""Rounds without a better score before a run gives up."""


def derive(seed: int, *path: int | str) -> int:
    """A seed of its own for each path, the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, (seed, *path))).encode()).digest()
    return int.from_bytes(digest[:8]) % (MAX_SEED + 1)


def seeds_of(seed: int, round: int, count: int) -> tuple[int, ...]:
    """Fresh seeds each round; round 0 has the run's own seed, as a user without us would."""
    return (seed,) if round == 0 else tuple(derive(seed, round, index) for index in range(count))


def select(
    trials: Sequence[Trial], renders: int, seed: int
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Whom to render: the best predicted, at most half of one prompt, and one picked at random.

    Without the random one the probe would learn only from its favourites; it joins from three
    renders on. Returns the chosen in order, and those of them that were picked at random.
    """
    ranked = sorted(trials, key=_predicted, reverse=True)
    cap = max(1, math.ceil(renders / 2))
    if len({trial.candidate.prompt for trial in trials}) == 1:
        cap = renders
    explore = renders >= 3 and len(trials) > renders
    chosen: list[Candidate] = []
    per_prompt: Counter[str] = Counter()
    for trial in ranked:
        if len(chosen) < renders - explore and per_prompt[trial.candidate.prompt] < cap:
            chosen.append(trial.candidate)
            per_prompt[trial.candidate.prompt] += 1
    rest = [trial.candidate for trial in ranked if trial.candidate not in chosen]
    if not explore:
        return (*chosen, *rest[: renders - len(chosen)]), ()
    explored = Random(seed).choice(rest)
    return (*chosen, explored), (explored,)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The best scored; the earlier one where scores are equal: a rewrite must earn its place.

    Where nothing has a score, the best predicted of what was rendered.
    """
    rendered = [trial for trial in trials if trial.image is not None]
    scored = [trial for trial in rendered if _value(trial) is not None]
    if scored:
        return max(scored, key=lambda trial: (_value(trial) or 0.0, _correct(trial)))
    return max(rendered, key=_predicted, default=None)


def audit(trials: Sequence[Trial]) -> float | None:
    """Mean distance of prediction from score; None where nothing has both."""
    gaps = [
        abs(t.prediction.score - v) for t in trials if t.prediction and (v := _value(t)) is not None
    ]
    return fmean(gaps) if gaps else None


def stop(best: Trial | None, round: int, budget: Budget, stale: int) -> StopReason | None:
    """Why to stop after a round; None: go on."""
    if best and _correct(best):
        return "target reached"
    if round >= budget.rounds:
        return "budget spent"
    return "no improvement" if stale >= PATIENCE else None


def rewrite_or_reseed(trials: Sequence[Trial]) -> Decision:
    """Whether prompts differ by more than their seeds explain (one-way analysis of variance).

    If so, wording matters here and new wordings are worth a round; otherwise fresh seeds of the
    prompts at hand are. A single prompt, or a single seed, leaves it open: rewrite.
    """
    foretold = [trial for trial in trials if trial.prediction]
    groups = [[_predicted(trial) for trial in group] for group in by_prompt(foretold).values()]
    count, total = len(groups), sum(map(len, groups))
    if count < 2 or total <= count:
        return "rewrite"
    mean = fmean(value for group in groups for value in group)
    between = sum(len(g) * (fmean(g) - mean) ** 2 for g in groups) / (count - 1)
    within = sum((v - fmean(g)) ** 2 for g in groups for v in g) / (total - count)
    return "rewrite" if between >= within else "reseed"


def ranked_prompts(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Prompts tried so far, the best mean prediction first."""
    groups = by_prompt(trials)
    return tuple(sorted(groups, key=lambda prompt: -fmean(map(_predicted, groups[prompt]))))


def by_prompt(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Trials grouped, prompts in order of appearance."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.candidate.prompt].append(trial)
    return groups


def _predicted(trial: Trial) -> float:
    return trial.prediction.score if trial.prediction else -math.inf


def _value(trial: Trial) -> float | None:
    return trial.score.value if trial.score else None


def _correct(trial: Trial) -> bool:
    return bool(trial.score and trial.score.correct)
