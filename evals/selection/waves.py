"""The loop's own rule for runs that end with their first good picture, replayed on a table.

The step after which to look, and the chance from which a candidate is finished, come from
`agent/search/stopping.py`, as in a run; chances are calibrated on the fitted half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promptprobe.agent.search.schedule import Costs, Schedule
from promptprobe.agent.search.stopping import plan_until_good, turn
from promptprobe.evals.selection.replay_table import Table
from promptprobe.evals.statistics import Floats
from promptprobe.tools.records import Candidate

BINS = 20
"""Groups of looks, from the lowest to the highest, whose shares of good pictures are compared."""
LIMITS = (1, 1.25, 1.5, 2, 3, 4, 6)
"""Limits of a run to try, as multiples of the mean renders."""


def schedule_of(fit: Table, good: float, renders: float) -> Schedule:
    """The planner's schedule for prompts whose first picture is not good; it has no waves if
    looking does not pay."""
    shares = (fit.final >= good).mean(1)
    again = float(np.average(shares, weights=1 - shares + 1e-9))
    chance = float(np.clip(again, 0.01, 0.99))
    return plan_until_good(fit.signal(), renders, Costs(), chance, most=fit.final.shape[1])


def chances(fit: Table, judged: Table, step: int, good: float) -> Floats:
    """Each candidate's chance of being good given its look, [prompt, seed], from binned shares of
    the fitted half, made nondecreasing."""
    looks, ended = fit.looks[fit.steps.index(step)].ravel(), (fit.final >= good).ravel()
    bins = np.array_split(looks.argsort(), BINS)
    places = [looks[places].mean() for places in bins]
    shares = np.maximum.accumulate([ended[places].mean() for places in bins])
    found: Floats = np.interp(judged.looks[judged.steps.index(step)], places, shares)
    return found


def run(
    table: Table,
    chance: Floats,
    schedule: Schedule,
    good: float,
    limit: float,
    sets: NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Best score and renders' worth spent, [prompt], averaged over orders of the seeds.

    Args:
        chance: see `chances`.
        limit: renders' worth that a run may spend, including the first render.
        sets: orders of seeds, [prompt, set, index].
    """
    seeds = [Candidate(prompt="any", seed=seed) for seed in range(table.final.shape[1])]
    ends = [
        [
            _once(final, known, schedule, good, limit, [seeds[place] for place in order])
            for order in orders
        ]
        for final, known, orders in zip(table.final, chance, sets, strict=True)
    ]
    best, spent = np.moveaxis(np.array(ends).mean(1), 1, 0)
    return best, spent


def _once(
    final: Floats,
    chance: Floats,
    schedule: Schedule,
    good: float,
    limit: float,
    fresh: list[Candidate],
) -> tuple[float, float]:
    """One run: the first seed is rendered, then waves follow until a picture is good."""
    look = schedule.rungs[0].step / schedule.total
    best, spent, fresh = final[fresh[0].seed], 1.0, fresh[1:]
    known: dict[Candidate, float] = {}
    while best < good:
        looking, chosen = turn(schedule, known, fresh, limit - spent)
        if not looking and not chosen:
            break
        known |= {one: chance[one.seed] for one in looking}
        fresh = fresh[len(looking) :]
        spent += len(looking) * look + len(chosen) * (1 - look)
        for one in chosen:
            del known[one]
            best = max(best, final[one.seed])
    return best, spent
