"""Decides whether to trust the probe, by comparing predictions with scores and previews.

A probe that meets content unlike its training data, or another model, is confident and wrong. Two
things reveal it. First, scores outside of their intervals: a calibrated 90% interval misses one in
ten, and finished candidates were chosen for their predictions, which doubles that. Second,
predictions that order candidates differently from the scorer's look at the same previews: two
estimates with the ranks stated on the card must agree on a certain share of pairs, even if they
have nothing but the score in common. Pure functions of the run's trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import asin, comb, pi, sqrt
from statistics import fmean
from typing import NamedTuple

from pydantic import Field

from promptprobe.agent.search.schedule import from_pairwise
from promptprobe.tools.records import Record, Trial, Unit

MISSED = 0.2
"""A good probe has at most this share of finished candidates outside of their intervals."""
ALARM = 0.01
"""Significance level: if so many misses are less likely than this, the probe is not trusted."""
SURE = 1.28
"""Standard deviations below the promised agreement at which the probe is not trusted: a false alarm
in 10% of runs, and in far fewer if probe and previews share more than the score, as after one
step."""


class Trust(Record):
    """Predictions compared with the outcomes."""

    held: int = Field(default=0, description="finished candidates that had an interval")
    inside: int = Field(default=0, description="how many of those scored inside of it")
    error: float | None = Field(default=None, description="mean absolute error of predictions")
    agreement: Unit | None = Field(
        default=None,
        description="share of pairs that probe and preview order alike; None: too few to tell",
    )
    broken: str = Field(default="", description="why the probe is not trusted; empty if it is")


def trust_in(
    trials: Sequence[Trial], ranks: Mapping[int, float], preview_ranks: Mapping[int, float]
) -> Trust:
    """The figures of a run so far, and whether its probe is still trusted.

    Args:
        ranks: share of pairs that predictions order correctly, by the step of the look.
        preview_ranks: the same for the scorer's look at previews.
    """
    held = [(t.prediction, t.value) for t in trials if t.prediction and t.value is not None]
    sure = [(p, v) for p, v in held if p.low is not None and p.high is not None]
    inside = sum(p.low <= v <= p.high for p, v in sure)  # type: ignore[operator]
    order = _orders(trials, ranks, preview_ranks)
    return Trust(
        held=len(sure),
        inside=inside,
        error=fmean(abs(p.score - v) for p, v in held) if held else None,
        agreement=order.agreed if order else None,
        broken=_broken(len(sure), inside, order),
    )


def _broken(held: int, inside: int, order: _Agreement | None) -> str:
    if _tail(held, held - inside) < ALARM:
        return f"{held - inside} of {held} scores lie outside of their 90% intervals"
    if order and order.agreed < order.promised - SURE * order.spread:
        return (
            f"it orders only {order.agreed:.0%} of pairs as the scorer's look at previews does, "
            f"but its card promises {order.promised:.0%}"
        )
    return ""


def _tail(count: int, missed: int) -> float:
    """Probability of at least this many misses, for a good probe."""
    chances = (
        comb(count, n) * MISSED**n * (1 - MISSED) ** (count - n) for n in range(missed, count + 1)
    )
    return min(1.0, sum(chances))


class _Agreement(NamedTuple):
    """Agreement of probe and previews over the pairs of a run's looks."""

    agreed: float
    """Share of pairs in the same order."""
    promised: float
    """Share expected of estimates with these ranks that have nothing but the score in common."""
    spread: float
    """Standard deviation of the share under no agreement (Kendall 1970, with ties)."""

    @property
    def power(self) -> float:
        """How far a worthless probe is below the promised share, in standard deviations."""
        return (self.promised - 0.5) / self.spread


def _orders(
    trials: Sequence[Trial], ranks: Mapping[int, float], preview_ranks: Mapping[int, float]
) -> _Agreement | None:
    """Agreement over all steps, weighted by their power; None if it is too low to decide."""
    found = [_after(trials, k, ranks[k], preview_ranks[k]) for k in ranks if k in preview_ranks]
    steps = [one for one in found if one and one.promised > 0.5]
    if not steps:
        return None
    weights = [one.power / one.spread for one in steps]
    total = sum(weights)
    whole = _Agreement(
        agreed=sum(w * one.agreed for w, one in zip(weights, steps, strict=True)) / total,
        promised=sum(w * one.promised for w, one in zip(weights, steps, strict=True)) / total,
        spread=sqrt(sum(one.power**2 for one in steps)) / total,
    )
    return whole if whole.power > SURE else None


def _after(
    trials: Sequence[Trial], step: int, rank: float, preview_rank: float
) -> _Agreement | None:
    """Agreement after a step, over all prompts; None if all previews are tied."""
    seen = [
        (look.prediction.score, look.prediction.preview)
        for trial in trials
        for look in trial.looks
        if look.step == step and look.prediction and look.prediction.basis == "probe"
        if look.prediction.preview is not None
    ]
    alike = [
        0.5 if a == b else float((a > b) == (x > y))
        for (a, x), (b, y) in combinations(seen, 2)
        if x != y
    ]
    if not alike:
        return None
    common = from_pairwise(rank) * from_pairwise(preview_rank)
    ties = Counter(preview for _, preview in seen).values()
    # the variance of concordant minus discordant pairs
    variance = (_variance(len(seen)) - sum(map(_variance, ties))) / 18
    return _Agreement(
        agreed=fmean(alike),
        promised=0.5 + asin(common) / pi,
        spread=sqrt(variance) / (2 * len(alike)),
    )


def _variance(n: int) -> int:
    return n * (n - 1) * (2 * n + 5)
