"""From which score on an image counts as correct, for a scorer and for a judge that do not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.sampling import tells, values
from promptprobe.tools.records import Score

Scores = list[list[Score]]
ITSELF = "says so itself"


@dataclass(frozen=True)
class Good:
    """Scores from which an image is correct; None: the judge says itself of each image."""

    selector: float | None
    judge: float | None
    said: str
    """Both and where they come from, in words."""


def good_of(bench: Bench, selector: Scores, judge: Scores, shards: Path | None = None) -> Good:
    """What is correct: as asked for, as the judge says itself, or a median.

    A median is that of training where it is known, from the probe's card or a collection, and else
    that of the brief's naive renders.

    Args:
        selector: what the scorer says of the naive renders.
        judge: what the second judge says of them.
    """
    card = bench.probe.card.targets[0].median if bench.probe else None
    known = card if card is not None else _trained(shards, bench.scorer)
    chosen, why = _threshold(selector, bench.good, known)
    if bench.grader == bench.scorer:
        return Good(chosen, chosen, f"{bench.scorer} {why}")
    graded, how = _threshold(judge, None, _trained(shards, bench.grader))
    return Good(chosen, graded, f"{bench.scorer} {why}; {bench.grader} {how}")


def _threshold(
    scores: Scores, asked: float | None, trained: float | None
) -> tuple[float | None, str]:
    if asked is not None:
        return asked, f">= {asked:g}, as asked for"
    if tells(scores):
        return None, ITSELF
    if trained is not None:
        return trained, f">= {trained:g}, the median of training"
    here = float(np.median(values(scores)))
    return here, f">= {here:g}, the median of the naive renders"


def _trained(shards: Path | None, name: str) -> float | None:
    """The median of a judge's scores of a collection's training images; None: not known."""
    from promptprobe.tools.collect.collector import rows_in

    rows = rows_in(shards) if shards else []
    found = [row.scores.get(f"{name} score") for row in rows if row.split == "train"]
    scores = [score for score in found if score is not None]
    return float(np.median(scores)) if scores else None
