"""Hand-made features of a candidate for the simpler baselines, by the baseline's name.

Each baseline has its own features of the same candidates after the same steps; a ridge regression
turns them into guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from promptprobe.evals.statistics import Floats
from promptprobe.probe.model.network import PreviewScore
from promptprobe.probe.statistics import gap_rms, peak, spatial_entropy, x0_std
from promptprobe.probe.trace import Trace
from promptprobe.probe.training.shards import Examples, Row

COLUMNS = 512
"""Columns that the features of a prompt are hashed into."""
CHUNK = 256


@dataclass(frozen=True)
class RolloutView:
    """Everything that a baseline may use of some candidates after some steps."""

    names: Sequence[Sequence[str]]
    """Features of each candidate's prompt, as names, for the prompt-only baseline."""
    noise: Tensor
    """The initial noise, [candidate, channel, row, col]."""
    trace: Trace
    look: PreviewScore
    gap: Tensor
    """Root mean square of the guidance gap, summed over the windows so far, [candidate]."""


def rollout_views(
    examples: Examples,
    place: int,
    draw_noise: Callable[..., Tensor],
    names: Callable[[Row], Sequence[str]],
) -> Iterator[RolloutView]:
    """The candidates in chunks, after the window with index `place`."""
    rows = examples.rows
    for at in range(0, len(rows), CHUNK):
        chunk = list(range(at, min(at + CHUNK, len(rows))))
        trace, look = examples.batch(chunk, torch.full((len(chunk),), place))
        gaps = torch.stack([gap_rms(gap.float()) for gap in examples.gap[: place + 1, chunk]])
        yield RolloutView(
            [names(rows[i]) for i in chunk],
            draw_noise([rows[i].seed for i in chunk]),
            trace,
            look,
            gaps.sum(0),
        )


def words(names: Sequence[Sequence[str]]) -> Floats:
    """The features of each prompt, hashed: [prompt, column]."""
    table = np.zeros((len(names), COLUMNS))
    for row, own in enumerate(names):
        table[row, [crc32(name.encode()) % COLUMNS for name in own]] = 1
    return table


def noise(sight: RolloutView) -> Tensor:
    """The noise pooled to 4 x 4, and its power."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(sight.noise, 4).flatten(1)
    return torch.cat([pooled, sight.noise.square().mean((2, 3))], 1)


def embedding(sight: RolloutView) -> Tensor:
    """Mean of the words' embeddings."""
    mask = sight.trace.mask[..., None]
    return (sight.trace.embeddings * mask).sum(1) / mask.sum(1).clamp_min(1)


def attention(sight: RolloutView) -> Tensor:
    """Entropy, deviation and maximum of each layer's maps: mean, minimum and maximum over words."""
    maps = sight.trace.maps
    table = torch.stack([spatial_entropy(maps), maps.std((-2, -1)), peak(maps)], -1)
    real = repeat(sight.trace.mask, "b w -> b w l s", l=table.shape[2], s=3)
    least, most = table.masked_fill(~real, torch.inf), table.masked_fill(~real, -torch.inf)
    mean = (table * real).sum(1) / real.sum(1).clamp_min(1)
    pooled = [mean, least.amin(1), most.amax(1)]
    return torch.cat([rearrange(part, "b l s -> b (l s)") for part in pooled], 1).nan_to_num(
        posinf=0, neginf=0
    )


def latents(sight: RolloutView) -> Tensor:
    """Mean, deviation, minimum and maximum of x0 and of the gap, for each channel."""
    x0, gap = sight.trace.x0, sight.trace.gap
    pooled = [reduce(x, "b c h w -> b c", how) for x in (x0, gap) for how in ("mean", "min", "max")]
    return torch.cat([*pooled, x0_std(x0), x0_std(gap)], 1)


def verdict(sight: RolloutView) -> Tensor:
    """The judge's score of the preview, and statistics of its words' chances."""
    words = sight.look.words
    known = ~words.isnan()
    chances = words.nan_to_num(1.0)
    mean = (chances * known).sum(1) / known.sum(1).clamp_min(1)
    parts = [sight.look.score, mean, chances.amin(1), chances.prod(1), known.sum(1).float()]
    return torch.stack(parts, 1)


FEATURE_BASELINES: dict[str, Callable[[RolloutView], Tensor]] = {
    "prompt only": lambda sight: torch.from_numpy(words(sight.names)),
    "seed only": noise,
    "noise and prompt embedding": lambda sight: torch.cat([noise(sight), embedding(sight)], 1),
    "guidance gap, accumulated": lambda sight: sight.gap[:, None],
    "attention entropy, deviation, maximum": attention,
    "latent statistics": latents,
    "x0 preview, calibrated": verdict,
}


def features(parts: Iterator[RolloutView]) -> dict[str, Floats]:
    """The features of each of `FEATURE_BASELINES`, [candidate, feature]."""
    found: dict[str, list[Any]] = {name: [] for name in FEATURE_BASELINES}
    for part in parts:
        for name, extract in FEATURE_BASELINES.items():
            found[name].append(extract(part).double().numpy())
    return {name: np.concatenate(tables) for name, tables in found.items()}
