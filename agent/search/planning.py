"""From what a run has seen to what its next round tries.

The seam between the planner, which knows numbers, and a run, which knows trials. Pure: the same
trials and costs give the same round, so that a resumed run goes on as it would have. What is
learned is rounded before a round is planned, so that a plan is found again in the planner's memory.
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
"""Of a round that rewrites, the brief and the best so far among them, if there are candidates."""
BETWEEN = 0.25
"""Variance between prompts before any was seen, in units of the variance within one."""
WORTH = 0.01
"""Expected improvement, in spreads within a prompt, below which a round is not worth its cost."""
ROUND = 3.0
"""Renders' worth of a round, at least."""
INTERVAL = 2 * NormalDist().inv_cdf(0.95)
"""Width of a prediction's 90% interval, in standard deviations."""
PRIOR_GOOD, PRIOR_TRIED = 1.0, 2.0
"""As if one of two pictures had been good, before any was seen."""


def prior_signal(total: int, ranks: Mapping[int, float]) -> Signal:
    """What looks are worth before the run has seen any.

    Args:
        total: steps of a render.
        ranks: measured, by step; later previews join where the stated prior ranks them higher, and
            where nothing was measured there is nothing but that prior.
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
    """The prior, corrected by the run's own candidates; only looks of the present basis count."""
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
    """Variance within a prompt as predictions have it, before scores say more; 1 if nothing says.

    Scores of one scorer lie in [0, 1], of another around 21.
    """
    predictions = [
        (t.candidate.prompt, t.prediction.score if t.prediction else None) for t in trials
    ]
    scores = [(trial.candidate.prompt, trial.value) for trial in trials]
    return _variance(predictions) or _variance(scores) or 1.0


def known_effects(beliefs: Beliefs, trials: Sequence[Trial]) -> Effects | None:
    """Prompt and seed effects from scores and, of those dropped, from predictions; None: nothing
    is known."""
    observed = list(_observed(beliefs, trials))
    scale = scale_of(trials)
    return effects(observed, BETWEEN * scale, scale) if observed else None


def rounds_in(left: float) -> int:
    """How many rounds so many renders' worth are spent in, all about equally large."""
    return max(1, int(left / ROUND + 1e-9))


def good_from(target: float | None, trials: Sequence[Trial]) -> float | None:
    """The score from which on a picture ends the run; None: not known.

    Where the scorer says itself what is correct, of n things, that is halfway between all of them
    and all but one.
    """
    if target is not None:
        return target
    first = first_score(trials)
    if first is None or first.correct is None or not first.words:
        return None
    return 1 - 0.5 / len(first.words)


def first_score(trials: Sequence[Trial]) -> Score | None:
    """The first score with a value, which shows what a scorer says; None: there is none."""
    scores = (trial.score for trial in trials if trial.score)
    return next((score for score in scores if score.value is not None), None)


def chances_of(beliefs: Beliefs, trials: Sequence[Trial], good: float) -> dict[Candidate, float]:
    """Chance of each that was looked at that its finished picture scores `good` or more.

    By the 90% interval of its last prediction; of previews, which have none, by what the run
    believes of looks. Who could not be judged early has chance 0, and so is finished last.
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
    """Chance that a candidate nobody has looked at turns out good, by those that were tried."""
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
    """The schedule of a round, its looks as good as believed; `least` candidates, if they fit.

    Args:
        chance: of a fresh candidate to end the run; None: the best of all is what is looked for.

    ValueError: not one render fits.
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
    """One candidate, looked at wherever the first round will look, and finished in any case."""
    rungs = tuple(rung.model_copy(update={"keep": 1}) for rung in schedule.rungs)
    one = {"candidates": 1, "rungs": rungs, "waves": None, "renders": 1}
    return schedule.model_copy(update=one)


def decide(known: Effects, best: float, schedule: Schedule, rewriting: bool) -> NextRound:
    """What the next round should do, by what it is expected to gain on the best score so far.

    Args:
        schedule: of the next round, for the seeds of one prompt, its gain in spreads.
        rewriting: whether somebody can rewrite.
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
    """What the planner counts.

    Args:
        step, look, score: seconds as the run has measured them. They count where seconds are
            capped, and only there: times vary from run to run, with what else the machine does,
            and the same seed should make the same run.
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
    """What a prediction times the slope lacks, on the run's finished candidates."""
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
    """Variance within a prompt, over prompts with two values or more; 0 where there is none."""
    square, free = pooled((prompt, value) for prompt, value in values if value is not None)
    return square / free if free else 0.0
