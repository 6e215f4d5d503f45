"""What a run believes about its looks, and learns from every candidate that it finishes.

A card, or the prior for previews, says how well looks rank the seeds of a prompt; the run's own
finished candidates correct it. No running totals are kept: beliefs are a pure function of the prior
and of all candidates so far, so that a resumed run believes the same. No numpy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random
from statistics import fmean, variance
from typing import TypeVar

from pydantic import Field

from promptprobe.agent.search.schedule import NotNegative, Signal, from_spearman
from promptprobe.tools.records import Record

PRIOR_WEIGHT = 24.0
"""Weight of the card's figures, as a number of finished candidates: several runs' worth, so that
the luck of one round does not overturn the plan."""
AGAINST_ADVICE = 0.1
"""Share of finishes that go to a candidate which the looks had dropped. Without them the run would
learn only from its favourites, and never notice that the looks drop the best."""
MOST_CORRELATED = 0.99
PREVIEW_RANKS = (
    0.01, 0.02, 0.07, 0.18, 0.25, 0.32, 0.37, 0.42, 0.46, 0.50,
    0.55, 0.59, 0.63, 0.67, 0.71, 0.75, 0.79, 0.86, 0.93,
)  # fmt: skip
"""Spearman within a prompt of the x0 preview's score with the final one, after 5%, 10%, ... 95% of
the steps: the lowest of six settings, FLUX.1-dev and SDXL under ImageReward, PickScore and HPSv2,
100 prompts x 200 seeds x 20 steps each, from the tables published with TTSnap (arXiv 2511.22242).
Conservative: at half of the path the six lie between .50 and .80."""
C = TypeVar("C")


class Looked(Record):
    """What beliefs are learned from: a candidate's predictions and its score."""

    prompt: str
    predictions: Mapping[int, float] = Field(description="predicted score, by the step of the look")
    score: float | None = Field(default=None, description="score of the finished image, if any")


class Belief(Record):
    """A model of the looks after one step: score = slope x prediction + prompt's offset + noise."""

    step: int
    slope: float = Field(description="slope of the score on the prediction, within a prompt")
    look_variance: NotNegative = Field(description="variance of predictions within a prompt")
    noise: NotNegative = Field(description="variance of scores that predictions do not explain")
    evidence: float = Field(description="finished candidates behind this, counting the prior's")

    @property
    def correlation(self) -> float:
        """Correlation of the look with the score, within a prompt."""
        explained = self.slope**2 * self.look_variance
        if explained <= 0:
            return 0.0
        found = math.copysign(math.sqrt(explained / (explained + self.noise)), self.slope)
        return max(-MOST_CORRELATED, min(MOST_CORRELATED, found))


class Beliefs(Record):
    """The beliefs about all steps with looks, ascending."""

    looks: tuple[Belief, ...]

    def signal(self, total: int) -> Signal:
        """The signal for planning the next round."""
        return Signal(
            total=total,
            steps=tuple(look.step for look in self.looks),
            correlations=tuple(look.correlation for look in self.looks),
        )


def preview_prior(total: int) -> Signal:
    """The prior signal of looks at previews, after every step of `total`."""
    steps = tuple(range(1, total))
    return Signal(
        total=total,
        steps=steps,
        correlations=tuple(from_spearman(_rank(step / total)) for step in steps),
    )


def prior_beliefs(
    signal: Signal, within: float, spreads: Mapping[int, float] | None = None
) -> Beliefs:
    """Beliefs before anything is finished.

    Args:
        within: variance of scores within a prompt.
        spreads: standard deviations of predictions within a prompt, by step, if known; otherwise
            those of calibrated predictions are assumed: correlation x that of scores.
    """
    looks = []
    for step, correlation in zip(signal.steps, signal.correlations, strict=True):
        spread = (spreads or {}).get(step, max(abs(correlation), 0.1) * math.sqrt(within))
        slope = correlation * math.sqrt(within) / spread
        noise = within * (1 - correlation**2)
        looks.append(
            Belief(step=step, slope=slope, look_variance=spread**2, noise=noise,
                   evidence=PRIOR_WEIGHT)
        )  # fmt: skip
    return Beliefs(looks=tuple(looks))


def learn(prior: Beliefs, candidates: Sequence[Looked]) -> Beliefs:
    """The prior corrected by candidates: those with a score, and the spread of all looks.

    Finished candidates were chosen by their looks, which narrows the range of predictions and makes
    a plain correlation too low. A regression on the prediction is not biased by that selection, so
    slope and noise are learned from finished candidates, and the spread of predictions from all
    that were looked at.
    """
    return Beliefs(looks=tuple(_learned(belief, candidates) for belief in prior.looks))


def _learned(prior: Belief, candidates: Sequence[Looked]) -> Belief:
    seen = [c for c in candidates if prior.step in c.predictions]
    done = [(c.predictions[prior.step], c.score, c.prompt) for c in seen if c.score is not None]
    weight = prior.evidence
    spread, looks = pooled((c.prompt, c.predictions[prior.step]) for c in seen)
    pairs = list(_centred(done))
    square = sum(x * x for x, _ in pairs)
    slope = (weight * prior.look_variance * prior.slope + sum(x * y for x, y in pairs)) / max(
        weight * prior.look_variance + square, 1e-12
    )
    free = len(pairs) - len({prompt for _, _, prompt in done})
    missed = sum((y - slope * x) ** 2 for x, y in pairs)
    return Belief(
        step=prior.step,
        slope=slope,
        look_variance=(weight * prior.look_variance + spread) / (weight + looks),
        noise=(weight * prior.noise + missed) / (weight + max(0, free)),
        evidence=weight + len(done),
    )


def _centred(done: Sequence[tuple[float, float, str]]) -> Iterator[tuple[float, float]]:
    """Prediction and score, each less its mean over the prompt's finished candidates."""
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for prediction, score, prompt in done:
        groups[prompt].append((prediction, score))
    for group in groups.values():
        x, y = (fmean(column) for column in zip(*group, strict=True))
        yield from ((a - x, b - y) for a, b in group)


def pooled(values: Iterable[tuple[str, float]]) -> tuple[float, int]:
    """Sum of the squared distances from each prompt's mean, and its degrees of freedom."""
    groups: dict[str, list[float]] = defaultdict(list)
    for prompt, value in values:
        groups[prompt].append(value)
    several = [group for group in groups.values() if len(group) > 1]
    free = sum(len(group) - 1 for group in several)
    return sum(variance(group) * (len(group) - 1) for group in several), free


def against_advice(
    kept: Sequence[C], dropped: Sequence[C], seed: int
) -> tuple[tuple[C, ...], C | None]:
    """Occasionally replace the last kept candidate by a dropped one.

    On average `AGAINST_ADVICE` of all finishes go to dropped ones; the best predicted always stays.

    Args:
        kept: the kept candidates, best predicted first.

    Returns:
        The candidates to finish, and the one among them that the looks had dropped, if any.
    """
    dice = Random(seed)
    if len(kept) < 2 or not dropped or dice.random() >= AGAINST_ADVICE * len(kept):
        return tuple(kept), None
    chosen = dice.choice(list(dropped))
    return (*kept[:-1], chosen), chosen


def _rank(share: float) -> float:
    """The prior rank correlation after this share of the steps, interpolated linearly."""
    ranks = (0.0, *PREVIEW_RANKS, 1.0)
    place = min(max(share, 0.0), 1.0) * (len(ranks) - 1)
    low = min(int(place), len(ranks) - 2)
    return ranks[low] + (place - low) * (ranks[low + 1] - ranks[low])
