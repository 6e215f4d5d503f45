"""The planner: from what a look is worth and what it costs, to a schedule for a budget.

Successive halving with measured numbers: how many candidates to start, after which steps to look,
how many to let go on. Schedules are tried on simulated candidates (draws.py) and the best one wins;
where none beats naive best-of-n at the same cost, naive best-of-n is the schedule. Pure and
deterministic: the same question has the same answer.
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
"""Steps that are considered for a look, of more so many spread evenly; and the correlation with the
final score below which a look tells nothing."""
WORTH_A_RUNG = 0.004
"""Gain, in spreads within a prompt, below which one more pause of the batch is not worth it."""
SIMULATED = 40_000
"""Candidates drawn, all together, to find good schedules on."""
FINALISTS, TIMES = 16, 4
"""So many of the best are compared once more, on so many times as many fresh candidates."""
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
    """The schedule that is expected to find the best score of one prompt's seeds within a budget.

    Args:
        renders: the budget in renders' worth, at least 1.
        costs: with seconds, a schedule also takes no longer than so many full renders would, so
            that a look that takes long is worth less.
        seconds: a further cap.
        most: no more candidates than this.
        keep: finish exactly so many, after one look; fewer where not so many can be paid.
        least: start at least so many, even where fewer would gain more, if they can be paid.

    ValueError: not one render fits into the budget.
    """
    cap = costs.cap(signal.total, renders, seconds)
    search = Search(signal, costs, renders * signal.total, cap, most, keep, least)
    if search.most(()) < 1:
        raise none_fits(renders, cap)
    return search.schedule()


@dataclass
class Search:
    """One search, in the planner's own units: steps, seconds, spreads within a prompt."""

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
        """How many candidates are drawn at most."""
        return max(1, min(self.limit, int(self.steps / self.signal.total * 8)))

    def drawn(self, seed: int, times: int = 1) -> Draws:
        """The candidates that schedules are tried on."""
        count = times * SIMULATED // self.width
        return draw(self.signal, self.width, count, seed)

    def price(self, candidates: int, rungs: Rungs) -> tuple[float, float]:
        """Steps and seconds that a schedule takes."""
        return self.costs.price(self.signal.total, candidates, rungs)

    def most(self, rungs: Rungs) -> int:
        """How many candidates can be started so that the rungs can be paid; 0 if none."""
        low, high = 0, self.width + 1
        while high - low > 1:
            middle = (low + high) // 2
            steps, seconds = self.price(middle, rungs)
            fits = steps <= self.steps + 1e-9 and seconds <= self.seconds * (1 + 1e-9)
            low, high = (middle, high) if fits else (low, middle)
        return low

    def gain(self, rungs: Rungs) -> float:
        """Expected best score on the draws; minus infinity for what is no schedule."""
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
        """Steps that are considered."""
        known = zip(self.signal.steps, self.signal.correlations, strict=True)
        steps = [step for step, correlation in known if abs(correlation) >= TELLING]
        if len(steps) <= MOST_LOOKS:
            return steps
        return [steps[i] for i in np.linspace(0, len(steps) - 1, MOST_LOOKS).round().astype(int)]

    def seek(self) -> None:
        """Try one, two and three rungs: the best place for one more, then all moved about."""
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
        """Naive best-of-n, and the best of what was tried; each rung has to earn its pause."""
        worth = {
            rungs: gain - WORTH_A_RUNG * len(rungs)
            for rungs, gain in self.tried.items()
            if rungs and math.isfinite(gain)
        }
        return [(), *sorted(worth, key=lambda rungs: -worth[rungs])[:FINALISTS]]

    def climb(self, rungs: Rungs) -> Rungs:
        """Moved about for as long as that gains."""
        while (moved := max(self.moved(rungs), key=self.gain)) != rungs:
            if self.gain(moved) <= self.gain(rungs):
                break
            rungs = moved
        return rungs

    def pairs(self) -> Iterator[Rungs]:
        """Two rungs in coarse places: where one alone gains nothing, two may."""
        looks = self.looks()
        few = looks[:: max(1, len(looks) // 6)]
        for first, second in combinations(few, 2):
            for low in _spread(1, max(1, int(self.steps / self.signal.total)), 4):
                for high in _spread(low + 1, 4 * low + 1, 4):
                    yield (first, high), (second, low)

    def inserted(self, rungs: Rungs) -> Iterator[Rungs]:
        """With one more rung, anywhere; of how many to keep, a few spread out."""
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
        """With one rung's step or keep a little different, or two rungs' together."""
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
        """Whether naive best-of-n is not what is asked for."""
        return self.keep is not None or self.most(()) < self.least

    def schedule(self) -> Schedule:
        """The best rungs, or naive best-of-n where they gain nothing, judged on fresh draws."""
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
    """Whole numbers from low to high: all of few, of many some, closer together below."""
    if high - low < most:
        return list(range(low, high + 1))
    return sorted({int(n) for n in np.geomspace(low, high, most).round()})
