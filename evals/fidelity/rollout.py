"""One pass over candidates: looked at after some numbers of steps, then finished from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from promptprobe.evals.bench import Bench, Images
from promptprobe.evals.sampling import in_batches
from promptprobe.tools.records import Score

Pair = tuple[str, int]


@dataclass(frozen=True)
class Rollout:
    """Candidates in the order that they were given in."""

    finals: Images
    traces: dict[int, Any]
    """A `probe.trace.Trace` of all candidates by number of steps."""
    previews: dict[int, Images]
    """The decoded x0 there."""


@dataclass(frozen=True)
class View:
    """What is said of all candidates after some number of steps."""

    seen: list[Score]
    """By the scorer of the preview, against the prompt."""
    predictions: list[Any]
    """By the probe, which is given the preview's score; empty where none is for this many steps."""
    blind: list[Any]
    """By the probe without that."""


def look(bench: Bench, pairs: Sequence[Pair], windows: Sequence[int]) -> Rollout:
    """Every (prompt, seed) traced after each of `windows`, then on to the end."""
    from promptprobe.probe.trace import join, traces_from

    family, settings = bench.family, bench.settings
    finals: list[Images] = []
    traces: dict[int, list[Any]] = {k: [] for k in windows}
    previews: dict[int, list[Images]] = {k: [] for k in windows}
    for chunk in in_batches(pairs, "looked at and finished"):
        prompts, seeds = [prompt for prompt, _ in chunk], [seed for _, seed in chunk]
        text, noise = family.encode(prompts, settings), family.draw_noise(seeds, settings)
        found, state = traces_from(family, text, noise, settings, windows)
        for k, trace in found.items():
            traces[k].append(trace)
            previews[k].append(family.decode(trace.x0))
        state = family.denoise(state, text, settings, settings.steps)
        finals.append(family.decode(state.latents))
    joined = {k: np.concatenate(images) for k, images in previews.items()}
    return Rollout(np.concatenate(finals), {k: join(all_) for k, all_ in traces.items()}, joined)


def view(bench: Bench, pairs: Sequence[Pair], looked: Rollout, k: int) -> View:
    """What the scorer and, where it was trained for k steps, the probe say after k steps."""
    from promptprobe.tools.predictions import look_of

    seen = score_previews(bench, [prompt for prompt, _ in pairs], looked.previews[k])
    (probe, k), trace = bench.probe_at(k), looked.traces[k]
    if probe is None:
        return View(seen, [], [])
    preview = look_of(seen, seen, trace)
    return View(seen, probe.predict(trace, k, preview), probe.predict(trace, k))


def score_previews(bench: Bench, prompts: Sequence[str], images: Images) -> list[Score]:
    """What the scorer sees in each image, asked prompt by prompt."""
    scores: list[Score] = []
    for prompt, same in groupby(prompts):
        own = slice(len(scores), len(scores) + len(list(same)))
        scores += bench.score(prompt, images[own])
    return scores
