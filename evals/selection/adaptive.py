"""An adaptive rival of the planned schedule: it advances the most promising candidate by one step.

Each candidate is a box that may be opened step by step (Weitzman 1979; Gittins indices). With a
price on steps, the best one to advance has the highest index: its predicted score plus a bonus that
depends only on how much its remaining steps may still reveal, and on their price. A run knows
neither the mean of its prompt's scores nor that of its looks; it estimates them from the candidates
so far, so a planned first rung is run on all of them, and the index decides from there.

It is kept as evidence: on the stored tables it only equals the planned schedule, although it looks
after every step and advances one candidate at a time, which does not fill a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promptprobe.agent.search.draws import Floats
from promptprobe.agent.search.schedule import Signal

GRID = np.linspace(-6, 6, 481)
NODES, CHANCES = np.polynomial.hermite_e.hermegauss(15)
NEVER = -1e9
Offsets = dict[int, list[Floats]]
"""By step: the sum and the count, [run] each, of what a run's looks have in common there."""


def known(signal: Signal) -> Floats:
    """Correlation of all looks so far with the score, after 0, 1, ... all steps; nondecreasing."""
    found = np.zeros(signal.total + 1)
    found[list(signal.steps)] = np.clip(signal.correlations, 0, 0.999)
    found[-1] = 1
    best: Floats = np.maximum.accumulate(found)
    return best


def bonuses(explained: Floats, price: float) -> Floats:
    """Bonus on a predicted score, by steps made: how far it may be below the best score so far for
    another step to pay off.

    Args:
        explained: correlation of what is known with the score, by steps made, ending in 1.
        price: price of a step, in standard deviations within a prompt.
    """
    steps = len(explained) - 1
    chances = CHANCES / CHANCES.sum()
    worth, found = np.maximum(GRID, 0), np.zeros(steps + 1)
    for made in range(steps - 1, -1, -1):
        news = np.sqrt(max(0.0, explained[made + 1] ** 2 - explained[made] ** 2))
        ahead = GRID[:, None] + news * NODES
        going = np.interp(ahead, GRID, worth) @ chances - price
        found[made] = -np.interp(0, going, GRID)
        worth = np.maximum(going, 0)
    return found


@dataclass
class State:
    """Steps made and last look, [run, candidate]; steps left and best score, [run]."""

    made: NDArray[np.intp]
    look: Floats
    left: NDArray[np.intp]
    best: Floats


def run(
    looks: dict[int, Floats], final: Floats, signal: Signal, first: int, steps: int, price: float
) -> tuple[Floats, Floats]:
    """Best score and steps spent, [run], if all candidates are first advanced to one rung.

    Args:
        looks: standardized looks, [run, candidate], by step.
        first: the first rung's step; after it the index decides, one step at a time.
        steps: number of steps that each run may take.
    """
    runs, candidates = final.shape
    explained, rows = known(signal), np.arange(runs)
    bonus, free = bonuses(explained, price), bonuses(explained, price / 4)
    centred = looks[first] - looks[first].mean(1, keepdims=True)
    state = State(
        np.full(final.shape, first), centred, np.full(runs, steps - candidates * first),
        np.full(runs, -np.inf),
    )  # fmt: skip
    offsets: Offsets = {step: [np.zeros(runs), np.zeros(runs)] for step in looks}
    latest = {at: max((k for k in looks if k <= at), default=first) for at in range(first, 999)}
    last = np.array([latest[max(first, made)] for made in range(signal.total + 1)])
    while True:
        need = signal.total - state.made
        open_ = (need > 0) & (need <= state.left[:, None])
        if not open_.any():
            return state.best, (steps - state.left).astype(np.float64)
        predicted = explained[last[np.minimum(state.made, signal.total - 1)]] * state.look
        index = np.where(open_, predicted + bonus[state.made], NEVER)
        chosen = _spend_the_rest(index, predicted + free[state.made], open_, need, state.left)
        going = rows[open_[rows, chosen]]
        at = chosen[going]
        state.made[going, at] += 1
        state.left[going] -= 1
        _look(state, looks, offsets, explained, last, going, at)
        done = state.made[going, at] == signal.total
        ended = going[done]
        state.best[ended] = np.maximum(state.best[ended], final[ended, at[done]])


def _spend_the_rest(
    index: Floats, cheap: Floats, open_: NDArray[np.bool_], need: NDArray[np.intp],
    left: NDArray[np.intp],
) -> NDArray[np.intp]:  # fmt: skip
    """The candidate with the highest index. If only that one can still be finished, and steps will
    be left over, these first go to the next best."""
    rows = np.arange(len(index))
    top = index.argmax(1)
    rest = left - need[rows, top]
    others = np.where(open_, need, 10**6)
    others[rows, top] = 10**6
    alone = (rest > 0) & (others.min(1) > rest) & (others.min(1) < 10**6)
    cheap = np.where(open_, cheap, NEVER)
    cheap[rows, top] = NEVER
    chosen: NDArray[np.intp] = np.where(alone, cheap.argmax(1), top)
    return chosen


def _look(
    state: State, looks: dict[int, Floats], offsets: Offsets, explained: Floats,
    last: NDArray[np.intp], going: NDArray[np.intp], at: NDArray[np.intp],
) -> None:  # fmt: skip
    """Record a new look, minus the estimated mean of the run's looks at that step."""
    made = state.made[going, at]
    for step in np.unique(made):
        if step not in looks:
            continue
        rows, places = going[made == step], at[made == step]
        before = explained[last[step - 1]]
        expected = before / max(explained[step], 1e-9) * state.look[rows, places]
        fresh = looks[step][rows, places]
        total, count = offsets[step]
        old = total[rows] / np.maximum(count[rows], 1)
        total[rows] += fresh - expected
        count[rows] += 1
        mean = total[rows] / count[rows]
        same = state.made[rows] == step
        state.look[rows] -= np.where(same & (count[rows] > 1)[:, None], (mean - old)[:, None], 0)
        state.look[rows, places] = fresh - mean
