"""Plans a run's next round from the trials so far.

This connects the planner, which knows numbers, with a run, which knows trials. Pure: the same
trials and costs give the same round, so that a resumed run goes on as it would have. Learned values
are rounded before a round is planned, so that the planner's cache can hit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

from promptprobe.agent.search.beliefs import (
    Belief,
    Beliefs,
    Looked,
    learn,
    pooled,
    preview_prior,
    prior_beliefs,
)
from promptprobe.agent.search.policy import predicted_at
from promptprobe.agent.search.rounds import Effects, NextRound, Observed, effects, next_round
from promptprobe.agent.search.schedule import Costs, Schedule, Signal, from_pairwise
from promptprobe.agent.search.stopping import plan_until_good
from promptprobe.tools.records import Basis, Budget, Candidate, Score, Trial

PROMPTS = 4
"""Prompts of a round that rewrites, including the brief and the best so far."""
BETWEEN = 0.25
"""Prior variance between prompts, in units of the variance within one."""
WORTH = 0.01
"""Expected improvement, in spreads within a prompt, below which a round is not worth its cost."""
ROUND = 3.0
"""Minimum size of a round, in renders' worth."""
INTERVAL = 2 * NormalDist().inv_cdf(0.95)
"""Width of a prediction's 90% interval, in standard deviations."""
PRIOR_GOOD, PRIOR_TRIED = 1.0, 2.0
"""Prior counts, as if one of two pictures had been good."""


def prior_signal(total: int, ranks: Mapping[int, float]) -> Signal:
    """How well looks predict scores, before the run has seen any.

    Args:
        total: steps of a render.
        ranks: measured ranks, by step; later previews are added if the prior for previews ranks
            them higher. Without any measured ranks, that prior is used alone.
    """
    prior = preview_prior(total) if total > 1 else Signal(total=2, steps=(), correlations=())
    if not ranks:
        return prior
    known = {k: from_pairwise(max(0.5, rank)) for k, rank in ranks.items() if 0 < k < total}
    last, best = max(known, default=0), max(known.values(), default=0.0)
    for step, correlation in zip(prior.steps, prior.correlations, strict=True):
        if step > last and correlation > best:
            known[step] = correlation
    steps = tuple(sorted(known))
    return Signal(total=total, steps=steps, correlations=tuple(known[k] for k in steps))


def believe(signal: Signal, trials: Sequence[Trial], basis: Basis) -> Beliefs:
    """The prior corrected by the run's own candidates; only looks of the current basis count."""
    looked = [
        Looked(
            prompt=trial.candidate.prompt,
            predictions={
                look.step: look.prediction.score
                for look in trial.looks
                if look.prediction and (basis == "probe" or look.prediction.basis == basis)
            },
            score=trial.value,
        )
        for trial in trials
    ]
    spreads = {
        step: math.sqrt(found)
        for step in signal.steps
        if (found := _variance([(c.prompt, c.predictions.get(step)) for c in looked]))
    }
    return learn(prior_beliefs(signal, scale_of(trials), spreads), looked)


def scale_of(trials: Sequence[Trial]) -> float:
    """Variance within a prompt, of predictions or else of scores; 1 if there are neither.

    It is needed because scorers differ in scale: some score from 0 to 1, others around 21.
    """
    predictions = [
        (t.candidate.prompt, t.prediction.score if t.prediction else None) for t in trials
    ]
    scores = [(trial.candidate.prompt, trial.value) for trial in trials]
    return _variance(predictions) or _variance(scores) or 1.0


def known_effects(beliefs: Beliefs, trials: Sequence[Trial]) -> Effects | None:
    """Prompt and seed effects from scores and, for dropped candidates, from predictions; None if
    nothing is known."""
    observed = list(_observed(beliefs, trials))
    scale = scale_of(trials)
    return effects(observed, BETWEEN * scale, scale) if observed else None


def rounds_in(left: float) -> int:
    """Over how many rounds of about equal size to spend so many renders' worth."""
    return max(1, int(left / ROUND + 1e-9))


def good_from(target: float | None, trials: Sequence[Trial]) -> float | None:
    """The lowest score with which a picture ends the run; None if unknown.

    If the scorer itself checks n things, it lies halfway between all of them and all but one.
    """
    if target is not None:
        return target
    first = first_score(trials)
    if first is None or first.correct is None or not first.words:
        return None
    return 1 - 0.5 / len(first.words)


def first_score(trials: Sequence[Trial]) -> Score | None:
    """The first score with a value, which shows what kind of scores to expect; None if none."""
    scores = (trial.score for trial in trials if trial.score)
    return next((score for score in scores if score.value is not None), None)


def chances_of(beliefs: Beliefs, trials: Sequence[Trial], good: float) -> dict[Candidate, float]:
    """Each candidate's chance that its finished picture scores `good` or more.

    It follows from the 90% interval of the last prediction or, for previews, which have none, from
    the run's beliefs about looks. A candidate without a prediction has chance 0 and is finished
    last.
    """
    known = {belief.step: belief for belief in beliefs.looks}
    found = {}
    for trial in trials:
        step = next((look.step for look in reversed(trial.looks) if look.prediction), None)
        seen = trial.prediction
        if seen is None or step is None:
            found[trial.candidate] = 0.0
            continue
        mean, spread = seen.score, 0.0
        if seen.low is not None and seen.high is not None:
            spread = (seen.high - seen.low) / INTERVAL
        elif step in known:
            mean = known[step].slope * seen.score + _offset(known[step], trials)
            spread = math.sqrt(known[step].noise)
        found[trial.candidate] = 1 - NormalDist(mean, max(spread, 1e-9)).cdf(good)
    return found


def fresh_chance(beliefs: Beliefs, trials: Sequence[Trial], good: float) -> float:
    """Chance that a new candidate turns out good, estimated from those that were tried."""
    chances, came = chances_of(beliefs, trials, good), []
    for trial in trials:
        value = trial.value
        if value is not None:
            came.append(float(value >= good))
        elif trial.score is None:
            came.append(chances[trial.candidate])
    return (PRIOR_GOOD + sum(came)) / (PRIOR_TRIED + len(came))


def plan_round(
    beliefs: Beliefs,
    total: int,
    renders: float,
    costs: Costs,
    budget: Budget,
    seconds: float | None,
    least: int = 1,
    chance: float | None = None,
) -> Schedule:
    """The schedule of a round, with at least `least` candidates if they fit.

    Args:
        chance: chance that a fresh candidate ends the run; None: search for the best of all.

    Raises:
        ValueError: not one render fits into the budget.
    """
    from promptprobe.agent.search.planner import MOST_CANDIDATES, plan

    learned = beliefs.signal(total)
    signal = learned.model_copy(
        update={"correlations": tuple(round(one, 2) for one in learned.correlations)}
    )
    most = MOST_CANDIDATES if budget.most is None else budget.most
    if chance is not None:
        return plan_until_good(
            signal, renders, costs, chance, seconds=seconds, most=most, least=least
        )
    return plan(signal, renders, costs, seconds=seconds, most=most, keep=budget.keep, least=least)


def first_render(schedule: Schedule) -> Schedule:
    """A schedule for one candidate, looked at at each rung of `schedule` and always finished."""
    rungs = tuple(rung.model_copy(update={"keep": 1}) for rung in schedule.rungs)
    one = {"candidates": 1, "rungs": rungs, "waves": None, "renders": 1}
    return schedule.model_copy(update=one)


def decide(known: Effects, best: float, schedule: Schedule, rewriting: bool) -> NextRound:
    """Choose what the next round does, by its expected gain on the best score so far.

    Args:
        schedule: the next round's schedule, with gains in units of the spread within a prompt.
        rewriting: whether rewrites are available.
    """
    spread = math.sqrt(known.within)
    apart = math.sqrt(known.within + known.between)
    offers = [
        schedule.model_copy(
            update={"gain": schedule.gain * by, "deviation": schedule.deviation * by}
        )
        for by in (spread, apart)
    ]
    return next_round(known, best, offers[0], offers[1] if rewriting else None, WORTH * spread)


def costs_of(nfe_per_step: float, step: float, look: float, score: float, capped: bool) -> Costs:
    """The costs that the planner uses.

    Args:
        step, look, score: seconds that the run has measured. They are used only if seconds are
            capped: times vary with the machine's load, and the same seed should give the same run.
    """
    if not capped or step <= 0:
        return Costs(nfe_per_step=nfe_per_step)
    return Costs(
        nfe_per_step=nfe_per_step, step_seconds=step, look_seconds=look, finish_seconds=score
    )


def _observed(beliefs: Beliefs, trials: Sequence[Trial]) -> list[Observed]:
    latest = {belief.step: belief for belief in beliefs.looks}
    offsets = {step: _offset(belief, trials) for step, belief in latest.items()}
    found = []
    for trial in trials:
        prompt, value = trial.candidate.prompt, trial.value
        if value is not None:
            found.append(Observed(prompt=prompt, value=value))
            continue
        steps = [look.step for look in trial.looks if look.prediction and look.step in latest]
        if trial.score is None and steps:
            belief, seen = latest[steps[-1]], predicted_at(trial, steps[-1])
            assert seen is not None, "the step is of a look with a prediction"
            expected = belief.slope * seen + offsets[steps[-1]]
            found.append(Observed(prompt=prompt, value=expected, noise=belief.noise))
    return found


def _offset(belief: Belief, trials: Sequence[Trial]) -> float:
    """Mean difference between score and slope x prediction, over the run's finished candidates."""
    gaps, seen = [], []
    for trial in trials:
        prediction, value = predicted_at(trial, belief.step), trial.value
        if prediction is not None:
            seen.append(prediction)
            if value is not None:
                gaps.append(value - belief.slope * prediction)
    if gaps:
        return fmean(gaps)
    return (1 - belief.slope) * fmean(seen) if seen else 0.0


def _variance(values: Sequence[tuple[str, float | None]]) -> float:
    """Variance within a prompt, over prompts with at least two values; 0 if there are none."""
    square, free = pooled((prompt, value) for prompt, value in values if value is not None)
    return square / free if free else 0.0
