"""Who earned a gain: the wording, or the look at the first steps?

Factorial: {brief, brief in common words, all rewrites} x {random, x0 preview, probe}. Every pool
has one candidate a seed, and the same seeds; each chooser picks one of a pool, and the second
judge, which chose nothing, grades the finished image. Only the paired difference between choosers
of one pool is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.fidelity.experiment import probed_steps
from promptprobe.evals.fidelity.rollout import Pair, Rollout, View, look, view
from promptprobe.evals.sampling import Brief, corrects, grade, values
from promptprobe.evals.statistics import best_of_n, mean
from promptprobe.tools.sprites.lexicon import in_common_words, wordings

REWRITES = 4
"""Prompts in the pool of rewrites, the brief among them: those of budget light."""
POOLS: dict[str, Callable[[str], list[str]]] = {
    "brief": lambda brief: [brief],
    "common words": lambda brief: [in_common_words(brief)],
    "all rewrites": lambda brief: rewrites(brief),
}


def attribute(bench: Bench, briefs: Sequence[Brief], seeds: int) -> dict[str, Any]:
    """Mean score and share correct of what each chooser picks from each pool, and differences."""
    step = probed_steps(bench)
    pools = {
        name: [pool(prompts(brief.text), brief.seeds(seeds)) for brief in briefs]
        for name, prompts in POOLS.items()
    }
    pairs = list(dict.fromkeys(pair for rows in pools.values() for row in rows for pair in row))
    looked = look(bench, pairs, [step])
    seen = view(bench, pairs, looked, step)
    place = {pair: at for at, pair in enumerate(pairs)}
    report: dict[str, Any] = {"candidates": seeds, "step": step}
    for name, rows in pools.items():
        places = np.array([[place[pair] for pair in row] for row in rows])
        report[name] = _pool(bench, briefs, looked, seen, places, step)
    return report


def rewrites(brief: str) -> list[str]:
    """The brief and the offline proposer's first offers."""
    return list(islice(dict.fromkeys([brief, *wordings(brief, 0)]), REWRITES))


def pool(prompts: Sequence[str], seeds: Sequence[int]) -> list[Pair]:
    """One candidate a seed, prompts in turn."""
    return [(prompts[at % len(prompts)], seed) for at, seed in enumerate(seeds)]


def _pool(
    bench: Bench,
    briefs: Sequence[Brief],
    looked: Rollout,
    seen: View,
    places: np.ndarray,
    step: int,
) -> dict[str, Any]:
    """One pool: what each chooser's pick is worth under the second judge.

    Args:
        places: which of the looked-at images are the candidates, [brief, candidate].
    """
    flat = places.ravel()
    final = grade(bench.judge, briefs, looked.finals[flat])
    guesses = {"x0 preview": values(grade(bench.score, briefs, looked.previews[step][flat]))}
    if seen.predictions:
        predicted = np.array([prediction.score for prediction in seen.predictions])
        guesses["probe"] = predicted[places]
    found: dict[str, Any] = {}
    for measure, table in (("score", values(final)), ("correct", corrects(final))):
        picks = {"random": table.mean(1)}
        picks |= {name: best_of_n(guess, guess.shape[1], table) for name, guess in guesses.items()}
        found[measure] = {name: mean(pick).json() for name, pick in picks.items()}
        last = list(picks)[-1]
        for other in list(picks)[:-1]:
            found[measure][f"{last} minus {other}"] = mean(picks[last] - picks[other]).json()
    return found
