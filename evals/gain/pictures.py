"""Every picture of an eval of gain, with its judges' scores; each is drawn and graded once.

A picture that a judge could not score is left out and counted, together with the pictures that it
is compared with: every brief keeps equally many seeds, and a brief with too few is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptprobe.evals.bench import Bench, Images
from promptprobe.evals.fidelity.gaps import FEWEST, check_few, equal_seeds, reason, scored
from promptprobe.evals.sampling import Once, grade, grid, sample, with_gaps
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.records import Score

if TYPE_CHECKING:
    from promptprobe.tools.collect.rollout import Pair

Scores = list[list[Score]]
"""[prompt][seed]."""


@dataclass(frozen=True)
class BriefResult:
    """One optimized brief; the scores are the second judge's."""

    brief: Brief
    prompt: str
    before: Score
    """Score of the brief with the run's first seed."""
    after: Score
    """Score of the returned image."""
    selected: tuple[float | None, float | None]
    """The scorer's values of these two images."""
    stop_reason: str
    nfe: int
    seconds: float
    outside: float
    """Seconds of the run outside of model, scorer and judges."""


@dataclass(frozen=True)
class Graded:
    """The final judge's scores of every picture, and the scorer's of some."""

    rows: list[BriefResult]
    """Each run, with its first and its returned picture."""
    alone: Scores
    """The brief on new seeds: naive renders."""
    selector: Scores
    """The scorer's scores of `alone`, by which the naive baselines choose and stop."""
    brief: Scores
    """The brief on the seeds of `better`."""
    better: Scores
    """The returned prompt on new seeds."""


@dataclass(frozen=True)
class Drawn:
    """Pictures by prompt and seed, the seconds for each, and their scores."""

    images: Mapping[Pair, Images]
    seconds: float
    graded: Graded


def draw(bench: Bench, rows: Sequence[BriefResult], seeds: int, most: int) -> Drawn:
    """Draw and grade everything that the returned pictures are compared with.

    Args:
        seeds: number of new seeds for brief and returned prompt.
        most: number of new seeds for naive renders of each brief.
    """
    briefs = [row.brief for row in rows]
    naive = grid(briefs, most)
    again = [(row.prompt, seed) for row in rows for seed in row.brief.seeds(seeds)]
    pairs = list(dict.fromkeys([*naive, *again]))
    found = sample(bench, pairs, label="briefs and best prompts")
    images = dict(zip(pairs, found.images, strict=True))
    alone, better = (np.stack([images[pair] for pair in table]) for table in (naive, again))
    grades = grade(bench.judge, briefs, alone)
    graded = Graded(
        rows=list(rows),
        alone=grades,
        selector=grade(bench.score, briefs, alone),
        brief=[scores[:seeds] for scores in grades],
        better=grade(bench.judge, briefs, better),
    )
    return Drawn(images, found.seconds / len(pairs), graded)


def without_gaps(graded: Graded, judges: Sequence[Once]) -> tuple[Graded, tuple[str, ...]]:
    """The pictures that have every score, and a note on what was left out.

    Args:
        judges: all judges, whose missing scores are counted.

    Raises:
        ValueError: too many scores are missing, or too few briefs are left.
    """
    answers = [score for judge in set(judges) for score in judge.cache.values()]
    missing = [score for score in answers if score.value is None]
    if not missing:
        return graded, ()
    message = f"{len(missing)} of {len(answers)} scores are missing{reason(missing)}"
    check_few(len(missing), len(answers), message)
    ends = with_gaps([[row.before, row.after] for row in graded.rows])
    whole = scored(ends[:, 0], ends[:, 1])
    n, [naive] = equal_seeds(scored(with_gaps(graded.alone), with_gaps(graded.selector)))
    m, [fresh] = equal_seeds(scored(with_gaps(graded.brief), with_gaps(graded.better)))
    kept = [at for at, ok in enumerate(whole) if ok and naive[at] and fresh[at]]
    if len(kept) < FEWEST:
        raise ValueError(f"{message}: too few briefs with every score are left; give more")

    def of(table: Scores, places: list[list[int]]) -> Scores:
        return [[table[at][place] for place in places[at]] for at in kept]

    left = Graded(
        rows=[graded.rows[at] for at in kept],
        alone=of(graded.alone, naive),
        selector=of(graded.selector, naive),
        brief=of(graded.brief, fresh),
        better=of(graded.better, fresh),
    )
    rest = f"{len(kept)} of {len(whole)} briefs are left, with {m} seeds and {n} renders"
    return left, (f"{message}; {rest}",)
