"""The simpler baselines, fitted on validation candidates of the same eval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from promptprobe.evals.baselines.baselines import Cost, Method
from promptprobe.evals.baselines.features import features, rollout_views, words
from promptprobe.evals.baselines.ridge import fit_ridge, out_of_fold
from promptprobe.evals.bench import Bench
from promptprobe.evals.fidelity.rollouts import Rollouts
from promptprobe.evals.fidelity.timing import Timing
from promptprobe.evals.statistics import Floats

TAIL = 0.05
"""Share of scores beyond each end of the prompt-only interval."""
ENOUGH = 40
"""Residuals that a kind of scene needs for quantiles of its own."""


def fit_baselines(
    known: Rollouts, test: Rollouts, bench: Bench, step: int, timing: Timing
) -> dict[str, Method]:
    """Fit each of `FEATURE_BASELINES` on `known` and guess the scores of `test`."""
    fitted, fresh = (_features(table, bench, step) for table in (known, test))
    free, full, rest = Cost(0, 0), timing.full(), timing.finish(step)
    steps = replace(timing, decode=0.0, score=0.0).preview(step)
    costs = {
        "prompt only": (free, full),
        "seed only": (free, full),
        "noise and prompt embedding": (free, full),
        "guidance gap, accumulated": (steps, rest),
        "attention entropy, deviation, maximum": (steps + Cost(0, timing.capture), rest),
        "latent statistics": (steps, rest),
        "x0 preview, calibrated": (timing.preview(step), rest),
    }
    found = {}
    for name, table in fitted.items():
        guesses = fit_ridge(table, known.scores.ravel(), known.groups)(fresh[name])
        found[name] = Method(test.shaped(guesses), *costs[name])
    return found


def prompt_only_interval(known: Rollouts, test: Rollouts, bench: Bench) -> tuple[Floats, Floats]:
    """Lower and upper ends, [prompt, seed], of a 90% interval that depends only on the prompt: the
    guess plus quantiles of held-out errors, of the same kind of scene if there are enough.
    """
    x, fresh = (words([bench.names(row) for row in table.examples.rows]) for table in (known, test))
    y = known.scores.ravel()
    errors = y - out_of_fold(x, y, known.groups)
    guesses = fit_ridge(x, y, known.groups)(fresh)
    kinds = np.array([row.kind for row in known.examples.rows])
    ends = np.empty((2, len(guesses)))
    for at, row in enumerate(test.examples.rows):
        same = errors[kinds == row.kind]
        ends[:, at] = np.quantile(same if len(same) >= ENOUGH else errors, (TAIL, 1 - TAIL))
    low, high = np.clip(guesses + ends, y.min(), y.max())
    return test.shaped(low), test.shaped(high)


def _features(table: Rollouts, bench: Bench, step: int) -> dict[str, Floats]:
    def noise(seeds: list[int]) -> Any:
        return bench.family.draw_noise(seeds, bench.settings).latents.float().cpu()

    place = list(table.views).index(step)
    return features(rollout_views(table.examples, place, noise, bench.names))
