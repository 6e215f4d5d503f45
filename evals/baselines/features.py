"""What the simpler baselines know of a candidate: hand-made features, by the baseline's name.

Each has its own, of the same candidates after the same steps; a ridge regression makes a guess
of them.
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
"""What is known of a prompt is hashed into so many."""
CHUNK = 256


@dataclass(frozen=True)
class RolloutView:
    """What a rival may look at, of some candidates after some steps."""

    names: Sequence[Sequence[str]]
    """What is known of each candidate's prompt, for those who see nothing else."""
    noise: Tensor
    """That denoising begins with, [candidate, channel, row, col]."""
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
    """The candidates in chunks, after the window at `place`."""
    rows = examples.rows
    for at in range(0, len(rows), CHUNK):
        some = list(range(at, min(at + CHUNK, len(rows))))
        trace, look = examples.batch(some, torch.full((len(some),), place))
        gaps = torch.stack([gap_rms(gap.float()) for gap in examples.gap[: place + 1, some]])
        yield RolloutView(
            [names(rows[i]) for i in some],
            draw_noise([rows[i].seed for i in some]),
            trace,
            look,
            gaps.sum(0),
        )


def words(names: Sequence[Sequence[str]]) -> Floats:
    """What is known of each prompt, hashed: [prompt, column]."""
    table = np.zeros((len(names), COLUMNS))
    for row, own in enumerate(names):
        table[row, [crc32(name.encode()) % COLUMNS for name in own]] = 1
    return table


def noise(sight: RolloutView) -> Tensor:
    """The noise in 4 x 4 fields, and how strong it is."""
    fields = torch.nn.functional.adaptive_avg_pool2d(sight.noise, 4).flatten(1)
    return torch.cat([fields, sight.noise.square().mean((2, 3))], 1)


def embedding(sight: RolloutView) -> Tensor:
    """Mean of the words' embeddings."""
    mask = sight.trace.mask[..., None]
    return (sight.trace.embeddings * mask).sum(1) / mask.sum(1).clamp_min(1)


def attention(sight: RolloutView) -> Tensor:
    """Entropy, deviation and maximum of each layer's maps: mean, least and most over the words."""
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
    """Mean, deviation and extremes of x0 and of the gap, channel by channel."""
    x0, gap = sight.trace.x0, sight.trace.gap
    pooled = [reduce(x, "b c h w -> b c", how) for x in (x0, gap) for how in ("mean", "min", "max")]
    return torch.cat([*pooled, x0_std(x0), x0_std(gap)], 1)


def verdict(sight: RolloutView) -> Tensor:
    """The judge's look at the preview: its score, and how sure it is of the words."""
    chances = sight.look.words
    known = ~chances.isnan()
    sure = chances.nan_to_num(1.0)
    mean = (sure * known).sum(1) / known.sum(1).clamp_min(1)
    parts = [sight.look.score, mean, sure.amin(1), sure.prod(1), known.sum(1).float()]
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
    """What each of `FEATURE_BASELINES` is given, [candidate, feature]."""
    found: dict[str, list[Any]] = {name: [] for name in FEATURE_BASELINES}
    for part in parts:
        for name, tell in FEATURE_BASELINES.items():
            found[name].append(tell(part).double().numpy())
    return {name: np.concatenate(tables) for name, tables in found.items()}
