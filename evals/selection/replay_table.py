"""Tables of stored looks and final scores, for every seed of every prompt.

A table is all that is needed to replay a selection policy: no model, no images. The npz layout is
in docs/search.md. Files are not trusted: shapes, steps and values are checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptprobe.agent.search.schedule import Signal, from_spearman
from promptprobe.evals.statistics import Floats, rank_ceilings, rank_correlations

MOST_STEPS = 1000
FEWEST = 4
"""Minimum number of prompts in a table: two in each half."""
QUANTILES = 64


@dataclass(frozen=True)
class Table:
    """looks: [step, prompt, seed] after each of `steps`; final: [prompt, seed]; all finite."""

    name: str
    total: int
    steps: tuple[int, ...]
    looks: Floats
    final: Floats

    def rows(self, prompts: NDArray[np.intp]) -> Table:
        """The table restricted to these prompts."""
        return Table(self.name, self.total, self.steps, self.looks[:, prompts], self.final[prompts])

    def standardized(self, step: int, like: Table) -> NDArray[np.float32]:
        """Looks after a step in units of the other table's spread within a prompt."""
        at = self.steps.index(step)
        spread = (like.looks[at] - like.looks[at].mean(1, keepdims=True)).std()
        return (self.looks[at] / max(spread, 1e-12)).astype(np.float32)

    def signal(self) -> Signal:
        """The planner's input: mean rank within a prompt, and the mean shape of its scores.

        Ranks are shares of the best rank that tied scores allow: a scorer may call half of the
        images correct.
        """
        best = rank_ceilings(self.final)
        found = [rank_correlations(look, self.final) / best for look in self.looks]
        ranks = [np.nanmean(np.minimum(ranks, 1)) for ranks in found]
        apart = self.final[np.ptp(self.final, axis=1) > 0]
        scores = (apart - apart.mean(1, keepdims=True)) / apart.std(1, keepdims=True)
        places = (np.arange(QUANTILES) + 0.5) / QUANTILES
        return Signal(
            total=self.total,
            steps=self.steps,
            correlations=tuple(from_spearman(float(rank)) for rank in ranks),
            quantiles=tuple(np.quantile(scores, places, axis=1).mean(1).tolist()),
        )


def scorers_of(path: Path) -> tuple[str, ...]:
    """Scorers whose final scores a table file holds."""
    return tuple(sorted(n.removeprefix("final/") for n in _open(path) if n.startswith("final/")))


def read_table(path: Path, scorer: str, signal: str) -> Table:
    """One scorer's final scores and one kind of look.

    ValueError: the file is not a table, or lacks the requested arrays; the message lists its own.
    """
    arrays = _open(path)
    wanted = ["steps", f"final/{scorer}", f"{signal}/{scorer}", f"{signal}_steps/{scorer}"]
    if missing := [name for name in wanted if name not in arrays]:
        raise ValueError(
            f"{path} has no {missing[0]}; it has {', '.join(sorted(arrays)) or 'nothing'}"
        )
    total, final, looks, steps = (arrays[name] for name in wanted)
    if total.size != 1 or steps.ndim != 1:
        raise ValueError(f"{path}: expected one number of steps and a list of looks' steps")
    return checked(
        f"{path.stem} {scorer} {signal}", int(total.item()), [int(k) for k in steps], looks, final
    )


def checked(name: str, total: int, steps: list[int], looks: Floats, final: Floats) -> Table:
    """A table from consistent parts. ValueError: they are not; it gives expected and actual."""
    if not 2 <= total <= MOST_STEPS or steps != sorted({k for k in steps if 0 < k < total}):
        raise ValueError(f"{name}: expected ascending steps below {total}, got {steps}")
    if final.ndim != 2 or min(final.shape) < 2:
        raise ValueError(f"{name}: expected [prompt, seed], at least 2 x 2, got {final.shape}")
    if looks.shape != (len(steps), *final.shape):
        raise ValueError(f"{name}: expected looks {(len(steps), *final.shape)}, got {looks.shape}")
    looks, final = looks.astype(np.float64), final.astype(np.float64)
    if not (np.isfinite(looks).all() and np.isfinite(final).all()):
        raise ValueError(f"{name}: expected finite scores, got nan or infinity")
    return Table(name, total, tuple(steps), looks, final)


def _open(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: expected an npz file of plain arrays") from error
