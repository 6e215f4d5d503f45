"""What a user gains: prompt gain, seed gain and returned image, over many held-out briefs.

Data: held-out prompts. Callable: `Session.optimize` without an LLM, at a given budget. Scorer: the
second judge, which selected nothing. The baselines are the brief alone and naive renders of the
brief at the same mean NFE, or seconds: best of n, and the best so far until the scorer finds one
correct, because the loop stops there too. For equal seconds, the former are timed in batches and
the latter one by one.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from promptprobe.agent.ledger import Ledger
from promptprobe.evals.bench import Bench, Images
from promptprobe.evals.briefs import Sample
from promptprobe.evals.gain.attribution import attribute
from promptprobe.evals.gain.correctness import Good, good_of
from promptprobe.evals.gain.pictures import BriefResult, Graded, draw, without_gaps
from promptprobe.evals.sampling import Once, corrects, grid, right, sample, values
from promptprobe.evals.statistics import Floats, best_of_n, best_until_right, mean, share
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Budget, Score

COSTS = ("nfe", "seconds")
ONE_BY_ONE = "seconds, one by one"
"""Seconds of renders drawn one at a time, each scored at once, to stop at a correct one."""
TIMED = 12
"""Renders that are drawn one by one to time them."""
LARGEST = 32
"""Maximum number of renders of naive best-of-n."""
NO_REWRITER = "no rewriter without an LLM: runs search seeds, and pools of rewrites are left out"
NO_NOISE = "nobody draws these prompts faultlessly: the judge's repeat noise counts as 0"
POLICIES = ("naive", "until-good", "planned")
"""Groups of rows in a report: naive best-of-n, naive renders until one is correct, and the run."""

Optimize = Callable[[str, int, Path], Any]
"""Maps a brief, a seed and a folder for runs to an OptimizationResult."""


def evaluate(
    bench: Bench,
    sampled: Sample,
    seeds: int,
    budget: str | float | Budget = "light",
    policies: Sequence[str] = POLICIES,
    *,
    shards: Path | None = None,
    optimize: Optimize | None = None,
) -> dict[str, Any]:
    """Measure on the test briefs, and return the report.

    Args:
        seeds: number of new seeds on which returned prompt and brief are compared; no run saw them.
        budget: budget of each run.
        policies: rows to show, of `POLICIES`.
        shards: a collection of the same model; a score above its median counts as good.
        optimize: runs one brief; by default `in_session`.
    """
    score = Once(bench.score)
    judge = score if bench.grader == bench.scorer else Once(bench.judge)
    asked = replace(bench, score=score, judge=judge)
    rows = list(run(asked, sampled.test, optimize or in_session(bench, budget)))
    most = max(seeds, min(LARGEST, math.ceil(max(row.nfe for row in rows) / bench.nfe())))
    drawn = draw(asked, rows, seeds, most)
    graded, left_out = without_gaps(drawn.graded, (score, judge))
    briefs = [row.brief for row in graded.rows]
    renders = worth(bench, graded, drawn.seconds)
    good = good_of(bench, graded.selector, graded.alone, shards)
    noise = repeat_noise(asked, briefs, good.judge)
    attribution, unscored = attribute(asked, briefs, seeds, good.judge, drawn.images)
    return {
        **setting(bench, sampled, budget),
        **spent(graded, renders, good),
        "score": gains(graded, lambda scores, _: values(scores), renders, good, policies),
        "correct": gains(graded, corrects, renders, good, policies),
        "against_first_image": before_and_after(graded.rows, noise, good.judge),
        "attribution": attribution,
        "notes": [
            *bench.notes,
            *sampled.notes,
            *left_out,
            *unscored,
            *([] if bench.own else [NO_REWRITER]),
            *([] if noise is not None else [NO_NOISE]),
            *too_few_renders(renders, len(graded.alone[0])),
        ],
    }


def worth(bench: Bench, graded: Graded, seconds: float) -> dict[str, float]:
    """How many renders the mean cost of a run buys, by unit of cost.

    seconds: time of one render in a batch.
    """
    nfe, taken = (fmean(getattr(row, of) for row in graded.rows) for of in COSTS)
    alone = seconds_one_by_one(bench, [row.brief for row in graded.rows])
    return {"nfe": nfe / bench.nfe(), "seconds": taken / seconds, ONE_BY_ONE: taken / alone}


def spent(graded: Graded, renders: Mapping[str, float], good: Good) -> dict[str, Any]:
    """The size of the eval, and what the runs cost."""
    rows = graded.rows
    costs = {of: np.array([getattr(row, of) for row in rows], float) for of in COSTS}
    changed = np.array([row.prompt != row.brief.text for row in rows], float)
    return {
        "positives": good.text,
        "n_prompts": len(rows),
        "n_seeds": len(graded.better[0]),
        "spent": {of: mean(cost).json() for of, cost in costs.items()},
        "share_outside_tools": round(sum(row.outside for row in rows) / costs["seconds"].sum(), 4),
        "renders_at_equal": {unit: round(number, 2) for unit, number in renders.items()},
        "most_naive_renders": len(graded.alone[0]),
        "stop_reasons": dict(Counter(row.stop_reason for row in rows)),
        "prompt_changed": share(changed).json(),
    }


def too_few_renders(renders: Mapping[str, float], most: int) -> list[str]:
    """A note on each naive baseline that would need more images than were drawn.

    renders: how many the mean cost of a run buys, by unit of cost.
    """
    return [
        f"naive baselines at equal {unit} have only {most} of the {number:.1f} renders that a run "
        f"would pay for: give --seeds {math.ceil(number)}"
        for unit, number in renders.items()
        if number > most
    ]


def known_policies(names: Sequence[str]) -> tuple[str, ...]:
    """The names without duplicates. ValueError: one is not in `POLICIES`."""
    if unknown := [name for name in names if name not in POLICIES]:
        raise ValueError(
            f"--policy: expected {', '.join(POLICIES)}; got {unknown[0]!r:.100}"
            f"{did_you_mean(unknown[0], POLICIES)}"
        )
    return tuple(dict.fromkeys(names))


def setting(bench: Bench, sampled: Sample, budget: str | float | Budget) -> dict[str, Any]:
    """The settings of the eval."""
    return {
        "eval": "gain",
        "model": bench.name,
        "split": sampled.title,
        "probe": bench.probe_name,
        "budget": budget if isinstance(budget, str | float) else budget.model_dump(),
        "proposer": bench.own.rewriter if bench.own else "none: seeds only",
        "scorer": bench.scorer,
        "final_judge": bench.grader,
    }


def in_session(bench: Bench, budget: str | float | Budget) -> Optimize:
    """Optimize as a user without an LLM would; the model is opened once.

    A run stops at the score that the caller calls good, as do the naive renders until one is good.
    """
    from promptprobe.agent.doors.session import Session

    session = Session(**bench.asked)
    return lambda brief, seed, out: session.optimize(
        brief, budget=budget, target=bench.good, seed=seed, out=out
    )


def run(bench: Bench, briefs: Sequence[Brief], optimize: Optimize) -> Iterator[BriefResult]:
    """Optimize every brief; its run folder is deleted once its two pictures are judged."""
    from tqdm import tqdm

    for brief in tqdm(briefs, desc="optimized", unit="brief"):
        with tempfile.TemporaryDirectory() as folder:
            result = optimize(brief.text, brief.run_seed, Path(folder))
            pictures = np.stack([pixels(result.initial.image), pixels(result.best.image)])
            in_tools = sum(line.seconds for line in Ledger(result.run_dir).stages())
        before, after = bench.judge(brief.text, pictures)
        prompt, spent = result.best.candidate.prompt, result.spent
        selected = (result.initial.value, result.best.value)
        yield BriefResult(
            brief, prompt, before, after, selected, result.stop_reason, spent.nfe, spent.seconds,
            outside=spent.seconds - in_tools,
        )  # fmt: skip


def pixels(image: Path) -> Images:
    """A picture file as uint8 [height, width, 3]."""
    from PIL import Image

    with Image.open(image) as picture:
        return np.asarray(picture.convert("RGB"))


def seconds_one_by_one(bench: Bench, briefs: Sequence[Brief]) -> float:
    """Median seconds of a render that is scored before the next one begins."""
    taken = []
    for brief in briefs[:TIMED]:
        found = sample(bench, grid([brief], 1), label="one by one")
        began = time.monotonic()
        bench.score(brief.text, found.images)
        taken.append(found.seconds + time.monotonic() - began)
    return median(taken)


def gains(
    graded: Graded,
    read: Callable[[list[list[Score]], float | None], Floats],
    renders: dict[str, float],
    good: Good,
    policies: Sequence[str] = POLICIES,
) -> dict[str, Any]:
    """Mean levels under the final judge, and their differences, paired by brief.

    Args:
        graded: every picture.
        read: extracts what is compared: the score, or whether it is correct given a threshold.
        renders: how many renders the mean cost of a run buys, by unit of cost.
        policies: rows to include among the levels.
    """
    alone = read(graded.alone, good.judge)
    again, brief = (read(table, good.judge).mean(1) for table in (graded.better, graded.brief))
    first, returned = read([[row.before, row.after] for row in graded.rows], good.judge).T
    baselines = naive(graded, alone, renders, good.selector, policies)
    planned = {
        "first image": first,
        "best prompt, fresh seeds": again,
        "returned image": returned,
    }
    shown = planned if "planned" in policies else {}
    levels = {"brief alone": brief, **shown, **baselines}
    return {
        "levels": {name: mean(level).json() for name, level in levels.items()},
        "prompt_gain": mean(again - brief).json(),
        "seed_gain": mean(returned - again).json(),
        "returned_gain": mean(returned - brief).json(),
        "returned_minus": {
            name: mean(returned - level).json() for name, level in baselines.items()
        },
    }


def naive(
    graded: Graded,
    alone: Floats,
    renders: dict[str, float],
    good: float | None,
    policies: Sequence[str],
) -> dict[str, Floats]:
    """The expected result of each naive baseline for each brief, chosen by the scorer.

    The number of renders is limited by the new seeds; `most_naive_renders` in the report has it.
    """
    chosen_by, correct = values(graded.selector), corrects(graded.selector, good)
    found = {}
    for unit, number in renders.items():
        n = min(max(number, 1.0), alone.shape[1])
        if "naive" in policies and unit != ONE_BY_ONE:
            found[f"best-of-n at equal {unit}"] = best_of_n(chosen_by, n, alone)
        if "until-good" in policies and unit != "seconds":
            until, _ = best_until_right(chosen_by, correct, n, alone)
            found[f"until correct, at equal {unit}"] = until
    return found


def repeat_noise(bench: Bench, briefs: Sequence[Brief], good: float | None = None) -> float | None:
    """95th percentile of the judge's differences between two equally correct faultless pictures;
    None if such pictures cannot be drawn."""
    gaps = [0.0]
    for brief in briefs:
        if brief.draw is None:
            return None
        clean = [brief.draw(at) for at in (0, 1)]
        first, second = bench.judge(brief.text, np.stack(clean))
        alike = right(first, good) == right(second, good)
        if alike and None not in (first.value, second.value):
            gaps.append(abs((first.value or 0) - (second.value or 0)))
    return float(np.percentile(gaps, 95))


def before_and_after(
    rows: Sequence[BriefResult], noise: float | None, good: float | None = None
) -> dict[str, Any]:
    """Shares of briefs whose returned image is worse than, better than or tied with the first one,
    and the worse ones with their scores.

    Worse means correct -> incorrect, or a drop beyond the judge's repeat noise; better is the
    reverse.
    """

    def worse(old: Score, new: Score) -> bool:
        lost = right(old, good) and not right(new, good)
        assert old.value is not None and new.value is not None, "unscored images were left out"
        return lost or old.value - new.value > (noise or 0)

    drops = np.array([worse(row.before, row.after) for row in rows], float)
    rises = np.array([worse(row.after, row.before) for row in rows], float)
    return {
        "worse": share(drops).json(),
        "better": share(rises).json(),
        "tied": share((1 - drops) * (1 - rises)).json(),
        "repeat_noise": noise,
        "worse_briefs": [
            {
                "brief": row.brief.text,
                "scorer_first": row.selected[0],
                "scorer_returned": row.selected[1],
                "judge_first": row.before.value,
                "judge_returned": row.after.value,
            }
            for row, dropped in zip(rows, drops, strict=True)
            if dropped
        ],
    }
