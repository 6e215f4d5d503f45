"""Does a look at the first steps foretell the finished image, and what is that worth in headroom?

Data: held-out scenes in natural wordings, all seeds of each. Callable: one pass that looks after
k steps and goes on to the end, one pass of k coarse steps. Scorer: the sprites scorer; the target
is its score of the finished image. A smaller validation pass fits what needs fitting.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench, Images
from promptprobe.evals.diagnosis import Prior, diagnosis, doubt, prior, verdicts
from promptprobe.evals.rivals import (
    Cost,
    Method,
    curve,
    fit_prompt_only,
    leave_seed_out,
    naive_curve,
)
from promptprobe.evals.sampling import (
    Brief,
    grade,
    grid,
    held_out,
    in_batches,
    keep_x0,
    sample,
    values,
)
from promptprobe.evals.statistics import Floats, mean, pairwise, pooled, share, within
from promptprobe.tools.predictions import aligned
from promptprobe.tools.records import Score
from promptprobe.tools.sprites.world import Split

VALIDATION_SEEDS = 2
CNN_ALONE = "the probe's CNN alone, without the preview"
NO_PROBE = "none is shipped: the figures are those of the x0 preview, graded by the scorer"


def evaluate(bench: Bench, prompts: int, seeds: int, split: Split = "test") -> dict[str, Any]:
    """The whole report, on `prompts` scenes of a split with `seeds` (at least 2) each."""
    step = probed_steps(bench)
    briefs = held_out(prompts, split)
    looked = look(bench, grid(briefs, seeds), step)
    begun = time.perf_counter()
    judged = grade(bench.score, briefs, looked.finals)
    scores = values(judged)
    looked.seconds["score"] = (time.perf_counter() - begun) / scores.size
    methods = guess(bench, briefs, scores.shape[1], looked, step)
    known, drawn = validation(bench, prompts)
    methods["prompt-only"] = prompt_only(known, drawn, briefs, methods["random"])
    threshold = (
        bench.probe.card.targets[0].median if bench.probe else float(np.median(values(drawn)))
    )
    name = "probe" if bench.probe else f"x0 preview at step {step}"
    return {
        "eval": "fidelity",
        "model": bench.name,
        "split": f"{split} scenes, natural wordings",
        "predictor": name,
        "probe": "shipped" if bench.probe else NO_PROBE,
        "n_prompts": prompts,
        "n_seeds": seeds,
        "step": step,
        "of": bench.settings.steps,
        **report(name, methods, scores, threshold),
        "calibration": calibration(bench, looked.predictions, scores),
        "words": blame(briefs, judged, looked, prior(known, drawn)) if bench.probe else None,
        "positives": f"score >= {threshold:g}, the median "
        + ("of training, frozen in the probe's card" if bench.probe else "of the validation split"),
        "seconds_per_image": {part: round(spent, 4) for part, spent in looked.seconds.items()},
    }


def probed_steps(bench: Bench) -> int:
    """A fifth of them, as the paper and the agent's tools take."""
    return max(1, round(bench.settings.steps / 5))


@dataclass(frozen=True)
class Looked:
    """One pass over all candidates: looked at after k steps, then finished."""

    finals: Images
    previews: dict[int, Images]
    predictions: list[Any]
    """The probe's, empty where there is none."""
    blind: list[Any]
    """The same without the judge's look at the previews."""
    seen: list[Score]
    """What that look was."""
    words: list[tuple[str, ...]]
    """The traced words of each candidate."""
    seconds: dict[str, float]
    """Per image, by part."""


def look(bench: Bench, pairs: Sequence[tuple[str, int]], step: int) -> Looked:
    """Every candidate for `step` steps, its prediction, then on to the end from its own latents."""
    from promptprobe.probe.trace import record_trace
    from promptprobe.tools.predictions import look_of

    family, settings = bench.family, bench.settings
    later = min(2 * step, settings.steps)
    finals: list[Images] = []
    previews: dict[int, list[Images]] = {step: [], later: []}
    predictions: list[Any] = []
    blind: list[Any] = []
    looks: list[Score] = []
    words: list[tuple[str, ...]] = []
    spent: dict[str, float] = defaultdict(float)
    for chunk in in_batches(pairs, "looked at and finished"):
        prompts, seeds = [prompt for prompt, _ in chunk], [seed for _, seed in chunk]
        kept: dict[int, Any] = {}
        with timed(spent, "look"):
            trace, state = record_trace(family, prompts, seeds, settings, step)
        with timed(spent, "decode"):
            seen = family.decode(trace.x0)
            previews[step].append(seen)
        with timed(spent, "predict"):
            if bench.probe:
                looks += glance(bench, prompts, seen)
                found = look_of(looks[-len(prompts) :], looks[-len(prompts) :], trace)
                predictions += bench.probe.predict(trace, step, found)
        blind += bench.probe.predict(trace, step) if bench.probe else []
        words += trace.words
        with timed(spent, "finish"):
            text = family.encode(prompts, settings)
            state = family.denoise(state, text, settings, settings.steps, keep_x0([later], kept))
            finals.append(family.decode(state.latents))
        if later > step:
            previews[later].append(family.decode(kept[later]))
    seconds = {part: total / len(pairs) for part, total in spent.items()}
    joined = {at: np.concatenate(images) for at, images in previews.items()}
    return Looked(np.concatenate(finals), joined, predictions, blind, looks, words, seconds)


def glance(bench: Bench, prompts: Sequence[str], seen: Images) -> list[Score]:
    """What the scorer sees in each preview."""
    scores: list[Score] = []
    for prompt, same in groupby(prompts):
        own = slice(len(scores), len(scores) + len(list(same)))
        scores += bench.score(prompt, seen[own])
    return scores


@contextmanager
def timed(spent: dict[str, float], part: str) -> Iterator[None]:
    """Add the seconds of a block to a part."""
    begun = time.perf_counter()
    yield
    spent[part] += time.perf_counter() - begun


def guess(
    bench: Bench, briefs: Sequence[Brief], seeds: int, looked: Looked, step: int
) -> dict[str, Method]:
    """Every way to guess the scores that looks at something, and the random one."""
    family, settings, spent = bench.family, bench.settings, looked.seconds
    steps, coarse = settings.steps, replace(settings, steps=step)
    rough = sample(bench, grid(briefs, seeds), label=f"{step} coarse steps", steps=step)
    spent["coarse"] = rough.seconds / len(rough.images)
    full = Cost(bench.nfe, spent["look"] + spent["finish"] + spent["score"])
    per_step = spent["finish"] / max(1, steps - step)
    judged = Cost(0, spent["decode"] + spent["score"])
    methods = {}
    if bench.probe:
        nfe, taken = family.nfe(settings, 0, step), spent["look"] + spent["predict"]
        rest = Cost(family.nfe(settings, step, steps), spent["finish"] + spent["score"])
        for name, found in (("probe", looked.predictions), (CNN_ALONE, looked.blind)):
            table = np.array([prediction.score for prediction in found])
            seen = Cost(nfe, taken + spent["decode"] * (found is looked.predictions))
            methods[name] = Method(table.reshape(len(briefs), seeds), seen, rest)
    for at, images in looked.previews.items():
        seen = Cost(family.nfe(settings, 0, at), spent["look"] + (at - step) * per_step) + judged
        rest = Cost(family.nfe(settings, at, steps), (steps - at) * per_step + spent["score"])
        graded = values(grade(bench.score, briefs, images))
        methods[f"x0 preview at step {at}"] = Method(graded, seen, rest)
    seen = Cost(family.nfe(coarse, 0, step), spent["coarse"] + spent["score"])
    graded = values(grade(bench.score, briefs, rough.images))
    methods[f"coarse render in {step} steps"] = Method(graded, seen, full)
    dice = np.random.default_rng(0).random(graded.shape)
    methods["random"] = Method(dice, Cost(0, 0), full)
    return methods


def validation(bench: Bench, prompts: int) -> tuple[list[Brief], list[list[Score]]]:
    """Validation scenes and how their pictures were scored; what needs fitting is fitted there."""
    known = held_out(prompts, "validation")
    drawn = sample(bench, grid(known, VALIDATION_SEEDS), label="validation")
    return known, grade(bench.score, known, drawn.images)


def prompt_only(
    known: Sequence[Brief], drawn: list[list[Score]], briefs: Sequence[Brief], free: Method
) -> Method:
    """A predictor that sees the prompt and nothing else."""
    predicted = fit_prompt_only(known, values(drawn))(briefs)
    table = np.repeat(predicted[:, None], free.guesses.shape[1], axis=1)
    return replace(free, guesses=table)


def blame(
    briefs: Sequence[Brief], judged: list[list[Score]], looked: Looked, guess: Prior
) -> dict[str, Any] | None:
    """Which words the probe, the judge's look at the preview and a prior expect to be missing;
    None where the judge judges no words."""
    if not any(score.words for row in judged for score in row):
        return None
    truth = verdicts(briefs, judged, looked.words)
    probe = [prediction.words for prediction in looked.predictions]
    preview = [
        [1.0 if verdict is None else verdict.chance for verdict in aligned(words, score.words)]
        for words, score in zip(looked.words, looked.seen, strict=True)
    ]
    ways = {"probe": probe, "judge's look at the preview": preview}
    doubts = [doubt(name, truth, judged, looked.words, of) for name, of in ways.items()]
    return diagnosis(truth, [*doubts, guess(truth)])


def report(
    name: str, methods: dict[str, Method], scores: Floats, threshold: float
) -> dict[str, Any]:
    """The figures of the method `name`, and those of all others as baselines."""
    full, best = methods["random"].finish, methods[name].guesses
    tables = {
        key: {
            "within": within(method.guesses, scores),
            "pooled": pooled(method.guesses, scores, threshold),
            "headroom": curve(method, scores, full),
        }
        for key, method in methods.items()
    }
    for key in tables.keys() - {name}:
        others = methods[key].guesses
        tables[key]["predictor_minus_this"] = pairwise(best, scores, others).json()
    oracle = pooled(leave_seed_out(scores), scores, threshold)
    return {
        **tables.pop(name),
        "baselines": {
            **tables,
            "prompt mean of the other seeds (oracle)": {"pooled": oracle},
            "naive best-of-n": {"headroom": naive_curve(scores, full)},
        },
        "mean_headroom": mean(scores.max(1) - scores.mean(1)).json(),
        "prompts_without_headroom": share((np.ptp(scores, axis=1) == 0).astype(float)).json(),
    }


def calibration(bench: Bench, predictions: Sequence[Any], scores: Floats) -> dict[str, Any] | None:
    """How often the probe's interval holds the score, together with its mean width."""
    if bench.probe is None:
        return None
    low, high = (
        np.array([getattr(p, end) for p in predictions]).reshape(scores.shape)
        for end in ("low", "high")
    )
    return {
        "nominal": bench.probe.card.coverage,
        "coverage": mean(((low <= scores) & (scores <= high)).mean(1)).json(),
        "mean_width": mean((high - low).mean(1)).json(),
    }
