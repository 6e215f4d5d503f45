"""Do the first steps predict the finished image, and what is that worth in headroom?

Data: held-out prompts, all seeds of each. Callable: one pass that predicts after several numbers of
steps and continues to the end, and renders in few coarse steps. Scorer: the one that selects; the
target is its score of the finished image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from promptprobe.evals.ablations.ablations import RETRAINED
from promptprobe.evals.baselines import fitted
from promptprobe.evals.baselines.baselines import (
    BUDGET,
    Cost,
    Method,
    at_budget,
    choice,
    curve,
    leave_seed_out,
    naive_curve,
    worth,
)
from promptprobe.evals.bench import Bench
from promptprobe.evals.fidelity.diagnosis import diagnosis, doubt, prior, verdicts
from promptprobe.evals.fidelity.experiment import (
    PREVIEW,
    Experiment,
    coarse_name,
    methods,
    predictions_at,
)
from promptprobe.evals.selection import pairs, successive_halving
from promptprobe.evals.statistics import (
    Floats,
    ceiling,
    headroom,
    mean,
    pairwise,
    pcc_gain,
    pooled,
    ratio,
    share,
    within,
)
from promptprobe.tools.predictions import chances

NO_WORDS = "the scorer judges no words: which words go wrong is left out"


def report(drawn: Experiment) -> dict[str, Any]:
    """All figures of an experiment."""
    test, full = drawn.test, drawn.timing.full()
    scores, found = test.scores, methods(drawn)
    best = found[drawn.predictor]
    chosen = choice(best, scores, full)
    ruled = ruling(drawn)
    rule = ruled[drawn.predictor].best if drawn.predictor in ruled else None
    curves = [drawn.predictor, f"{PREVIEW} at step {drawn.step}", coarse_name(drawn.step)]
    return {
        **setting(drawn),
        **figures(best.guesses, scores, drawn.threshold),
        "at_budget": at_budget(best, scores, full),
        "headroom": {name: curve(found[name], scores, full) for name in curves}
        | {"naive best-of-n": naive_curve(scores, full)},
        "baselines": {
            name: figures(method.guesses, scores, drawn.threshold)
            | {
                "predictor_minus_this": lead(best.guesses, method.guesses, scores),
                "at_budget": at_budget(method, scores, full, chosen, rule),
            }
            for name, method in found.items()
            if name != drawn.predictor
        },
        "retrained_minus": retrained(found, scores),
        "rungs": rungs(drawn, chosen, ruled),
        "further_targets": further(drawn),
        "second_judge": second_judge(drawn, best.guesses),
        "over_steps": over_steps(drawn),
        "verdict": verdict(drawn),
        **uncertainty(drawn, best.guesses),
        "words": word_diagnosis(drawn),
        "for_training": pairs.pairs(best, scores, full, drawn.threshold),
        "oracle_prompt_mean_of_other_seeds": pooled(
            leave_seed_out(scores), scores, drawn.threshold
        ),
        "ceiling_of_spearman": ceiling(scores).json(),
        "mean_headroom": mean(scores.max(1) - scores.mean(1)).json(),
        "prompts_without_headroom": share((np.ptp(scores, axis=1) == 0).astype(float)).json(),
        "seconds_per_image": drawn.timing.json(),
        "notes": notes(drawn),
    }


def setting(drawn: Experiment) -> dict[str, Any]:
    """The settings of the eval."""
    bench = drawn.bench
    return {
        "eval": "fidelity",
        "model": bench.name,
        "split": drawn.sample.title,
        "scorer": bench.scorer,
        "judge": bench.grader,
        "predictor": drawn.predictor,
        "probe": bench.probe_name,
        "n_prompts": len(drawn.test.briefs),
        "n_seeds": drawn.test.scores.shape[1],
        "n_validation_prompts": len(drawn.known.briefs),
        "step": drawn.step,
        "of": bench.settings.steps,
        "budget": BUDGET,
        "positives": f"score >= {drawn.threshold:g}, {_whose(bench)}",
    }


def _whose(bench: Bench) -> str:
    """Where the threshold for a good score comes from."""
    if bench.good is not None:
        return "as asked for"
    rest = "training, frozen in the probe's card" if bench.probe else "the validation prompts"
    return f"the median of {rest}"


def notes(drawn: Experiment) -> list[str]:
    """Notes for the reader."""
    has_words = any(score.words for row in drawn.test.judged for score in row)
    missing = [] if has_words else [NO_WORDS]
    return [*drawn.bench.notes, *drawn.sample.notes, *drawn.notes, *missing]


def figures(guesses: Floats, scores: Floats, threshold: float) -> dict[str, Any]:
    """How well guesses rank within a prompt and over all candidates."""
    return {"within": within(guesses, scores), "pooled": pooled(guesses, scores, threshold)}


def lead(guesses: Floats, other: Floats, scores: Floats) -> dict[str, Any]:
    """How much better guesses rank within a prompt, and correlate, than others do, paired."""
    return {
        "pairwise": pairwise(guesses, scores, other).json(),
        "pcc": pcc_gain(guesses, other, scores).json(),
    }


def retrained(found: dict[str, Method], scores: Floats) -> dict[str, Any]:
    """How far our network is ahead of each other network trained on the same data."""
    if RETRAINED not in found:
        return {}
    ours = found[RETRAINED].guesses
    others = [name for name, method in found.items() if method.trained and name != RETRAINED]
    return {name: lead(ours, found[name].guesses, scores) for name in others}


@dataclass(frozen=True)
class Ruled:
    """A rule within the budget and what it achieves."""

    rule: successive_halving.Rule
    cost: Cost
    """Cost of a prompt."""
    best: Floats
    """Best score among the images that it finishes, [prompt]."""


def ruling(drawn: Experiment) -> dict[str, Ruled]:
    """For the probe and the preview, the affordable rule that recovers most on validation."""
    test, known, time = drawn.test, drawn.known, drawn.timing
    seeds = test.scores.shape[1]
    most = BUDGET * time.full().nfe * seeds
    found: dict[str, Ruled] = {}
    for name, look in (("probe", time.probe), (PREVIEW, time.preview)):
        guesses, fresh = (
            {k: at_k[name] for k in table.views if name in (at_k := predictions_at(table, k))}
            for table in (known, test)
        )
        costs = {
            rule: successive_halving.cost(rule, seeds, look, time.finish)
            for rule in successive_halving.rules(sorted(guesses), seeds)
        }
        affordable = {rule: cost.nfe for rule, cost in costs.items() if cost.nfe <= most}
        if affordable:
            rule = successive_halving.choose(affordable, guesses, known.scores)
            found[name] = Ruled(
                rule, costs[rule], successive_halving.best_kept(rule, fresh, test.scores)
            )
    return found


def rungs(drawn: Experiment, chosen: Floats, ruled: dict[str, Ruled]) -> dict[str, Any]:
    """What the rules recover, compared with one use of the predictor and with each other."""
    scores = drawn.test.scores
    return {
        name: {
            "rule": ", ".join(f"after {k} steps keep {keep}" for k, keep in one.rule),
            **worth(one.best, scores, one.cost, drawn.timing.full()),
            "minus_one_look_of_the_predictor": headroom(one.best, scores, chosen).json(),
            "minus_the_rule_of": {
                other: headroom(one.best, scores, theirs.best).json()
                for other, theirs in ruled.items()
                if other != name
            },
        }
        for name, one in ruled.items()
    }


def further(drawn: Experiment) -> dict[str, Any]:
    """How well the probe predicts its other targets, with the preview's score and without."""
    test = drawn.test
    if not test.further:
        return {}
    probe, k = drawn.bench.probe_at(drawn.step)
    indices, place = range(len(test.examples)), list(test.views).index(drawn.step)
    trace, look = test.examples.batch(indices, torch.full((len(indices),), place))
    found: dict[str, Any] = {}
    for at, target in enumerate(probe.card.targets):
        if (scores := test.further.get(target.name)) is not None:
            with_preview, blind = (
                test.shaped([one.score for one in probe.predict(trace, k, preview, at)])
                for preview in (look, None)
            )
            found[target.name] = {
                **figures(with_preview, scores, target.median),
                "blind": figures(blind, scores, target.median),
            }
    return found


def second_judge(drawn: Experiment, guesses: Floats) -> dict[str, Any] | None:
    """How the same guesses agree with a judge that never selected; None without such a judge."""
    graded = drawn.test.graded
    return None if graded is None else figures(guesses, graded, float(np.median(graded)))


def verdict(drawn: Experiment) -> dict[str, Any] | None:
    """The card's verdict on probe and preview, and their paired difference here.

    None without a probe.
    """
    bench, test = drawn.bench, drawn.test
    if bench.probe is None:
        return None
    card = bench.probe.card
    steps = {}
    for k in test.views:
        found, (_, window) = predictions_at(test, k), bench.probe_at(k)
        if "probe" in found:
            wins = card.windows[card.place(window)].beats_preview(card.targets[0].name)
            steps[str(k)] = {
                "used": "probe" if wins else "preview",
                "probe_minus_preview": pairwise(found["probe"], test.scores, found[PREVIEW]).json(),
            }
    return {"card": card.verdict, "steps": steps}


def over_steps(drawn: Experiment) -> dict[str, Any]:
    """Figures after each number of steps."""
    return {
        str(k): {
            name: {
                "pairwise": pairwise(guesses, drawn.test.scores).json(),
                "pcc": pooled(guesses, drawn.test.scores, drawn.threshold)["pcc"],
            }
            for name, guesses in predictions_at(drawn.test, k).items()
        }
        for k in drawn.test.views
    }


def uncertainty(drawn: Experiment, guesses: Floats) -> dict[str, Any]:
    """What the probe's interval and a keep rule are worth; None without a probe."""
    test, known = drawn.test, drawn.known
    if drawn.bench.probe is None:
        return {"calibration": None, "keep_rule": None}
    low, high = (
        test.shaped([getattr(p, end) for p in test.views[drawn.step].predictions])
        for end in ("low", "high")
    )
    plain = fitted.prompt_only_interval(known, test, drawn.bench)
    margin = successive_halving.keep_margin(
        predictions_at(known, drawn.step)["probe"], known.scores
    )
    return {
        "calibration": {
            "nominal": drawn.bench.probe.card.coverage,
            **interval(low, high, test.scores),
            "prompt only": interval(*plain, test.scores),
            "width_as_share_of_prompt_only": ratio(
                (high - low).mean(1), (plain[1] - plain[0]).mean(1)
            ).json(),
        },
        "keep_rule": successive_halving.keep_rule(guesses, test.scores, margin),
    }


def interval(low: Floats, high: Floats, scores: Floats) -> dict[str, Any]:
    """How often the score lies inside an interval, and the interval's mean width."""
    return {
        "coverage": mean(((low <= scores) & (scores <= high)).mean(1)).json(),
        "mean_width": mean((high - low).mean(1)).json(),
    }


def word_diagnosis(drawn: Experiment) -> dict[str, Any] | None:
    """How well the probe, the judge's view of the preview and a prior predict missing words; None
    without a probe, or if the judge judges no words."""
    test, view = drawn.test, drawn.test.views[drawn.step]
    if not view.predictions or not any(score.words for row in test.judged for score in row):
        return None
    roles = drawn.bench.roles
    truth = verdicts(test.briefs, test.judged, test.words, roles)
    preview = [
        [1.0 if chance is None else chance for chance in chances(words, score)]
        for words, score in zip(test.words, view.seen, strict=True)
    ]
    ways = {
        "probe": [prediction.words for prediction in view.predictions],
        "judge's look at the preview": preview,
    }
    doubts = [doubt(name, truth, test.judged, test.words, of) for name, of in ways.items()]
    by_kind = prior(drawn.known.briefs, drawn.known.judged, roles)(truth)
    return diagnosis(truth, [*doubts, by_kind])
