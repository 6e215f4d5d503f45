"""Whether predictions may be trusted: they are held against scores and previews as a run goes.

A probe that meets content unlike its training, or another model than it was trained on, is sure
and wrong. Two things tell. Scores that lie outside of their intervals: a calibrated 90% interval
misses one in ten, and the finished were chosen for their predictions, which doubles that. And
predictions that order candidates otherwise than the scorer's look at the same previews, after steps
where that look is known to be good. Pure functions of the run's trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from statistics import fmean

from pydantic import Field

from promptprobe.agent.search.policy import by_prompt
from promptprobe.tools.records import Prediction, Record, Trial, Unit

MISSED = 0.2
"""Share of finished candidates outside of their intervals that a good probe stays below."""
ALARM = 0.01
"""Chance below which so many misses are no accident."""
GOOD_PREVIEW = 0.75
"""Rank within a prompt from which a preview can tell whether a probe makes sense."""
AGREED, FEWEST = 0.62, 8
"""Share of pairs in one order below which a probe contradicts good previews, of so many looks."""


class Trust(Record):
    """Predictions held against what came of them."""

    held: int = Field(default=0, description="finished candidates that had an interval")
    inside: int = Field(default=0, description="of those, whose score lies inside of it")
    error: float | None = Field(default=None, description="mean distance of prediction from score")
    agreement: Unit | None = Field(
        default=None,
        description="pairs of looks that probe and preview order alike, where previews rank",
    )
    broken: str = Field(default="", description="why the probe is not trusted; empty: it is")


def trust_in(trials: Sequence[Trial], preview_ranks: Mapping[int, float]) -> Trust:
    """The figures of a run so far, and whether its probe is still believed."""
    held = [(prediction, value) for trial in trials for prediction, value in _held(trial)]
    sure = [(p, v) for p, v in held if p.low is not None and p.high is not None]
    inside = sum(p.low <= v <= p.high for p, v in sure)  # type: ignore[operator]
    alike = list(_orders(trials, preview_ranks))
    agreement = fmean(alike) if alike else None
    return Trust(
        held=len(sure),
        inside=inside,
        error=fmean(abs(p.score - v) for p, v in held) if held else None,
        agreement=agreement,
        broken=_broken(len(sure), inside, agreement),
    )


def _held(trial: Trial) -> Iterator[tuple[Prediction, float]]:
    value = trial.value
    if value is not None and trial.prediction is not None:
        yield trial.prediction, value


def _broken(held: int, inside: int, agreement: float | None) -> str:
    if _tail(held, held - inside) < ALARM:
        return f"{held - inside} of {held} scores lie outside of their 90% intervals"
    if agreement is not None and agreement < AGREED:
        return f"it orders only {agreement:.0%} of pairs as the scorer's look at previews does"
    return ""


def _tail(count: int, missed: int) -> float:
    """Chance of so many misses or more."""
    chances = (
        comb(count, n) * MISSED**n * (1 - MISSED) ** (count - n) for n in range(missed, count + 1)
    )
    return min(1.0, sum(chances))


def _orders(trials: Sequence[Trial], preview_ranks: Mapping[int, float]) -> Iterator[float]:
    """1 where probe and preview order a pair alike, 0 where not; pairs of one prompt and step."""
    found: list[float] = []
    looked = 0
    for step in (step for step, rank in preview_ranks.items() if rank >= GOOD_PREVIEW):
        for group in by_prompt(trials).values():
            seen = [
                (look.prediction.score, look.prediction.preview)
                for trial in group
                for look in trial.looks
                if look.step == step and look.prediction and look.prediction.basis == "probe"
                if look.prediction.preview is not None
            ]
            looked += len(seen)
            for (a, x), (b, y) in combinations(seen, 2):
                if x != y and x is not None and y is not None:
                    found.append(0.5 if a == b else float((a > b) == (x > y)))
    if looked >= FEWEST:
        yield from found
