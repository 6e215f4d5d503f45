"""Candidates that a judge could not score are left out and counted; they do not end an eval.

Tables are [prompt, seed], with equally many seeds of each prompt. The number of seeds is chosen to
keep most candidates: if few images lack a score, their prompts are dropped; if many do, every
prompt loses a seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from promptprobe.evals.fidelity.rollouts import Rollouts
from promptprobe.evals.statistics import Floats
from promptprobe.tools.records import Score

MOST = 0.1
"""Share of the candidates that may be left out."""
FEWEST = 2
"""Minimum number of prompts in a table, and of seeds of each."""
Bools = NDArray[np.bool_]


def without_gaps(
    test: Rollouts, known: Rollouts, coarse: Mapping[int, Floats]
) -> tuple[Rollouts, Rollouts, dict[int, Floats], tuple[str, ...]]:
    """The tables reduced to candidates that have every score, and a note on what was left out.

    Args:
        coarse: further scores of `test`, [prompt, seed], by number of steps.

    Raises:
        ValueError: too many lack a score, or too few are left.
    """
    tables = [_scored(test, *coarse.values()), _scored(known)]
    counts = np.concatenate([table.sum(1) for table in tables])
    total = sum(table.size for table in tables)
    if not (lost := total - int(counts.sum())):
        return test, known, dict(coarse), ()
    message = f"{lost} of {total} candidates were not scored{reason(_all_of(test, known))}"
    check_few(lost, total, message)
    width = tables[0].shape[1]
    seeds, kept = equal_seeds(*tables)
    prompts = [sum(map(bool, rows)) for rows in kept]
    if min(prompts) < FEWEST:
        raise ValueError(f"{message}: too few prompts with {seeds} seeds are left; give more")
    left = f"{seeds} of {width} seeds of {sum(prompts)} of {len(counts)} prompts"
    note = f"{message}; {left} are left"
    scores = {k: part(table, kept[0], seeds) for k, table in coarse.items()}
    return test.part(kept[0]), known.part(kept[1]), scores, (note,)


def check_few(lost: int, total: int, message: str) -> None:
    """Raise ValueError, beginning with `message`, if too many candidates lack a score."""
    if lost > MOST * total:
        raise ValueError(f"{message}: at most {MOST:.0%} may be left out; fix the judge first")


def equal_seeds(*tables: Bools) -> tuple[int, list[list[list[int]]]]:
    """The number of seeds of each prompt that keeps most candidates, and which ones are kept.

    Args:
        tables: which candidates have all scores, [prompt, seed], with equal numbers of seeds.

    Returns:
        The number of seeds, and for each table and prompt the indices of the first that many scored
        seeds; empty for a prompt that has fewer.
    """
    counts, width = np.concatenate([table.sum(1) for table in tables]), tables[0].shape[1]
    fewest = min(FEWEST, width)
    seeds = max(range(fewest, width + 1), key=lambda n: (n * (counts >= n).sum(), n))
    return seeds, [_kept(table, seeds) for table in tables]


def part(table: Floats, kept: Sequence[Sequence[int]], seeds: int) -> Floats:
    """The kept seeds of the prompts that keep any, [prompt, seed]."""
    found = [table[row, places] for row, places in enumerate(kept) if places]
    return np.array(found, float).reshape(-1, seeds)


def scored(*tables: Floats) -> Bools:
    """Which candidates have a score in every table, [prompt, seed]."""
    return np.asarray(np.isfinite(tables).all(0))


def _scored(table: Rollouts, *further: Floats) -> Bools:
    graded = [] if table.graded is None else [table.graded]
    looks = [table.previews(k) for k in table.views]
    return scored(table.scores, *looks, *table.further.values(), *graded, *further)


def _kept(scored: Bools, seeds: int) -> list[list[int]]:
    """Indices of each prompt's first `seeds` scored seeds; empty for a prompt that has fewer."""
    found = [np.flatnonzero(row)[:seeds].tolist() for row in scored]
    return [places if len(places) == seeds else [] for places in found]


def reason(scores: Iterable[Score]) -> str:
    """The judge's first reason for not scoring, in brackets after a space; empty without one."""
    first = next((score.reason for score in scores if score.value is None and score.reason), "")
    return f" ({first})" if first else ""


def _all_of(*tables: Rollouts) -> Iterator[Score]:
    for table in tables:
        for scores in (*table.judged, *(view.seen for view in table.views.values())):
            yield from scores
