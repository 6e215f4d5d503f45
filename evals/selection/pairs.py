"""What a probe is worth for making training pictures: good ones, and pairs that differ in score.

`promptprobe pairs` finishes the seeds of a prompt that are predicted to be best and worst. They are
compared with random renders of the same cost.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np

from promptprobe.evals.baselines.baselines import Cost, Method, affordable
from promptprobe.evals.statistics import Floats, mean, ratio


def pairs(method: Method, scores: Floats, full: Cost, threshold: float) -> dict[str, Any]:
    """Shares of good pictures and of pairs whose scores differ, with and without the method."""
    good = (scores >= threshold).astype(float)
    keep = max(1, affordable(method, full))
    order = np.argsort(-method.guesses, axis=1, kind="stable")
    kept = np.take_along_axis(good, order[:, :keep], 1).mean(1)
    ends = np.take_along_axis(scores, order[:, [0, -1]], 1)
    cost = method.cost(2).nfe
    renders = min(max(2.0, cost / full.nfe), float(scores.shape[1]))
    differ = (ends[:, 0] != ends[:, 1]).astype(float)
    return {
        "good": {
            "kept_a_prompt": keep,
            "with": mean(kept).json(),
            "without": mean(good.mean(1)).json(),
            "times": ratio(kept, good.mean(1)).json(),
        },
        "pairs_that_differ": {
            "nfe": cost,
            "renders_at_equal_nfe": round(renders, 2),
            "with": mean(differ).json(),
            "without": mean(_differ(scores, renders)).json(),
            "with_minus_without": mean(differ - _differ(scores, renders)).json(),
            "in_the_right_order": ratio((ends[:, 0] > ends[:, 1]).astype(float), differ).json(),
        },
    }


def _differ(scores: Floats, renders: float) -> Floats:
    """Chance that `renders` random seeds of a prompt do not all have the same score, [prompt]."""
    seeds, whole = scores.shape[1], int(renders)
    if whole != renders:
        low, high = _differ(scores, whole), _differ(scores, whole + 1)
        return low + (renders - whole) * (high - low)
    counts = [np.unique(row, return_counts=True)[1] for row in scores]
    alike = [sum(comb(int(n), whole) for n in of_row) / comb(seeds, whole) for of_row in counts]
    return 1 - np.array(alike)
