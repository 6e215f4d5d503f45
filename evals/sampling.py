"""The images of an eval, sampled in one pass, and the judges' scores of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from promptprobe.evals.bench import Bench, Images, Judge
from promptprobe.evals.statistics import Floats
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.records import Score

if TYPE_CHECKING:
    from promptprobe.tools.collect.rollout import Pair, Rollout


def sample(
    bench: Bench,
    pairs: Sequence[Pair],
    windows: Iterable[int] = (),
    label: str = "images",
    *,
    steps: int | None = None,
    known: Mapping[Pair, np.ndarray] | None = None,
) -> Rollout:
    """`tools.collect.rollout.roll_out` on this bench's model.

    Args:
        steps: number of steps other than the model's own, for a coarse render of the same noise.
    """
    from promptprobe.tools.collect.rollout import roll_out

    settings = replace(bench.settings, steps=steps or bench.settings.steps)
    return roll_out(bench.family, settings, pairs, windows, known=known, label=label)


def grid(briefs: Sequence[Brief], seeds: int) -> list[Pair]:
    """Every brief with each of its seeds, seeds innermost: reshape results to [prompt, seed]."""
    return [(brief.text, seed) for brief in briefs for seed in brief.seeds(seeds)]


class Once:
    """A judge with a cache: it scores each image of a brief only once."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.cache: dict[tuple[str, bytes], Score] = {}
        """Scores by brief and hash of the image."""

    def __call__(self, brief: str, images: Images) -> list[Score]:
        keys = [(brief, sha256(image.tobytes()).digest()) for image in images]
        fresh = {key: at for at, key in enumerate(keys) if key not in self.cache}
        if fresh:
            scores = self._judge(brief, images[list(fresh.values())])
            self.cache.update(zip(fresh, scores, strict=True))
        return [self.cache[key] for key in keys]


def grade(judge: Judge, briefs: Sequence[Brief], images: Images) -> list[list[Score]]:
    """A judge's scores by brief; images are ordered by brief, with equally many of each."""
    return [
        judge(brief.text, chunk)
        for brief, chunk in zip(briefs, np.split(images, len(briefs)), strict=True)
    ]


def values(scores: list[list[Score]]) -> Floats:
    """[prompt, seed] values. ValueError: an image was not scored."""
    for score in (score for row in scores for score in row):
        if score.value is None:
            raise ValueError(f"an image was not scored: {score.reason}")
    return with_gaps(scores)


def with_gaps(scores: list[list[Score]]) -> Floats:
    """[prompt, seed] values; nan for an image that was not scored."""
    numbers = ([np.nan if score.value is None else score.value for score in row] for row in scores)
    return np.array(list(numbers), float)


def right(score: Score, good: float | None = None) -> bool:
    """Whether an image is correct: scored `good` or better; None means the judge's own verdict."""
    if good is None:
        return bool(score.correct)
    return score.value is not None and score.value >= good


def corrects(scores: list[list[Score]], good: float | None = None) -> Floats:
    """[prompt, seed]: 1 if an image is correct, otherwise 0; see `right`."""
    return np.array([[right(score, good) for score in row] for row in scores], float)


def tells(scores: list[list[Score]]) -> bool:
    """Whether a judge gives its own verdict on every image."""
    return all(score.correct is not None for row in scores for score in row)
