"""The score from which an image counts as correct, for judges that give no verdict of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.sampling import tells, values
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.table import target_of

Scores = list[list[Score]]
ITSELF = "says so itself"


@dataclass(frozen=True)
class Good:
    """Scores from which an image is correct; None if the judge gives a verdict of its own."""

    selector: float | None
    judge: float | None
    text: str
    """Both, and where they come from, in words."""


def good_of(bench: Bench, selector: Scores, judge: Scores, shards: Path | None = None) -> Good:
    """What counts as correct: the given score, the judge's own verdict, or a median.

    The median is that of training if it is known, from the probe's card or a collection, otherwise
    that of the brief's naive renders.

    Args:
        selector: the scorer's scores of the naive renders.
        judge: the second judge's scores of them.
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
    """The median of a judge's scores of a collection's training images; None if unknown."""
    from promptprobe.tools.collect.collector import rows_in

    rows = rows_in(shards) if shards else []
    found = [row.scores.get(target_of(name)) for row in rows if row.split == "train"]
    scores = [score for score in found if score is not None]
    return float(np.median(scores)) if scores else None
