"""The planner: turns how well looks predict, what they cost and a budget into a schedule.

Successive halving with measured numbers: how many candidates to start, after which steps to look,
and how many to keep. Schedules are tried on simulated candidates (draws.py) and the best one wins;
if none beats naive best-of-n at the same cost, naive best-of-n is the schedule. Pure and
deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise, product

import numpy as np

from promptprobe.agent.search.draws import Draws, best_drawn, draw, expected_best, weights
from promptprobe.agent.search.schedule import Costs, Rung, Schedule, Signal, none_fits

Rungs = tuple[tuple[int, int], ...]
"""(step, keep) of each rung, ascending in step, descending in keep."""
MOST_RUNGS = 3
MOST_CANDIDATES = 192
MOST_LOOKS, TELLING = 12, 0.1
"""Maximum number of steps considered for a look, spread evenly; and the lowest correlation with the
final score for which a step is considered."""
WORTH_A_RUNG = 0.004
"""Gain, in spreads within a prompt, that one more rung must bring to be worth the interruption."""
SIMULATED = 40_000
"""Total number of simulated candidates on which schedules are searched."""
FINALISTS, TIMES = 16, 4
"""Number of best schedules compared once more, and how many times as many candidates that takes."""
NFE_ALONE = Costs()


@lru_cache(maxsize=64)
def plan(
    signal: Signal,
    renders: float,
    costs: Costs = NFE_ALONE,
    *,
    seconds: float | None = None,
    most: int = MOST_CANDIDATES,
    keep: int | None = None,
    least: int = 1,
) -> Schedule:
    """The schedule expected to find the best score among one prompt's seeds within a budget.

    Args:
        renders: the budget in renders' worth, at least 1.
        costs: if they include seconds, a schedule also takes no longer than that many full renders,
            so that a slow look is worth less.
        seconds: an additional cap.
        most: maximum number of candidates.
        keep: finish exactly this many after one look, or fewer if the budget does not allow it.
        least: start at least this many if affordable, even if fewer would gain more.

    Raises:
        ValueError: not one render fits into the budget.
    """
    cap = costs.cap(signal.total, renders, seconds)
    search = Search(signal, costs, renders * signal.total, cap, most, keep, least)
    if search.most(()) < 1:
        raise none_fits(renders, cap)
    return search.schedule()


@dataclass
class Search:
    """One search, in units of steps, seconds, and spreads within a prompt."""

    signal: Signal
    costs: Costs
    steps: float
    seconds: float
    limit: int
    keep: int | None
    least: int
    tried: dict[Rungs, float] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Candidates per simulated draw, the most that a schedule may start."""
        return max(1, min(self.limit, int(self.steps / self.signal.total * 8)))

    def drawn(self, seed: int, times: int = 1) -> Draws:
        """The simulated candidates on which schedules are tried."""
        count = times * SIMULATED // self.width
        return draw(self.signal, self.width, count, seed)

    def price(self, candidates: int, rungs: Rungs) -> tuple[float, float]:
        """Steps and seconds that a schedule takes."""
        return self.costs.price(self.signal.total, candidates, rungs)

    def most(self, rungs: Rungs) -> int:
        """The largest number of candidates that the budget allows with these rungs; may be 0."""
        low, high = 0, self.width + 1
        while high - low > 1:
            middle = (low + high) // 2
            steps, seconds = self.price(middle, rungs)
            fits = steps <= self.steps + 1e-9 and seconds <= self.seconds * (1 + 1e-9)
            low, high = (middle, high) if fits else (low, middle)
        return low

    def gain(self, rungs: Rungs) -> float:
        """Expected best score on the draws; minus infinity if the rungs are invalid."""
        if rungs not in self.tried:
            steps, keeps = [0, *(r[0] for r in rungs)], [self.most(rungs), *(r[1] for r in rungs)]
            sound = all(a < b for a, b in pairwise(steps)) and all(
                a > b for a, b in pairwise(keeps)
            )
            self.tried[rungs] = (
                expected_best(self.drawn(0), self.signal, keeps[0], rungs)
                if sound and keeps[-1] >= 1 and (keeps[0] >= self.least or not rungs)
                else -math.inf
            )
        return self.tried[rungs]

    def looks(self) -> list[int]:
        """Steps considered for a look."""
        known = zip(self.signal.steps, self.signal.correlations, strict=True)
        steps = [step for step, correlation in known if abs(correlation) >= TELLING]
        if len(steps) <= MOST_LOOKS:
            return steps
        return [steps[i] for i in np.linspace(0, len(steps) - 1, MOST_LOOKS).round().astype(int)]

    def seek(self) -> None:
        """Try up to three rungs: insert each in the best place, then hill-climb from there."""
        if self.keep is not None:
            for step in self.looks():
                self.gain(((step, self.keep),))
            return
        bases: set[Rungs] = {()}
        for count in range(1, MOST_RUNGS + 1):
            offers = [max(self.inserted(base), key=self.gain, default=()) for base in sorted(bases)]
            if count == 2:
                offers.append(max(self.pairs(), key=self.gain, default=()))
            bases = {self.climb(offer) for offer in offers if offer}

    def finalists(self) -> list[Rungs]:
        """Naive best-of-n and the best schedules tried, with a penalty per rung."""
        worth = {
            rungs: gain - WORTH_A_RUNG * len(rungs)
            for rungs, gain in self.tried.items()
            if rungs and math.isfinite(gain)
        }
        return [(), *sorted(worth, key=lambda rungs: -worth[rungs])[:FINALISTS]]

    def climb(self, rungs: Rungs) -> Rungs:
        """Hill-climb over neighbouring rungs until none gains more."""
        while (moved := max(self.moved(rungs), key=self.gain)) != rungs:
            if self.gain(moved) <= self.gain(rungs):
                break
            rungs = moved
        return rungs

    def pairs(self) -> Iterator[Rungs]:
        """Pairs of rungs on a coarse grid: two may gain something when neither does alone."""
        looks = self.looks()
        few = looks[:: max(1, len(looks) // 6)]
        for first, second in combinations(few, 2):
            for low in _spread(1, max(1, int(self.steps / self.signal.total)), 4):
                for high in _spread(low + 1, 4 * low + 1, 4):
                    yield (first, high), (second, low)

    def inserted(self, rungs: Rungs) -> Iterator[Rungs]:
        """All ways to add one rung, with a few values of `keep` for each step."""
        for step in self.looks():
            before = tuple(r for r in rungs if r[0] < step)
            after = tuple(r for r in rungs if r[0] > step)
            if len(before) + len(after) < len(rungs):
                continue
            low = after[0][1] + 1 if after else 1
            finishes = max(1, int(self.steps / self.signal.total))
            high = before[-1][1] - 1 if before else (4 * after[0][1] if after else finishes)
            for keep in _spread(low, high):
                yield (*before, (step, keep), *after)

    def moved(self, rungs: Rungs) -> Iterator[Rungs]:
        """Neighbours: one rung's step or keep changed a little, or two rungs' together."""
        looks = self.looks()
        for i, (step, keep) in enumerate(rungs):
            at = looks.index(step)
            for there, by in product((at - 2, at - 1, at, at + 1, at + 2), (-2, -1, 0, 1, 2)):
                if 0 <= there < len(looks) and abs(there - at) + abs(by) <= 2:
                    yield (*rungs[:i], (looks[there], keep + by), *rungs[i + 1 :])
        for (i, j), (a, b) in product(
            combinations(range(len(rungs)), 2), product((-1, 1), (-1, 1))
        ):
            both = list(rungs)
            both[i], both[j] = (rungs[i][0], rungs[i][1] + a), (rungs[j][0], rungs[j][1] + b)
            yield tuple(both)

    @property
    def asks_for_a_rung(self) -> bool:
        """Whether naive best-of-n cannot satisfy `keep` or `least`."""
        return self.keep is not None or self.most(()) < self.least

    def schedule(self) -> Schedule:
        """The best rungs on fresh draws, or naive best-of-n if they gain nothing."""
        self.seek()
        drawn = self.drawn(1, TIMES)
        whole = min(int(self.steps // self.signal.total) + 1, self.width)
        naive = [expected_best(drawn, self.signal, n, ()) for n in range(1, whole + 1)]

        def rival(steps: float) -> float:
            return float(np.interp(steps / self.signal.total, range(1, whole + 1), naive))

        gains = {
            rungs: expected_best(drawn, self.signal, self.most(rungs), rungs)
            for rungs in self.finalists()
        }
        ahead = {
            rungs: gain - rival(self.price(self.most(rungs), rungs)[0]) - WORTH_A_RUNG * len(rungs)
            for rungs, gain in gains.items()
        }
        wanted = [r for r in gains if r] if self.asks_for_a_rung else []
        rungs = max(
            wanted or [r for r in gains if ahead[r] >= 0],
            key=lambda r: gains[r] - WORTH_A_RUNG * len(r),
        )
        candidates = self.most(rungs)
        steps, seconds = self.price(candidates, rungs)
        taken = tuple(step for step, _ in rungs)
        return Schedule(
            total=self.signal.total,
            candidates=candidates,
            rungs=tuple(
                Rung(step=step, keep=keep, weights=weights(self.signal, taken[: i + 1]))
                for i, (step, keep) in enumerate(rungs)
            ),
            renders=steps / self.signal.total,
            nfe=steps * self.costs.nfe_per_step,
            seconds=seconds,
            gain=gains[rungs],
            deviation=float(best_drawn(drawn, self.signal, candidates, rungs).std()),
            naive_gain=rival(steps),
        )


def _spread(low: int, high: int, most: int = 8) -> list[int]:
    """Whole numbers from low to high: all if they are few, otherwise `most` in geometric steps."""
    if high - low < most:
        return list(range(low, high + 1))
    return sorted({int(n) for n in np.geomspace(low, high, most).round()})
