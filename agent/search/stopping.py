"""For runs that end with their first good picture: when to look, and which candidates to finish.

The best of many does not matter here, only good pictures per render's worth. A look costs a few
steps and estimates the chance that the finished picture is good. By Weitzman's rule (Pandora's box,
1979) there is one rate at which a fresh candidate is worth exactly its look; a candidate that
promises more than that rate, for the cost of finishing it, is finished at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

from promptprobe.agent.search.schedule import Costs, Rung, Schedule, Signal, Waves, none_fits
from promptprobe.tools.records import Candidate

WAVE = 2
"""Candidates that are looked at together; with more, some looks are wasted."""
WORTH_LOOKING = 1.1
"""Factor by which looks must beat the rate of plain renders."""
POINTS = 64
"""Number of equally likely outcomes by which a look is approximated."""
EXPECTED = 2_000
"""Simulated rounds from which a schedule's gain is estimated."""


def plan_until_good(
    signal: Signal,
    renders: float,
    costs: Costs,
    chance: float,
    *,
    seconds: float | None = None,
    most: int | None = None,
    least: int = 1,
) -> Schedule:
    """Waves of looks for a budget, or plain renders one by one if looking does not pay.

    Args:
        renders: the budget, in renders' worth.
        chance: chance that a fresh candidate's picture is good, strictly between 0 and 1.
        seconds: an additional cap.
        most: maximum number of candidates.
        least: minimum number of candidates, if some look makes them affordable.

    Raises:
        ValueError: not one render fits into the budget.
    """
    cap = costs.cap(signal.total, renders, seconds)
    plain = _affordable(signal.total, 0, renders, costs, cap)
    if plain < 1:
        raise none_fits(renders, cap)
    offers = {}
    for step, correlation in zip(signal.steps, signal.correlations, strict=True):
        count = _affordable(signal.total, step, renders, costs, cap)
        rate, bar = look_rate(correlation, chance, *_prices(signal.total, step, costs))
        if count >= least and (rate >= WORTH_LOOKING * chance or plain < least):
            offers[step] = (rate, bar, count)
    if not offers:
        return _schedule(signal, min(plain, most or plain), None, costs, None)
    step = max(offers, key=lambda one: offers[one][0])
    _, bar, count = offers[step]
    waves = Waves(size=max(WAVE, least), chance=bar)
    return _schedule(signal, min(count, most or count), step, costs, waves)


def look_rate(correlation: float, chance: float, look: float, finish: float) -> tuple[float, float]:
    """Good pictures per render's worth with a look, and the chance above which to finish.

    Args:
        correlation: correlation of the look with the final score, within a prompt.
        chance: chance that a candidate's picture is good, before the look.
        look, finish: their costs, as shares of a full render.
    """
    outcomes = _chances_after(correlation, chance)
    low, high = 0.0, 1 / max(look, 1e-9)
    for _ in range(40):
        rate = (low + high) / 2
        gained = fmean(max(0.0, one - rate * finish) for one in outcomes)
        low, high = (rate, high) if gained > rate * look else (low, rate)
    return low, min(1.0, low * finish)


def turn(
    schedule: Schedule, chances: Mapping[Candidate, float], fresh: Sequence[Candidate], room: float
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Candidates to look at now, or else the one to finish; the round is over if there are none.

    Args:
        schedule: a schedule with waves.
        chances: chances of candidates that were looked at and are not finished.
        fresh: candidates that were not looked at.
        room: renders' worth that the round has left.
    """
    assert schedule.waves is not None, "a schedule with waves is required"
    look = schedule.rungs[0].step / schedule.total
    best = max(chances, key=lambda one: chances[one], default=None)
    finishable = best is not None and room >= 1 - look - 1e-9
    if best is not None and finishable and chances[best] >= schedule.waves.chance:
        return (), (best,)
    affordable = int((room - (1 - look)) / look + 1e-9)
    if fresh and affordable > 0:
        return tuple(fresh[: min(schedule.waves.size, affordable)]), ()
    return (), (best,) if best is not None and finishable else ()


def _chances_after(correlation: float, chance: float) -> list[float]:
    """Equally likely chances of a candidate after a look; their mean is `chance`."""
    normal = NormalDist()
    bar, rest = normal.inv_cdf(1 - chance), math.sqrt(max(1e-9, 1 - correlation**2))
    places = [normal.inv_cdf((at + 0.5) / POINTS) for at in range(POINTS)]
    found = [normal.cdf((abs(correlation) * place - bar) / rest) for place in places]
    scale = chance / fmean(found)
    return [min(1.0, one * scale) for one in found]


def _prices(total: int, step: int, costs: Costs) -> tuple[float, float]:
    """Costs of a look and of finishing after it, as shares of a full render.

    Shares of its seconds if these are known, otherwise of its steps.
    """
    if not costs.step_seconds:
        return step / total, 1 - step / total
    whole = costs.render_seconds(total)
    look = step * costs.step_seconds + costs.look_seconds
    finish = (total - step) * costs.step_seconds + costs.finish_seconds
    return look / whole, finish / whole


def _affordable(total: int, step: int, renders: float, costs: Costs, seconds: float) -> int:
    """How many candidates can be looked at and one still finished; if `step` is 0, how many can be
    finished without a look."""
    if not step:
        whole = costs.render_seconds(total)
        return int(min(renders, seconds / whole if whole else math.inf) + 1e-9)
    count = (renders * total - (total - step)) / step
    if costs.step_seconds:
        look, finish = (
            price * costs.render_seconds(total) for price in _prices(total, step, costs)
        )
        count = min(count, (seconds - finish) / look)
    return max(0, int(count + 1e-9))


def _schedule(
    signal: Signal, candidates: int, step: int | None, costs: Costs, waves: Waves | None
) -> Schedule:
    """The record, with the expected gain of the best candidate and that of plain renders."""
    from promptprobe.agent.search.draws import best_drawn, draw

    total = signal.total
    taken = ((step, 1),) if step else ()
    steps, seconds = costs.price(total, candidates, taken)
    whole = max(1, int(steps / total))
    drawn = draw(signal, max(candidates, whole), EXPECTED, 0)
    best = best_drawn(drawn, signal, candidates, taken)
    return Schedule(
        total=total,
        candidates=candidates,
        rungs=tuple(Rung(step=at, keep=keep, weights=(1.0,)) for at, keep in taken),
        waves=waves,
        renders=steps / total,
        nfe=steps * costs.nfe_per_step,
        seconds=seconds,
        gain=float(best.mean()),
        deviation=float(best.std()),
        naive_gain=float(best_drawn(drawn, signal, whole, ()).mean()),
    )
