"""Where does a gain come from: the wording, or the prediction from the first steps?

Factorial: {brief, brief in common words, all rewrites} x {random, x0 preview, probe}. Every pool
has one candidate for each seed, with the same seeds; each chooser picks one of a pool, and the
second judge, which chose nothing, grades the finished image. Only the paired difference between
choosers of one pool is attributed to them. The scorer's own pick, once all are finished, says how
much a perfect prediction of it could gain. For candidates without a score see `fidelity.gaps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.fidelity.experiment import probed_steps
from promptprobe.evals.fidelity.gaps import equal_seeds, part, scored
from promptprobe.evals.fidelity.rollouts import View, view
from promptprobe.evals.sampling import corrects, grade, sample, with_gaps
from promptprobe.evals.statistics import best_of_n, mean
from promptprobe.tools.models.built_in import Brief

if TYPE_CHECKING:
    from promptprobe.tools.collect.rollout import Pair, Rollout

REWRITES = 4
"""Prompts in the pool of rewrites, including the brief, as with budget light."""
POOLS = ("brief", "common words", "all rewrites")
PERFECT = "scorer, all finished"
"""The chooser that sees every finished image: no look can be expected to choose better."""


def prompts_of(bench: Bench, brief: str) -> dict[str, list[str]]:
    """The prompts of each of `POOLS`; only the brief for a model that is not built in."""
    pools = {"brief": [brief]}
    if bench.own and bench.evidence:
        pools["common words"] = [bench.evidence.common_words(brief)]
        offers = dict.fromkeys([brief, *bench.own.rewrites(brief, 0)])
        pools["all rewrites"] = list(islice(offers, REWRITES))
    return pools


def attribute(
    bench: Bench,
    briefs: Sequence[Brief],
    seeds: int,
    good: float | None = None,
    known: Mapping[Pair, np.ndarray] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Mean score and share correct of each chooser's picks from each pool, and their differences.

    A pool that needs a rewriter is None without one. The second value lists what was left out of
    each pool.

    Args:
        good: see `corrects`.
        known: images that have already been drawn, by prompt and seed.
    """
    step = probed_steps(bench)
    offered = [prompts_of(bench, brief.text) for brief in briefs]
    pools = {
        name: [
            pool(one[name], brief.seeds(seeds)) for one, brief in zip(offered, briefs, strict=True)
        ]
        for name in offered[0]
    }
    pairs = list(dict.fromkeys(pair for rows in pools.values() for row in rows for pair in row))
    looked = sample(bench, pairs, [step], "looked at", known=known)
    seen = view(bench, pairs, looked, step)
    place = {pair: at for at, pair in enumerate(pairs)}
    report: dict[str, Any] = {"candidates": seeds, "step": step, **dict.fromkeys(POOLS)}
    notes = []
    for name, rows in pools.items():
        places = np.array([[place[pair] for pair in row] for row in rows])
        report[name], left_out = _pool(bench, briefs, looked, seen, places, step, good)
        notes += [f"attribution, {name}: {note}" for note in left_out]
    return report, notes


def pool(prompts: Sequence[str], seeds: Sequence[int]) -> list[Pair]:
    """One candidate for each seed, with prompts in turn."""
    return [(prompts[at % len(prompts)], seed) for at, seed in enumerate(seeds)]


def _pool(
    bench: Bench,
    briefs: Sequence[Brief],
    looked: Rollout,
    seen: View,
    places: np.ndarray,
    step: int,
    good: float | None,
) -> tuple[dict[str, Any], list[str]]:
    """One pool: the second judge's scores of each chooser's picks, and what was left out.

    Args:
        places: indices of the pool's candidates among the images, [brief, candidate].
    """
    flat = places.ravel()
    final = grade(bench.judge, briefs, looked.images[flat])
    guesses = {"x0 preview": with_gaps(grade(bench.score, briefs, looked.previews[step][flat]))}
    if seen.predictions:
        predicted = np.array([prediction.score for prediction in seen.predictions])
        guesses["probe"] = predicted[places]
    finished = with_gaps(grade(bench.score, briefs, looked.images[flat]))
    tables = {"score": with_gaps(final), "correct": corrects(final, good)}
    whole = scored(tables["score"], finished, *guesses.values())
    width, [kept] = equal_seeds(whole)
    found: dict[str, Any] = {}
    for measure, every in tables.items():
        table = part(every, kept, width)
        picks = {"random": table.mean(1)}
        for name, guess in guesses.items():
            picks[name] = best_of_n(part(guess, kept, width), width, table)
        found[measure] = {name: mean(pick).json() for name, pick in picks.items()}
        last = list(picks)[-1]
        for other in list(picks)[:-1]:
            found[measure][f"{last} minus {other}"] = mean(picks[last] - picks[other]).json()
        perfect = best_of_n(part(finished, kept, width), width, table)
        found[measure][PERFECT] = mean(perfect).json()
        found[measure][f"{PERFECT} minus {last}"] = mean(perfect - picks[last]).json()
    if whole.all():
        return found, []
    left = f"{width} of {places.shape[1]} seeds of {sum(map(bool, kept))} of {len(briefs)} briefs"
    return found, [f"{(~whole).sum()} candidates were not scored; {left} are left"]
