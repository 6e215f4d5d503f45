"""Simulated candidates, drawn from a signal, on which schedules are tried before one is run.

Scores of one prompt's seeds and the looks at them are drawn from a Gaussian; then the scores are
mapped to the measured distribution, if there is one. The unit is the spread within a prompt. Every
schedule is tried on the same draws (common random numbers), so that the difference between two is
known more precisely than either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptprobe.agent.search.schedule import Signal

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Draws:
    """Simulated candidates: final scores [draw, candidate] and looks [step, draw, candidate]."""

    final: Floats
    looks: Floats


def correlations(signal: Signal) -> Floats:
    """Correlation matrix of all looks and, last, the final score, [look, look].

    Looks form a chain: the worse of any two is the better one plus noise.
    """
    rank = np.array([*signal.correlations, 1.0])
    size = np.maximum(np.abs(rank), 1e-6)
    small, large = np.minimum.outer(size, size), np.maximum.outer(size, size)
    matrix = small / large * np.outer(np.sign(rank) + (rank == 0), np.sign(rank) + (rank == 0))
    np.fill_diagonal(matrix, 1)
    return matrix


@lru_cache(maxsize=4096)
def weights(signal: Signal, taken: tuple[int, ...]) -> tuple[float, ...]:
    """Weights of the standardized looks at these steps; the sum predicts the standardized score.

    In a chain only the best look matters.
    """
    found = correlations(signal)[[signal.steps.index(step) for step in taken], -1]
    best = int(np.argmax(np.abs(found)))
    return tuple(float(one) if place == best else 0.0 for place, one in enumerate(found))


@lru_cache(maxsize=8)
def draw(signal: Signal, candidates: int, draws: int, seed: int) -> Draws:
    """Simulate `draws` draws of so many candidates each."""
    rng = np.random.default_rng(seed)
    root = _root(correlations(signal)).astype(np.float32)
    looks = rng.standard_normal((len(root), draws * candidates), dtype=np.float32)
    both = (root @ looks).reshape(-1, draws, candidates)
    return Draws(_shaped(both[-1], signal.quantiles), both[:-1])


def expected_best(
    drawn: Draws, signal: Signal, candidates: int, rungs: Sequence[tuple[int, int]]
) -> float:
    """Mean final score of the best finished candidate; rungs are (step, keep), in order."""
    return float(best_drawn(drawn, signal, candidates, rungs).mean())


def best_drawn(
    drawn: Draws, signal: Signal, candidates: int, rungs: Sequence[tuple[int, int]]
) -> Floats:
    """Final score of the best finished candidate, [draw]."""
    full = [
        (step, keep, weights(signal, tuple(at for at, _ in rungs[: place + 1])))
        for place, (step, keep) in enumerate(rungs)
    ]
    looks = dict(zip(signal.steps, drawn.looks, strict=True))
    return best_finished(looks, drawn.final, candidates, full)


def best_finished(
    looks: Mapping[int, Floats],
    final: Floats,
    candidates: int,
    rungs: Sequence[tuple[int, int, Sequence[float]]],
) -> Floats:
    """Final score of the best candidate that a schedule finishes, [row].

    Args:
        looks: standardized looks [row, candidate], for each step that has a rung.
        final: final scores [row, candidate], as wide as the looks.
        candidates: how many of them are started.
        rungs: (step, keep, weights of the looks so far), in order.
    """
    rows, width = final.shape
    at = np.arange(rows)[:, None]
    left = at * width + np.arange(candidates)  # places in the flat tables
    for place, (_, keep, joined) in enumerate(rungs, 1):
        if keep >= left.shape[1]:
            continue
        disadvantage = np.zeros(left.shape, np.float32)
        for weight, (step, *_) in zip(joined, rungs[:place], strict=True):
            if weight and left.shape[1] == candidates:
                disadvantage -= np.float32(weight) * looks[step][:, :candidates]
            elif weight:
                disadvantage -= np.float32(weight) * looks[step].ravel()[left]
        kept = np.argpartition(disadvantage, keep - 1, axis=1)[:, :keep]
        left = left.ravel()[at * left.shape[1] + kept]
    best: Floats = final.ravel()[left].max(1)
    return best


def _shaped(final: Floats, quantiles: tuple[float, ...] | None) -> Floats:
    """Scores mapped to the measured distribution, in the same order and clipped at its ends."""
    if quantiles is None:
        return final
    places = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
    normal = [NormalDist().inv_cdf(place) for place in places]
    shaped: Floats = np.interp(final, normal, quantiles).astype(np.float32)
    return shaped


def _root(matrix: Floats) -> Floats:
    """A square root of the nearest covariance matrix with ones on its diagonal, [look, look]."""
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return root / np.sqrt((root**2).sum(1, keepdims=True))
