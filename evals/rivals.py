"""The ways to guess a score that stand beside the probe in every table, and what each costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptprobe.evals.sampling import Brief
from promptprobe.evals.statistics import Floats, best_of_kept, best_of_n, headroom
from promptprobe.tools.sprites.language import tokens

RIDGE = 4.0


@dataclass(frozen=True)
class Cost:
    """Of one prompt with all its seeds."""

    nfe: float
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nfe + other.nfe, self.seconds + other.seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.nfe * times, self.seconds * times)


@dataclass(frozen=True)
class Method:
    """Guesses of scores, [prompt, seed], and what they cost an image."""

    guesses: Floats
    look: Cost
    """Of guessing one candidate."""
    finish: Cost
    """Of finishing and scoring one candidate after that."""

    def cost(self, keep: int) -> Cost:
        """Look at every seed of a prompt, finish the kept ones."""
        return self.look * self.guesses.shape[1] + self.finish * keep


def curve(method: Method, scores: Floats, full: Cost) -> list[dict[str, Any]]:
    """Headroom recovered by finishing the best guesses, up to the cost of finishing everything.

    Each point stands beside naive best-of-n at the same NFE and at the same seconds, with the
    paired difference. `full` is the cost of one full render with its score.
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


def naive(scores: Floats, renders: float) -> Floats:
    """Expected best of so many full renders, [prompt]; between one and all seeds of the table."""
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
    """For each image the mean score of the prompt's other seeds: an oracle of prompt difficulty."""
    return (scores.sum(1, keepdims=True) - scores) / (scores.shape[1] - 1)


@dataclass(frozen=True)
class PromptOnly:
    """Ridge regression from the words of a prompt and its kind to a score: it sees no image."""

    names: tuple[str, ...]
    weights: Floats
    centre: Floats
    mean: float

    def __call__(self, briefs: Sequence[Brief]) -> Floats:
        """Predicted mean score of each brief, [prompt]."""
        return (design(briefs, self.names) - self.centre) @ self.weights + self.mean


def fit_prompt_only(briefs: Sequence[Brief], scores: Floats) -> PromptOnly:
    """Fit on the prompts' mean scores, [prompt, seed] in."""
    names = tuple(sorted({name for brief in briefs for name in features(brief)}))
    x, y = design(briefs, names), scores.mean(1)
    centre = x.mean(0)
    x = x - centre
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(len(names)), x.T @ (y - y.mean()))
    return PromptOnly(names, weights, centre, float(y.mean()))


def features(brief: Brief) -> Iterable[str]:
    """The kind, every word, and what the word means."""
    yield f"kind {brief.scene.kind}"
    for phrase, (role, value) in tokens(brief.text):
        yield phrase
        yield f"{role} {value}"


def design(briefs: Sequence[Brief], names: tuple[str, ...]) -> Floats:
    """1 where a brief has a feature, [prompt, feature]."""
    column = {name: at for at, name in enumerate(names)}
    table = np.zeros((len(briefs), len(names)))
    for row, brief in enumerate(briefs):
        table[row, [column[name] for name in features(brief) if name in column]] = 1
    return table
