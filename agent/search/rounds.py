"""Decides what the next round buys: new wordings, fresh seeds of the best prompt, or nothing.

Scores differ between prompts and between seeds of one prompt. A prompt's mean over few seeds is
shrunk towards the mean of all prompts (two-level shrinkage), or the luckiest prompt would look like
the best. A round is worth its expected improvement on the best score so far. No numpy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance
from typing import Literal

from pydantic import Field

from promptprobe.agent.search.schedule import NotNegative, Schedule
from promptprobe.tools.records import Record

PRIOR_PROMPTS = 4.0
"""Weight of the prior variance between prompts, as a number of prompts."""
PRIOR_SEEDS = 8.0
"""Weight of the prior variance within a prompt, as a number of candidates."""
Action = Literal["rewrite", "reseed", "stop"]


class Observed(Record):
    """A candidate's score, or an unbiased prediction of it."""

    prompt: str
    value: float
    noise: NotNegative = Field(
        default=0, description="variance of a prediction's error; 0 for a score"
    )


class PromptMean(Record):
    """A prompt's mean score over its seeds."""

    prompt: str
    mean: float
    variance: NotNegative = Field(description="uncertainty of that mean")


class Effects(Record):
    """Prompt and seed effects, separated."""

    mean: float = Field(description="mean of all prompts")
    unsure: NotNegative = Field(description="variance of that mean")
    between: NotNegative = Field(description="variance of prompts' means")
    within: NotNegative = Field(description="variance of the seeds of one prompt")
    prompts: tuple[PromptMean, ...] = Field(description="the best mean first")


class NextRound(Record):
    """What the next round does."""

    action: Action
    prompt: str | None = Field(description="the one to reseed")


def effects(observed: Sequence[Observed], between: float, within: float) -> Effects:
    """Shrunken means of the prompts, and both variances corrected by what was observed.

    Args:
        between, within: prior variances, which count as much as PRIOR_PROMPTS prompts and
            PRIOR_SEEDS candidates of the run.

    Raises:
        ValueError: nothing was observed.
    """
    if not observed:
        raise ValueError("expected at least one observed candidate")
    groups: dict[str, list[Observed]] = defaultdict(list)
    for one in observed:
        groups[one.prompt].append(one)
    within = _pooled_within(groups, within)
    between = _moments_between(groups, between, within)
    means = {name: _precise_mean(group, within) for name, group in groups.items()}
    weights = {name: 1 / (between + spread + 1e-12) for name, (_, spread) in means.items()}
    total = sum(weights.values())
    grand = sum(weights[name] * mean for name, (mean, _) in means.items()) / total
    found = []
    for name, (mean, spread) in means.items():
        share = between / (between + spread) if between + spread > 0 else 0.0
        unsure = share * spread + (1 - share) ** 2 / total
        found.append(PromptMean(prompt=name, mean=grand + share * (mean - grand), variance=unsure))
    found.sort(key=lambda one: -one.mean)
    return Effects(
        mean=grand, unsure=1 / total, between=between, within=within, prompts=tuple(found)
    )


def next_round(
    known: Effects, best: float, reseed: Schedule, rewrite: Schedule | None, worth: float
) -> NextRound:
    """Choose what the next round should do.

    Args:
        best: the best score so far.
        reseed: the schedule for fresh seeds of one prompt, planned with `known.within`.
        rewrite: the schedule for new prompts, planned with `known.between` too; None: no rewrites.
        worth: expected improvement below which a round is not worth its cost.
    """
    offers = [
        (
            expected_improvement(one.mean + reseed.gain, reseed.deviation**2 + one.variance, best),
            one,
        )
        for one in known.prompts
    ]
    by_seeds, prompt = max(offers, key=lambda offer: offer[0])
    by_prompts = 0.0
    if rewrite is not None:
        unsure = rewrite.deviation**2 + known.unsure
        by_prompts = expected_improvement(known.mean + rewrite.gain, unsure, best)
    action: Action = "rewrite" if by_prompts > by_seeds else "reseed"
    if max(by_prompts, by_seeds) < worth:
        action = "stop"
    return NextRound(action=action, prompt=prompt.prompt)


def expected_improvement(mean: float, variance: float, best: float) -> float:
    """E[max(0, x - best)] of a Gaussian x."""
    deviation = math.sqrt(variance)
    if deviation == 0:
        return max(0.0, mean - best)
    normal, ahead = NormalDist(), (mean - best) / deviation
    return max(0.0, deviation * (ahead * normal.cdf(ahead) + normal.pdf(ahead)))


def _pooled_within(groups: dict[str, list[Observed]], prior: float) -> float:
    """Variance of scores within a prompt, with the error variance of predictions subtracted."""
    square, free = PRIOR_SEEDS * prior, PRIOR_SEEDS
    for group in groups.values():
        if len(group) > 1:
            spread = variance(one.value for one in group) - fmean(one.noise for one in group)
            square += max(0.0, spread) * (len(group) - 1)
            free += len(group) - 1
    return square / free


def _moments_between(groups: dict[str, list[Observed]], prior: float, within: float) -> float:
    """Variance of prompts' means: that of the observed means, minus what their seeds explain."""
    if len(groups) < 2:
        return prior
    means = [_precise_mean(group, within) for group in groups.values()]
    found = max(0.0, variance(mean for mean, _ in means) - fmean(spread for _, spread in means))
    free = len(groups) - 1
    return (PRIOR_PROMPTS * prior + free * found) / (PRIOR_PROMPTS + free)


def _precise_mean(group: Sequence[Observed], within: float) -> tuple[float, float]:
    """Precision-weighted mean of a prompt's candidates, and its variance."""
    weights = [1 / (within + one.noise + 1e-12) for one in group]
    mean = sum(w * one.value for w, one in zip(weights, group, strict=True)) / sum(weights)
    return mean, 1 / sum(weights)
