"""An adaptive rival of the planned schedule: one step at a time, to whom it promises most.

Each candidate is a box that may be opened step by step (Weitzman 1979; Gittins indices). With a
price on steps, the best one to advance has the highest index: its predicted score plus a bonus that
depends only on how much its remaining steps may still tell, and on their price. A run knows neither
its prompt's mean nor that of its looks; it takes them from the candidates it has looked at, so a
planned first rung is run on all of them, and the index decides from there.

It is kept as evidence: on the stored tables it is level with the planned schedule, though it looks
after every step and advances one candidate at a time, which fills no batch.
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
"""By step: what all looks of a run share there, as a sum and a count, [run] each."""


def known(signal: Signal) -> Floats:
    """Correlation of all looks so far with the score, after 0, 1, ... all steps; never falling."""
    found = np.zeros(signal.total + 1)
    found[list(signal.steps)] = np.clip(signal.correlations, 0, 0.999)
    found[-1] = 1
    best: Floats = np.maximum.accumulate(found)
    return best


def bonuses(explained: Floats, price: float) -> Floats:
    """What to add to a predicted score, by steps made: up to there one more step pays.

    Args:
        explained: correlation of what is known with the score, by steps made, ending in 1.
        price: of a step, in spreads within a prompt.
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
    """Of every run: steps made and last look, [run, candidate]; steps left, best score, [run]."""

    made: NDArray[np.intp]
    look: Floats
    left: NDArray[np.intp]
    best: Floats


def run(
    looks: dict[int, Floats], final: Floats, signal: Signal, first: int, steps: int, price: float
) -> tuple[Floats, Floats]:
    """Best score and steps spent, [run], when all candidates are advanced to a first rung.

    Args:
        looks: standardized, [run, candidate], by step.
        first: the first rung's step; later the index decides, one step at a time.
        steps: that each run may take.
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
    told = {made: max((k for k in looks if k <= made), default=first) for made in range(first, 999)}
    last = np.array([told[max(first, made)] for made in range(signal.total + 1)])
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
    """The highest index; where only that one can still be finished, first what its rest can buy."""
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
    """A new look, less what all candidates of the run share at that step, as far as is known."""
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
