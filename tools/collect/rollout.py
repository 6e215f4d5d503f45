"""Draws candidates in one pass: traced after some steps, previews decoded, then finished.

Training collects with it, and evals measure with it. The agent's tools (toolbox.py) stop partway
instead, because only few of their candidates are finished.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from tqdm import tqdm

from promptprobe.probe.families.family import Family, Images, Settings
from promptprobe.probe.trace import Trace, join, traces_from
from promptprobe.tools.device import Batches
from promptprobe.tools.records import Score

BATCH = 16
"""Candidates in a batch, or fewer if they do not fit into memory."""
Pair = tuple[str, int]
"""Prompt and seed."""


@dataclass(frozen=True)
class Rollout:
    """Candidates in the order in which they were given."""

    images: Images
    """Finished images."""
    traces: dict[int, Trace]
    """Traces of all candidates, by number of steps."""
    previews: dict[int, Images]
    """The decoded x0, by number of steps."""
    seconds: float
    """Time for encoding, denoising and decoding the images, without previews."""


def roll_out(
    family: Family,
    settings: Settings,
    pairs: Sequence[Pair],
    windows: Iterable[int] = (),
    *,
    known: Mapping[Pair, np.ndarray] | None = None,
    batches: Batches | None = None,
    label: str | None = None,
) -> Rollout:
    """Draw every (prompt, seed), with a trace and a preview after each of `windows` steps.

    Args:
        known: finished images by candidate, for which only the traced steps are run.
        batches: batch sizes; by default `BATCH`.
        label: label of a progress bar on stderr; None for no bar.

    Raises:
        MemoryError: not even one candidate fits into memory.
        ValueError: a window is not among the steps of a render.
    """
    windows, known, batches = sorted(set(windows)), known or {}, batches or Batches(BATCH)
    parts: list[Rollout] = []
    with tqdm(total=len(pairs), desc=label, unit="image", disable=label is None) as bar:
        for exists, some in groupby(pairs, key=known.__contains__):
            draw = partial(_drawn, family, settings, windows, known if exists else None)
            for part in batches.each(draw, list(some), partial(tqdm.write, file=sys.stderr)):
                parts.append(part)
                bar.update(len(part.images))
    return Rollout(
        np.concatenate([part.images for part in parts]),
        {k: join([part.traces[k] for part in parts]) for k in windows},
        {k: np.concatenate([part.previews[k] for part in parts]) for k in windows},
        sum(part.seconds for part in parts),
    )


def _drawn(
    family: Family,
    settings: Settings,
    windows: Sequence[int],
    known: Mapping[Pair, np.ndarray] | None,
    pairs: Sequence[Pair],
) -> Rollout:
    """One batch, of which either all or none of the images are known."""
    start = time.perf_counter()
    conditioning = family.encode([prompt for prompt, _ in pairs], settings)
    state = family.draw_noise([seed for _, seed in pairs], settings)
    traces: dict[int, Trace] = {}
    if windows:
        traces, state = traces_from(family, conditioning, state, settings, windows)
    if known is None:
        state = family.denoise(state, conditioning, settings, settings.steps)
        images = family.decode(state.latents)
    else:
        images = np.stack([known[pair] for pair in pairs])
    seconds = time.perf_counter() - start
    previews = {k: family.decode(trace.x0) for k, trace in traces.items()}
    return Rollout(images, traces, previews, seconds)


def prompt_by_prompt(
    judge: Callable[[str, Any], list[Score]], prompts: Sequence[str], images: Images
) -> list[Score]:
    """A judge's scores of images, with one call for each run of images of the same prompt."""
    scores: list[Score] = []
    for prompt, same in groupby(prompts):
        scores += judge(prompt, images[len(scores) : len(scores) + len(list(same))])
    return scores
