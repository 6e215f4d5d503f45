"""Selection policies as functions of a stored table: what each spends, and the score it ends with.

A policy is fitted on one table and judged on another; of the judged table it sees only the scores
of candidates that it finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from promptprobe.agent.search.draws import best_finished, draw
from promptprobe.agent.search.planner import plan
from promptprobe.evals.selection import adaptive as index
from promptprobe.evals.selection import waves
from promptprobe.evals.selection.replay_table import Table
from promptprobe.evals.statistics import Floats, best_of_n

EARLY = 0.2
"""Share of the steps after which the paper and the old rule look: 5 of 25."""
SETS = 160
"""Sets of seeds drawn for each prompt, the same for every policy."""
RUNS = 800
"""Runs of the policies that go turn by turn, and are therefore slower."""
PRICES = (0.005, 0.01, 0.02)
Rungs = list[tuple[int, int, tuple[float, ...]]]
"""(step, keep, weights of the looks so far), as `best_finished` takes them."""


@dataclass(frozen=True)
class Outcome:
    """Expected score of the chosen image, [prompt], and the mean cost in renders."""

    best: Floats
    renders: float
    schedule: str


Policy = Callable[[Table, Table, float], Outcome]


def naive(fit: Table, judged: Table, renders: float) -> Outcome:
    """Best of n full renders, computed exactly; fractional n is interpolated."""
    return Outcome(best_of_n(judged.final, renders), renders, f"best of {renders:g}")


def until_content(fit: Table, judged: Table, renders: float) -> Outcome:
    """Full renders until one is at or above the fitted half's median score, or a limit is reached.

    The limit is chosen so that the fitted half takes `renders` on average: a hard prompt takes
    more of them, an easy one fewer. A fractional limit interpolates between whole numbers.
    """
    content = float(np.median(fit.final))
    taken = _until(fit.final, content)[1].mean(0)
    limit = float(np.interp(renders, taken, np.arange(1, len(taken) + 1)))
    best, spent = _until(judged.final, content)
    at = np.arange(1, len(taken) + 1)
    values = np.array([np.interp(limit, at, row) for row in best])
    return Outcome(values, float(np.interp(limit, at, spent.mean(0))), f"at most {limit:.1f}")


def _until(final: Floats, content: float) -> tuple[Floats, Floats]:
    """Best score and renders taken, for each limit of renders, [prompt, limit - 1]."""
    prompts, seeds = final.shape
    scores = final[np.arange(prompts)[:, None, None], seed_sets(prompts, seeds)]
    best = np.maximum.accumulate(scores, axis=2)
    going = np.ones(scores.shape)
    going[:, :, 1:] = best[:, :, :-1] < content
    stop = np.minimum(going.sum(2, keepdims=True).astype(int) - 1, seeds - 1)
    at = np.minimum(np.arange(seeds), stop)
    found: tuple[Floats, Floats] = (
        np.take_along_axis(best, at, 2).mean(1),
        going.cumsum(2).mean(1),
    )
    return found


def keep_one(fit: Table, judged: Table, renders: float) -> Outcome:
    """As in Diffusion Probe: one look after a fifth of the steps, one candidate finished."""
    step = _nearest(judged, EARLY)
    start = int((renders - 1) * judged.total // step) + 1
    return _pruned(fit, judged, start, [(step, 1)])


def progressive(fit: Table, judged: Table, renders: float) -> Outcome:
    """Progressive seed pruning (PSP): 8, 4, 2 at 25% and 50% of the steps, scaled to the budget."""
    first, second = _nearest(judged, 0.25), _nearest(judged, 0.5)
    start = int(8 * renders)  # more than any budget pays for
    while start > 1:
        half, quarter = max(1, round(start / 2)), max(1, round(start / 4))
        steps = start * first + half * (second - first) + quarter * (judged.total - second)
        if steps <= renders * judged.total:
            break
        start -= 1
    return _pruned(fit, judged, start, [(first, max(1, start // 2)), (second, max(1, start // 4))])


def light(fit: Table, judged: Table, renders: float) -> Outcome:
    """The loop's old rule: look after a fifth of the steps, finish 3 of 16 (scaled to budget)."""
    step = _nearest(judged, EARLY)
    keep = max(1, round(3 * renders / 5.6))
    start = int((renders * judged.total - keep * (judged.total - step)) // step)
    return _pruned(fit, judged, max(start, keep), [(step, keep)])


def planned(fit: Table, judged: Table, renders: float) -> Outcome:
    """The planner's schedule, from the ranks within a prompt on the fitted half."""
    schedule = plan(fit.signal(), renders, most=judged.final.shape[1])
    if schedule.is_naive:
        return naive(fit, judged, renders)
    rungs: Rungs = [(rung.step, rung.keep, rung.weights) for rung in schedule.rungs]
    best = _run(fit, judged, schedule.candidates, rungs)
    return Outcome(best, schedule.renders, str(schedule))


def in_waves(fit: Table, judged: Table, renders: float) -> Outcome:
    """The loop's rule for runs that end with their first good picture: looks in waves of two.

    A score from the fitted half's median is good, and the limit of a run is chosen so that this
    half spends `renders` on average, both as in `until_content`.
    """
    good = float(np.median(fit.final))
    schedule = waves.schedule_of(fit, good, judged.final.shape[1])
    if schedule.waves is None:
        return until_content(fit, judged, renders)
    step, sets = schedule.rungs[0].step, max(1, RUNS // len(judged.final))
    limits = [renders * times for times in waves.LIMITS]

    def run(table: Table, limits: Sequence[float]) -> list[tuple[Floats, Floats]]:
        chances = waves.chances(fit, table, step, good)
        orders = seed_sets(*table.final.shape)[:, :sets]
        return [waves.run(table, chances, schedule, good, limit, orders) for limit in limits]

    limit = float(np.interp(renders, [spent.mean() for _, spent in run(fit, limits)], limits))
    [(best, spent)] = run(judged, [limit])
    return Outcome(best, float(spent.mean()), f"{schedule}, at most {limit:.1f} renders")


def adaptive(fit: Table, judged: Table, renders: float) -> Outcome:
    """The planned first rung, then one step at a time by index; the price is chosen on draws."""
    signal = fit.signal()
    schedule = plan(signal, renders, most=judged.final.shape[1])
    if schedule.is_naive:
        return naive(fit, judged, renders)
    first, start = schedule.rungs[0].step, schedule.candidates
    steps = int(renders * judged.total + 1e-9)
    drawn = draw(signal, start, RUNS, seed=0)
    looks = dict(zip(signal.steps, drawn.looks, strict=True))
    price = max(
        PRICES,
        key=lambda price: index.run(looks, drawn.final, signal, first, steps, price)[0].mean(),
    )
    prompts, seeds = judged.final.shape
    sets = seed_sets(prompts, seeds)[:, : max(1, RUNS // prompts), :start]
    rows = np.arange(prompts)[:, None, None]
    stored = {
        step: judged.standardized(step, fit)[rows, sets].reshape(-1, start)
        for step in judged.steps
        if step >= first
    }
    final = judged.final[rows, sets].reshape(-1, start)
    best, spent = index.run(stored, final, signal, first, steps, price)
    text = f"{start} candidates to {first}, then by index at {price:g} a step"
    return Outcome(best.reshape(prompts, -1).mean(1), float(spent.mean()) / judged.total, text)


POLICIES: dict[str, Policy] = {
    "naive": naive,
    "until-content": until_content,
    "keep-one": keep_one,
    "psp": progressive,
    "light": light,
    "planned": planned,
    "waves": in_waves,
    "adaptive": adaptive,
}


def _pruned(fit: Table, judged: Table, start: int, rungs: list[tuple[int, int]]) -> Outcome:
    """A fixed schedule that ranks by its last look."""
    start = min(start, judged.final.shape[1])
    full: Rungs = [
        (step, min(keep, start), (*[0.0] * place, 1.0)) for place, (step, keep) in enumerate(rungs)
    ]
    steps, left, at = 0, start, 0
    for step, keep, _ in full:
        steps, left, at = steps + left * (step - at), keep, step
    steps += left * (judged.total - at)
    text = "".join(f", keep {keep} after {step}" for step, keep, _ in full)
    best = _run(fit, judged, start, full)
    return Outcome(best, steps / judged.total, f"{start} candidates{text}")


def _run(fit: Table, judged: Table, start: int, rungs: Rungs) -> Floats:
    """Expected score of a schedule's best, [prompt], over sets of seeds."""
    prompts, seeds = judged.final.shape
    sets = seed_sets(prompts, seeds)[:, :, :start]
    rows = np.arange(prompts)[:, None, None]
    looks = {
        step: judged.standardized(step, fit)[rows, sets].reshape(-1, start) for step, *_ in rungs
    }
    best = best_finished(looks, judged.final[rows, sets].reshape(-1, start), start, rungs)
    mean: Floats = best.reshape(prompts, -1).mean(1)
    return mean


@lru_cache(maxsize=4)
def seed_sets(prompts: int, seeds: int) -> NDArray[np.intp]:
    """Seeds in random order, [prompt, set, index]; a schedule's candidates are the first ones."""
    return np.random.default_rng(0).random((prompts, SETS, seeds)).argsort(2)


def _nearest(table: Table, share: float) -> int:
    """The step with a look that is nearest to a share of all steps."""
    return min(table.steps, key=lambda step: abs(step - share * table.total))
