"""What Sprites can draw: correctness by kind, spread over seeds, and how much phrasing matters.

Data: held-out scenes that training never saw; one-object scenes cannot be new, so only their seeds
are. Callable: the pipeline, which samples images now. Scorer: the sprites scorer, and then the
second judge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.sampling import corrects, grade, grid, sample, values
from promptprobe.evals.statistics import Floats, mean, over_all, share, spearman
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.sprites.evidence import brief_of, held_out, held_out_scenes, worded
from promptprobe.tools.sprites.language import Style
from promptprobe.tools.sprites.world import KINDS, Scene, Split

SD15_PREVIEW = {0.125: 0.32, 0.25: 0.66, 0.375: 0.83, 0.5: 0.90}
"""x0 preview against final score, pooled Spearman by share of the steps (arXiv 2607.21591)."""
WORDINGS: tuple[Style, ...] = ("plain", "casual", "ornate", "ornate")
PHRASED = 2
"""One scene in `PHRASED` is also drawn in all these wordings."""


def evaluate(bench: Bench, prompts: int, seeds: int, split: Split = "test") -> dict[str, Any]:
    """Measure, and return the report.

    Args:
        prompts: number of scenes, drawn in plain phrasing.
        seeds: seeds of each scene, at least 2.
        split: test, or validation to choose settings on.
    """
    briefs = held_out(prompts, split, "plain", one_object=True)
    steps = {part: max(1, round(part * bench.settings.steps)) for part in SD15_PREVIEW}
    drawn = sample(bench, grid(briefs, seeds), steps.values(), "scenes")
    scored = grade(bench.score, briefs, drawn.images)
    judged = grade(bench.judge, briefs, drawn.images)
    scores, right = values(scored), corrects(scored)
    previews = {step: values(grade(bench.score, briefs, x0)) for step, x0 in drawn.previews.items()}
    return {
        "eval": "model",
        "model": bench.name,
        "split": f"{split} scenes, plain phrasing; one object: fresh seeds only",
        "n_prompts": prompts,
        "n_seeds": seeds,
        "steps": bench.settings.steps,
        "guidance": bench.settings.guidance,
        "correct": by_kind(briefs, right),
        "second_judge": {
            "correct": by_kind(briefs, corrects(judged)),
            "agreement": share((right == corrects(judged)).mean(1)).json(),
        },
        "spread": spread(scores),
        "phrasing": phrasing(bench, prompts, seeds, split),
        "preview": preview(previews, scores, steps),
        "seconds_per_image": round(drawn.seconds / len(drawn.images), 3),
    }


def by_kind(briefs: list[Brief], right: Floats) -> dict[str, Any]:
    """Share of images with nothing missing, overall and by kind; `scenes` is the bootstrap's n."""
    kinds = np.array([brief.kind for brief in briefs])
    table: dict[str, Any] = {"all": share(right.mean(1)).json() | {"scenes": len(briefs)}}
    for kind in KINDS:
        if (rows := kinds == kind).any():
            table[kind] = share(right[rows].mean(1)).json() | {"scenes": int(rows.sum())}
    return table


def spread(scores: Floats) -> dict[str, Any]:
    """How much the seed matters: best of all seeds minus their mean, and how often they differ."""
    return {
        "mean": mean(scores.mean(1)).json(),
        f"best_of_{scores.shape[1]}_minus_mean": mean(scores.max(1) - scores.mean(1)).json(),
        "prompts_with_seeds_that_differ": share((np.ptp(scores, axis=1) > 0).astype(float)).json(),
    }


def phrasing(bench: Bench, prompts: int, seeds: int, split: Split) -> dict[str, Any]:
    """Best minus worst wording of a scene, chosen on one half of the seeds, measured on the other.

    Each half chooses once, and the two differences are averaged. All wordings get the same seeds.
    """
    scenes = held_out_scenes(max(2, prompts // PHRASED), split)
    briefs = [
        brief_of(scene, text, f"{split} phrasing") for scene in scenes for text in wordings(scene)
    ]
    drawn = sample(bench, grid(briefs, seeds), label="wordings")
    scores = values(grade(bench.score, briefs, drawn.images))
    table = scores.reshape(len(scenes), len(WORDINGS), seeds)
    return {
        "best_minus_worst": mean(chosen_difference(table)).json(),
        "mean_by_style": {
            style: mean(table[:, [w == style for w in WORDINGS]].mean((1, 2))).json()
            for style in dict.fromkeys(WORDINGS)
        },
        "scenes": len(scenes),
        "wordings": len(WORDINGS),
    }


def wordings(scene: Scene) -> list[str]:
    """Different texts for one scene, one of each style in WORDINGS."""
    found: list[str] = []
    for style in WORDINGS:
        texts = (worded(scene, index, style) for index in range(1000))
        found.append(next(text for text in texts if text not in found))
    return found


def chosen_difference(table: Floats) -> Floats:
    """[scene, wording, seed] -> [scene]: best minus worst, chosen and measured on other seeds."""
    halves = table[:, :, 0::2].mean(2), table[:, :, 1::2].mean(2)
    scene = np.arange(len(table))
    return sum(
        measure[scene, choose.argmax(1)] - measure[scene, choose.argmin(1)]
        for choose, measure in (halves, halves[::-1])
    ) / np.float64(2)


def preview(previews: dict[int, Floats], scores: Floats, steps: dict[float, int]) -> dict[str, Any]:
    """x0 preview against final score by step, next to Stable Diffusion 1.5's correlations."""
    return {
        f"{part:.1%}": {
            "step": step,
            "srcc": over_all(spearman, previews[step], scores).json(),
            "sd15": SD15_PREVIEW[part],
        }
        for part, step in steps.items()
    }
