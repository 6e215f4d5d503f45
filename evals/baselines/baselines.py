"""Baselines that the probe is compared with in every table, and what each one costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptprobe.evals.statistics import Floats, best_of_kept, best_of_n, headroom

BUDGET = 0.35
"""Budget at which rules and baselines are compared, as a share of the cost of all full renders."""


@dataclass(frozen=True)
class Cost:
    """Cost of one prompt with all its seeds."""

    nfe: float
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nfe + other.nfe, self.seconds + other.seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.nfe * times, self.seconds * times)


@dataclass(frozen=True)
class Method:
    """Guesses of scores, [prompt, seed], and their cost for each image."""

    guesses: Floats
    look: Cost
    """Cost of guessing one candidate."""
    finish: Cost
    """Cost of finishing and scoring one candidate after that."""
    trained: bool = False
    """Whether the method is a network trained for this table."""

    def cost(self, keep: int) -> Cost:
        """Cost of guessing all seeds of a prompt and finishing the kept ones."""
        return self.look * self.guesses.shape[1] + self.finish * keep


def curve(method: Method, scores: Floats, full: Cost) -> list[dict[str, Any]]:
    """Headroom recovered by finishing the best guesses, up to the cost of finishing everything.

    Each point also has naive best-of-n at the same NFE and the same seconds, and the paired
    differences. `full` is the cost of one full render with its score.
    """
    points: list[dict[str, Any]] = []
    for keep in range(1, scores.shape[1] + 1):
        cost = method.cost(keep)
        if cost.nfe > full.nfe * scores.shape[1]:
            break
        chosen = best_of_kept(method.guesses, scores, keep)
        same_nfe = naive(scores, cost.nfe / full.nfe)
        same_seconds = naive(scores, cost.seconds / full.seconds)
        points.append(
            {
                "keep": keep,
                "nfe": cost.nfe,
                "seconds": round(cost.seconds, 3),
                "recovered": headroom(chosen, scores).json(),
                "naive_at_equal_nfe": headroom(same_nfe, scores).json(),
                "minus_naive_at_equal_nfe": headroom(chosen, scores, same_nfe).json(),
                "naive_at_equal_seconds": headroom(same_seconds, scores).json(),
                "minus_naive_at_equal_seconds": headroom(chosen, scores, same_seconds).json(),
            }
        )
    return points


def affordable(method: Method, full: Cost) -> int:
    """How many of a prompt's seeds the budget can finish after guessing all of them; may be 0."""
    seeds = method.guesses.shape[1]
    return max(
        (n for n in range(1, seeds + 1) if method.cost(n).nfe <= BUDGET * full.nfe * seeds),
        default=0,
    )


def choice(method: Method, scores: Floats, full: Cost) -> Floats:
    """Best score that a method finishes within `BUDGET`, [prompt]; it finishes at least one."""
    return best_of_kept(method.guesses, scores, max(1, affordable(method, full)))


def at_budget(
    method: Method,
    scores: Floats,
    full: Cost,
    predictor: Floats | None = None,
    rule: Floats | None = None,
) -> dict[str, Any] | None:
    """The share of headroom that a method recovers within `BUDGET`, compared with naive best-of-n
    at the same cost and with the choices of the predictor and of its rule, [prompt]; None if it
    costs more than `BUDGET`."""
    keep = affordable(method, full)
    if keep == 0:
        return None
    chosen = choice(method, scores, full)
    point = {"keep": keep, **worth(chosen, scores, method.cost(keep), full)}
    for name, better in (("predictor", predictor), ("rule", rule)):
        if better is not None:
            point[f"{name}_minus_this"] = headroom(better, scores, chosen).json()
    return point


def worth(chosen: Floats, scores: Floats, cost: Cost, full: Cost) -> dict[str, Any]:
    """The share of headroom that choices, [prompt], recover, compared with naive best-of-n at equal
    NFE and equal seconds."""
    seeds = scores.shape[1]
    renders = {"nfe": cost.nfe / full.nfe, "seconds": cost.seconds / full.seconds}
    return {
        **{f"share_of_{unit}": round(number / seeds, 4) for unit, number in renders.items()},
        "recovered": headroom(chosen, scores).json(),
        **{
            f"minus_naive_at_equal_{unit}": headroom(chosen, scores, naive(scores, number)).json()
            for unit, number in renders.items()
        },
    }


def naive(scores: Floats, renders: float) -> Floats:
    """Expected best of `renders` full renders, [prompt]; clamped to the seeds of the table."""
    return best_of_n(scores, min(max(renders, 1.0), float(scores.shape[1])))


def naive_curve(scores: Floats, full: Cost) -> list[dict[str, Any]]:
    """Naive best-of-n full renders, n from one to all seeds."""
    return [
        {
            "n": n,
            "nfe": full.nfe * n,
            "seconds": round(full.seconds * n, 3),
            "recovered": headroom(naive(scores, n), scores).json(),
        }
        for n in range(1, scores.shape[1] + 1)
    ]


def leave_seed_out(scores: Floats) -> Floats:
    """Mean score of the prompt's other seeds, for each image: an oracle of prompt difficulty."""
    return (scores.sum(1, keepdims=True) - scores) / (scores.shape[1] - 1)
