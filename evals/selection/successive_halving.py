"""Which candidates to keep: a rule with a guaranteed chance, and rungs chosen on validation.

A rung predicts every remaining candidate after k steps and keeps a number of them. A rule has one
or two rungs; the candidates that the last one keeps are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from promptprobe.evals.baselines.baselines import Cost
from promptprobe.evals.statistics import Floats, headroom, mean, share

Rung = tuple[int, int]
"""(k, number kept after k steps)."""
Rule = tuple[Rung, ...]
Look = Callable[[int, int], Cost]
"""Maps (k, since) to a candidate's cost of a look after k steps, if the last was after `since`."""
SURE = 0.9
"""How often the best seed should be among those kept."""


def rules(windows: Sequence[int], seeds: int) -> Iterator[Rule]:
    """Every rule with one or two rungs."""
    for k in windows:
        yield from (((k, keep),) for keep in range(1, seeds))
    for first, second in combinations(sorted(windows), 2):
        for many in range(2, seeds):
            yield from (((first, many), (second, few)) for few in range(1, many))


def cost(rule: Rule, seeds: int, look: Look, finish: Callable[[int], Cost]) -> Cost:
    """Cost of one prompt with `seeds` seeds."""
    total, left, since = Cost(0, 0), seeds, 0
    for k, keep in rule:
        total, left, since = total + look(k, since) * left, keep, k
    return total + finish(since) * left


def kept(rule: Rule, guesses: Mapping[int, Floats]) -> np.ndarray:
    """Whether each candidate is finished, [prompt, seed]; ties are broken at random."""
    shape = next(iter(guesses.values())).shape
    left, dice = np.ones(shape, bool), np.random.default_rng(0)
    for k, keep in rule:
        ranked = np.where(left, guesses[k], -np.inf)
        order = np.lexsort((dice.random(shape), -ranked))[:, :keep]
        left = np.zeros(shape, bool)
        np.put_along_axis(left, order, values=True, axis=1)
    return left


def best_kept(rule: Rule, guesses: Mapping[int, Floats], scores: Floats) -> Floats:
    """Score of the best candidate that the rule finishes, [prompt]."""
    return np.where(kept(rule, guesses), scores, -np.inf).max(1)


def choose(affordable: Mapping[Rule, float], guesses: Mapping[int, Floats], scores: Floats) -> Rule:
    """The rule that recovers most of the scores, [prompt, seed]; of tied ones, the cheapest."""
    return max(
        affordable,
        key=lambda rule: (best_kept(rule, guesses, scores).sum(), -affordable[rule]),
    )


def keep_margin(guesses: Floats, scores: Floats, sure: float = SURE) -> float:
    """How far below the prompt's best guess a candidate is still kept, so that a best one is kept
    for a share `sure` of the prompts. A conformal quantile, as for intervals."""
    behind = guesses.max(1, keepdims=True) - guesses
    best = scores == scores.max(1, keepdims=True)
    needed = np.sort(np.where(best, behind, np.inf).min(1))
    rank = int(np.ceil((len(needed) + 1) * sure))
    return float(needed[min(rank, len(needed)) - 1])


def keep_rule(guesses: Floats, scores: Floats, margin: float) -> dict[str, Any]:
    """How often a best seed is kept (any of tied ones counts), and the share of seeds kept."""
    left = guesses.max(1, keepdims=True) - guesses <= margin
    best = scores == scores.max(1, keepdims=True)
    return {
        "within": round(margin, 4),
        "best_kept": share((left & best).any(1).astype(float)).json(),
        "kept": mean(left.mean(1)).json(),
        "recovered": headroom(np.where(left, scores, -np.inf).max(1), scores).json(),
    }
