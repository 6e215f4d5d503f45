"""The images of an eval, sampled in one pass, here and now; and what judges say of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench, Images, Judge
from promptprobe.evals.statistics import Floats
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.records import Score

BATCH = 16


@dataclass(frozen=True)
class Sampled:
    """Images of (prompt, seed) pairs, their x0 previews by step, and the seconds it all took."""

    images: Images
    previews: dict[int, Images]
    seconds: float


def sample(
    bench: Bench,
    pairs: Sequence[tuple[str, int]],
    preview_steps: Iterable[int] = (),
    label: str = "images",
    steps: int | None = None,
) -> Sampled:
    """Full renders of (prompt, seed) pairs; previews[s] is the x0 prediction after s steps.

    `steps` other than the model's own make a coarse path from the same noise.

    `seconds` covers encoding, denoising and decoding, the previews apart.
    """
    family, settings = bench.family, bench.settings
    settings = replace(settings, steps=steps) if steps else settings
    wanted = sorted(set(preview_steps))
    images: list[Images] = []
    previews: dict[int, list[Images]] = {step: [] for step in wanted}
    seconds = 0.0
    for chunk in in_batches(pairs, label):
        kept: dict[int, Any] = {}
        begun = time.perf_counter()
        conditioning = family.encode([prompt for prompt, _ in chunk], settings)
        state = family.draw_noise([seed for _, seed in chunk], settings)
        state = family.denoise(
            state, conditioning, settings, settings.steps, observe=keep_x0(wanted, kept)
        )
        images.append(family.decode(state.latents))
        seconds += time.perf_counter() - begun
        for step in wanted:
            previews[step].append(family.decode(kept[step]))
    joined = {step: np.concatenate(parts) for step, parts in previews.items()}
    return Sampled(np.concatenate(images), joined, seconds)


def keep_x0(steps: Sequence[int], into: dict[int, Any]) -> Callable[[int, Any, Any], None]:
    """An observer that keeps x0 after `steps` denoising steps (observers count steps from 0)."""

    def observe(step: int, x0: Any, gap: Any) -> None:
        if step + 1 in steps:
            into[step + 1] = x0

    return observe


def in_batches(items: Sequence[Any], label: str) -> Iterable[Sequence[Any]]:
    """Chunks of `BATCH`, with progress on stderr."""
    from tqdm import tqdm

    with tqdm(total=len(items), desc=label, unit="image") as progress:
        for start in range(0, len(items), BATCH):
            yield items[start : start + BATCH]
            progress.update(len(items[start : start + BATCH]))


def grid(briefs: Sequence[Brief], seeds: int) -> list[tuple[str, int]]:
    """Every brief with each of its seeds, seed fastest: reshape results to [prompt, seed]."""
    return [(brief.text, seed) for brief in briefs for seed in brief.seeds(seeds)]


def grade(judge: Judge, briefs: Sequence[Brief], images: Images) -> list[list[Score]]:
    """A judge's scores by brief: images are brief by brief, equally many of each."""
    return [
        judge(brief.text, chunk)
        for brief, chunk in zip(briefs, np.split(images, len(briefs)), strict=True)
    ]


def values(scores: list[list[Score]]) -> Floats:
    """[prompt, seed] values. An eval needs every image scored, so an unscored one is an error."""
    for score in (score for row in scores for score in row):
        if score.value is None:
            raise ValueError(f"an image was not scored: {score.reason}")
    return np.array([[score.value for score in row] for row in scores], float)


def right(score: Score, good: float | None = None) -> bool:
    """Whether an image is correct: scored `good` or better; None: the judge says itself."""
    if good is None:
        return bool(score.correct)
    return score.value is not None and score.value >= good


def corrects(scores: list[list[Score]], good: float | None = None) -> Floats:
    """[prompt, seed] of 1 where an image is correct, else 0; see `right`."""
    return np.array([[right(score, good) for score in row] for row in scores], float)


def tells(scores: list[list[Score]]) -> bool:
    """Whether a judge says itself of each image whether it is correct."""
    return all(score.correct is not None for row in scores for score in row)
