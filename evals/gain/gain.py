"""What a user gets: prompt gain, seed gain and returned image, over many held-out briefs.

Data: test scenes in wordings of natural frequency. Callable: `optimize_prompt` at budget light
with the offline proposer. Scorer: the second judge, which selected nothing. The baselines are the
brief alone and naive renders of the brief at the same mean NFE, or seconds: best of n, and best
so far until the scorer finds one correct, since the loop too stops there.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench, Images
from promptprobe.evals.gain.attribution import attribute
from promptprobe.evals.sampling import (
    Brief,
    corrects,
    grade,
    grid,
    held_out,
    sample,
    values,
)
from promptprobe.evals.statistics import Floats, best_of_n, best_until_right, mean, share
from promptprobe.tools.records import Score
from promptprobe.tools.sprites.draw import draw
from promptprobe.tools.sprites.world import scene_seed

COSTS = ("nfe", "seconds")
LARGEST = 16
"""Most renders of naive best-of-n."""

Optimize = Callable[[str, int, Path], Any]
"""Brief, seed and a folder for runs, to an OptimizationResult."""


@dataclass(frozen=True)
class BriefResult:
    """One optimized brief; the scores are the second judge's."""

    brief: Brief
    prompt: str
    before: Score
    """Score of the brief with the run's first seed."""
    after: Score
    """Score of the returned image."""
    stop_reason: str
    nfe: int
    seconds: float


def evaluate(
    bench: Bench, prompts: int, seeds: int, optimize: Optimize | None = None
) -> dict[str, Any]:
    """The whole report on `prompts` test briefs.

    Args:
        seeds: fresh ones on which the returned prompt meets the brief; no run has seen them.
        optimize: `offline`, unless given.
    """
    rows = list(run(bench, held_out(prompts, "test"), optimize or offline(bench.name)))
    briefs = [row.brief for row in rows]
    nfe, seconds = (np.array([getattr(row, of) for row in rows], float) for of in COSTS)
    most = max(seeds, min(LARGEST, math.ceil(nfe.max() / bench.nfe())))
    alone = sample(bench, grid(briefs, most), label="the brief alone")
    again = [(row.prompt, seed) for row in rows for seed in row.brief.seeds(seeds)]
    better = sample(bench, again, label="the best prompt")
    each = alone.seconds / len(alone.images)
    renders = {"nfe": nfe.mean() / bench.nfe(), "seconds": seconds.mean() / each}
    pictures = Graded(
        alone=grade(bench.judge, briefs, alone.images),
        better=grade(bench.judge, briefs, better.images),
        before=[[row.before] for row in rows],
        after=[[row.after] for row in rows],
        selector=grade(bench.score, briefs, alone.images),
    )
    return {
        "eval": "gain",
        "model": bench.name,
        "split": "test scenes, natural wordings",
        "budget": "light",
        "proposer": "offline lexicon and grammar: no LLM",
        "final_judge": "colour segmentation and mask matching; the detector selected",
        "n_prompts": prompts,
        "n_seeds": seeds,
        "spent": {"nfe": mean(nfe).json(), "seconds": mean(seconds).json()},
        "renders_at_equal": {unit: round(number, 2) for unit, number in renders.items()},
        "most_naive_renders": most,
        "stop_reasons": dict(Counter(row.stop_reason for row in rows)),
        "prompt_changed": share(
            np.array([row.prompt != row.brief.text for row in rows], float)
        ).json(),
        "score": gains(pictures, values, renders),
        "correct": gains(pictures, corrects, renders),
        "against_first_image": before_and_after(rows, repeat_noise(bench, briefs)),
        "attribution": attribute(bench, briefs, seeds),
    }


def offline(model: str) -> Optimize:
    """The main job as a user without an LLM runs it."""
    from promptprobe.agent.optimize import optimize_prompt

    return lambda brief, seed, out: optimize_prompt(
        brief, model=model, budget="light", seed=seed, out=out
    )


def run(bench: Bench, briefs: Sequence[Brief], optimize: Optimize) -> Iterator[BriefResult]:
    """Optimize every brief; its run folder is gone once its two pictures are judged."""
    from tqdm import tqdm

    for brief in tqdm(briefs, desc="optimized", unit="brief"):
        with tempfile.TemporaryDirectory() as folder:
            result = optimize(brief.text, scene_seed("eval run", brief.scene, 0), Path(folder))
            pictures = np.stack([pixels(result.initial.image), pixels(result.best.image)])
        before, after = bench.judge(brief.text, pictures)
        prompt, spent = result.best.candidate.prompt, result.spent
        yield BriefResult(
            brief, prompt, before, after, result.stop_reason, spent.nfe, spent.seconds
        )


def pixels(image: Path) -> Images:
    """A picture file as uint8 [height, width, 3]."""
    from PIL import Image

    with Image.open(image) as picture:
        return np.asarray(picture.convert("RGB"))


@dataclass(frozen=True)
class Graded:
    """What the final judge says of every picture, [prompt][seed], in one place."""

    alone: list[list[Score]]
    """The brief on fresh seeds."""
    better: list[list[Score]]
    """The returned prompt on the first of these seeds."""
    before: list[list[Score]]
    """The brief with the run's first seed."""
    after: list[list[Score]]
    """The returned image."""
    selector: list[list[Score]]
    """The scorer's view of `alone`, by which the naive baselines choose and stop."""


def gains(
    graded: Graded, read: Callable[[list[list[Score]]], Floats], renders: dict[str, float]
) -> dict[str, Any]:
    """Levels under the final judge, and their paired differences brief by brief.

    Args:
        graded: every picture.
        read: what is compared, the score or whether it is correct.
        renders: how many renders the mean cost of a run buys, by unit of cost.
    """
    alone, better = read(graded.alone), read(graded.better)
    again = better.mean(1)
    brief = alone[:, : better.shape[1]].mean(1)  # on the very seeds that the prompt got
    returned = read(graded.after)[:, 0]
    baselines = naive(graded, alone, renders)
    levels = {
        "brief alone": brief,
        "first image": read(graded.before)[:, 0],
        "best prompt, fresh seeds": again,
        "returned image": returned,
        **baselines,
    }
    return {
        "levels": {name: mean(level).json() for name, level in levels.items()},
        "prompt_gain": mean(again - brief).json(),
        "seed_gain": mean(returned - again).json(),
        "returned_gain": mean(returned - brief).json(),
        "returned_minus": {
            name: mean(returned - level).json() for name, level in baselines.items()
        },
    }


def naive(graded: Graded, alone: Floats, renders: dict[str, float]) -> dict[str, Floats]:
    """The naive baselines' expected result for each brief, by name: chosen by the scorer.

    They have as many renders as the fresh seeds allow; `most_naive_renders` says how many.
    """
    chosen_by, right = values(graded.selector), corrects(graded.selector)
    found = {}
    for unit, number in renders.items():
        n = min(max(number, 1.0), alone.shape[1])
        found[f"best-of-n at equal {unit}"] = best_of_n(chosen_by, n, alone)
        until, _ = best_until_right(chosen_by, right, n, alone)
        found[f"until correct, at equal {unit}"] = until
    return found


def repeat_noise(bench: Bench, briefs: Sequence[Brief]) -> float:
    """95th percentile of the judge's differences between two equally correct clean renders."""
    gaps = [0.0]
    for brief in briefs:
        clean = [draw(brief.scene, scene_seed("eval clean", brief.scene, at))[0] for at in (0, 1)]
        first, second = bench.judge(brief.text, np.stack(clean))
        if first.correct == second.correct and None not in (first.value, second.value):
            gaps.append(abs((first.value or 0) - (second.value or 0)))
    return float(np.percentile(gaps, 95))


def before_and_after(rows: Sequence[BriefResult], noise: float) -> dict[str, Any]:
    """Shares of briefs whose returned image is worse, better or tied with the first one.

    Worse is correct -> incorrect, or a drop beyond the judge's repeat noise; better mirrors it.
    """

    def worse(old: Score, new: Score) -> bool:
        lost = bool(old.correct) and not new.correct
        return lost or (old.value or 0) - (new.value or 0) > noise

    drops = np.array([worse(row.before, row.after) for row in rows], float)
    rises = np.array([worse(row.after, row.before) for row in rows], float)
    return {
        "worse": share(drops).json(),
        "better": share(rises).json(),
        "tied": share((1 - drops) * (1 - rises)).json(),
        "repeat_noise": noise,
    }
