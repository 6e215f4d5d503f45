"""Ridge regression whose shrinkage is chosen by cross-validation over prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from promptprobe.evals.statistics import Floats

SHRINKAGES = (1.0, 10.0, 100.0, 1e3, 1e4)
FOLDS = 5


@dataclass(frozen=True)
class Ridge:
    """A linear regression on standardized features."""

    centre: Floats
    scale: Floats
    weights: Floats
    mean: float

    def __call__(self, x: Floats) -> Floats:
        """One guess for each row."""
        guesses: Floats = ((x - self.centre) / self.scale) @ self.weights + self.mean
        return guesses


def fit_ridge(x: Floats, y: Floats, groups: Floats) -> Ridge:
    """Fit with the shrinkage that predicts held-out groups best; rows of a group stay together."""
    return _solve(x, y, _best(x, y, groups))


def out_of_fold(x: Floats, y: Floats, groups: Floats) -> Floats:
    """A guess for each row from a regression that saw no row of its group."""
    return _held_out(x, y, groups, _best(x, y, groups))


def _best(x: Floats, y: Floats, groups: Floats) -> float:
    def error(shrinkage: float) -> float:
        return float(np.square(_held_out(x, y, groups, shrinkage) - y).sum())

    return min(SHRINKAGES, key=error)


def _held_out(x: Floats, y: Floats, groups: Floats, shrinkage: float) -> Floats:
    numbers = np.unique(groups, return_inverse=True)[1]
    folds = min(FOLDS, int(numbers.max()) + 1)
    found = np.empty(len(y))
    for fold in range(folds):
        out = numbers % folds == fold
        found[out] = _solve(x[~out], y[~out], shrinkage)(x[out])
    return found


def _solve(x: Floats, y: Floats, shrinkage: float) -> Ridge:
    scale = x.std(0)
    model = Ridge(x.mean(0), np.where(scale > 0, scale, 1.0), np.zeros(x.shape[1]), float(y.mean()))
    z = (x - model.centre) / model.scale
    within = z.T @ z + shrinkage * np.eye(z.shape[1])
    weights = np.linalg.solve(within, z.T @ (y - model.mean))
    return replace(model, weights=weights.astype(np.float64))
