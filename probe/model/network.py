"""The probe's network: predicts scores and words from a trace and a judge's view of its preview.

Aggregated attention statistics rank the seeds of one prompt no better than chance, so the maps stay
spatial and separate for each word. One shared CNN reads each word's maps, the predicted x0 latents
and the guidance gap, conditioned (FiLM, Perez et al. 2018) on the word's embedding, the step, and
the judge's view of the word in the decoded x0. Words are pooled with the spatial axes kept, and
residual down-blocks, as in Diffusion Probe (arXiv 2602.23783), reduce them to one vector for the
picture. This vector and a word's own features give the chance that the word is drawn as asked, and
these chances contribute to the scores.

The output is invariant to the order of the words and to the padding of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from promptprobe.probe.trace import GRID, Trace

FLOOR = 1e-3
"""Added to attention before taking its logarithm; smaller differences are noise."""
DROPOUT = 0.1
DOUBTS = 3
"""Features of each word that the score reads: its logit, its chance, and the judge's view."""
COVERAGE = 0.9
"""Share of finished images whose score should fall inside the interval."""

Planes = Float[Tensor, "n channel row col"]


class NetworkConfig(BaseModel):
    """Sizes that determine the shape of every weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1, le=512, description="maps per word")
    channels: int = Field(ge=1, le=64, description="channels of the latents")
    dim: int = Field(ge=1, le=8192, description="of the text encoder's output")
    windows: int = Field(1, ge=1, le=32, description="numbers of steps after which it can predict")
    targets: int = Field(1, ge=1, le=16, description="scores that it predicts")
    width: int = Field(24, ge=8, le=64, multiple_of=8, description="channels of the word CNN")


class PreviewScore(NamedTuple):
    """A judge's view of the decoded x0; nan where no judge looked or it cannot tell."""

    score: Float[Tensor, " batch"]
    """On the scale of the first target, 0 .. 1."""
    words: Float[Tensor, "batch word"]
    """The chance that the preview shows what each word asks for, 0 .. 1."""


def no_preview_score(trace: Trace) -> PreviewScore:
    """A `PreviewScore` for a trace whose previews were not judged: all nan."""
    mask = trace.mask
    nothing = torch.full(mask.shape, torch.nan, device=mask.device)
    return PreviewScore(nothing.new_full((len(mask),), torch.nan), nothing)


class Output(NamedTuple):
    """The network's output for a batch, as logits, before calibration."""

    logit: Float[Tensor, "batch target"]
    """Logit of the score on the target's scale 0 .. 1."""
    low: Float[Tensor, "batch target"]
    """Logit of its 5% quantile."""
    high: Float[Tensor, "batch target"]
    """Logit of its 95% quantile."""
    words: Float[Tensor, "batch word"]
    """Logit of the chance that each word is drawn as asked; 0 at padding."""

    def target(self, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """One target's logit, low and high, [batch]."""
        return self.logit[:, at], self.low[:, at], self.high[:, at]


class Block(nn.Module):
    """Residual block: norm, FiLM, convolution, twice; `stride` 2 halves rows and columns."""

    def __init__(self, inner: int, outer: int, stride: int, context: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, inner), nn.GroupNorm(8, outer)
        self.conv_in = nn.Conv2d(inner, outer, 3, stride, 1)
        self.conv_out = nn.Conv2d(outer, outer, 3, 1, 1)
        self.film = nn.Linear(context, 2 * outer)
        self.skip = nn.Conv2d(inner, outer, 1, bias=False) if inner != outer else nn.Identity()
        self.stride = stride
        nn.init.zeros_(self.conv_out.weight)

    def forward(
        self, x: Planes, context: Float[Tensor, "n context"]
    ) -> Float[Tensor, "n outer rows cols"]:
        scale, shift = rearrange(self.film(context), "n (two c) -> two n c 1 1", two=2)
        y = self.conv_in(F.silu(self.norm_in(x)))
        y = self.conv_out(F.silu(self.norm_out(y) * (1 + scale) + shift))
        same = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return y + self.skip(same)


class Network(nn.Module):
    """Maps a trace and a preview score to `Output`; fewer than 1M weights at width 24."""

    map_mean: Tensor
    map_std: Tensor
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, shape: NetworkConfig) -> None:
        super().__init__()
        width, context, wide = shape.width, 4 * shape.width, 4 * shape.width
        self.shape = shape
        self.register_buffer("map_mean", torch.zeros(shape.windows, shape.layers))
        self.register_buffer("map_std", torch.ones(shape.windows, shape.layers))
        self.register_buffer("latent_mean", torch.zeros(shape.windows, 2 * shape.channels))
        self.register_buffer("latent_std", torch.ones(shape.windows, 2 * shape.channels))
        self.word = nn.Sequential(nn.LayerNorm(shape.dim), nn.Linear(shape.dim, context))
        self.seen_word, self.seen = nn.Linear(2, context), nn.Linear(2, context)
        self.window = nn.Embedding(shape.windows, context)
        self.prompt = nn.Linear(2 * context, context)
        self.stem = nn.Conv2d(shape.layers + 2 * shape.channels + 2, width, 3, 1, 1)
        self.per_word = nn.ModuleList(
            [Block(width, width, 1, context), Block(width, 2 * width, 2, context)]
        )
        self.join = nn.Conv2d(4 * width + 2 * shape.channels, wide, 1)
        self.pooled = nn.ModuleList(Block(wide, wide, stride, context) for stride in (1, 2, 2))
        self.norm = nn.GroupNorm(8, wide)
        self.drawn = _head(4 * width + 2 * wide + context, wide, 1)
        features = 2 * wide + 2 * DOUBTS + 2
        self.score = _head(features, wide, shape.targets)
        self.spread = _head(features, wide, 2 * shape.targets)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU

    def forward(self, trace: Trace, look: PreviewScore, window: Int[Tensor, " batch"]) -> Output:
        """Predict a batch in float32; `window` is the index of each trace's window in the card.

        ValueError: the trace's number of layers, latent channels or embedding values differs.
        """
        _check(trace, self.shape)
        mask = trace.mask
        owner = mask.nonzero()[:, 0]
        companions = self.companions(trace, window)
        seen, score_previews = _known(look.words[mask]), _known(look.score)
        words = self.word(trace.embeddings[mask]) + self.seen_word(seen)
        context = self.prompt(_pool(words, mask)) + self.seen(score_previews) + self.window(window)
        context = F.silu(context)
        word_context = F.silu(words + context[owner])

        x = self.stem(torch.cat([self.maps(trace.maps[mask], window[owner]), companions[owner]], 1))
        for block in self.per_word:
            x = block(x, word_context)
        word_features = _flat(x)
        small = F.adaptive_avg_pool2d(companions[:, :-2], x.shape[-1])
        x = self.join(torch.cat([_pool(x, mask), small], 1))
        for block in self.pooled:
            x = block(x, context)
        picture = _flat(F.silu(self.norm(x)))

        logits = self.drawn(torch.cat([word_features, picture[owner], word_context], 1))[:, 0]
        # Negated, so that the maximum over words is the word most in doubt.
        doubts = torch.stack([-logits / 4, torch.sigmoid(-logits), -seen[:, 0]], 1)
        summary = _pool(doubts, mask)
        drawn = logits.new_zeros(mask.shape)
        drawn[mask] = logits
        return Output(*self.read(torch.cat([picture, summary, score_previews], 1)), drawn)

    def read(self, features: Float[Tensor, "batch feature"]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of score, low and high; the interval sends no gradient to features or score."""
        logit = self.score(features)
        below, above = F.softplus(self.spread(features.detach())).chunk(2, -1)
        middle = logit.detach()
        return logit, middle - below, middle + above

    def maps(self, maps: Float[Tensor, "n layer row col"], window: Int[Tensor, " n"]) -> Planes:
        """Attention as standardized logarithms."""
        mean, std = (rearrange(x[window], "n l -> n l 1 1") for x in (self.map_mean, self.map_std))
        return ((maps.float() + FLOOR).log() - mean) / std

    def companions(
        self, trace: Trace, window: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch channel row col"]:
        """Standardized x0 and gap on the maps' grid, followed by two planes of coordinates."""
        latents = torch.cat([trace.x0, trace.gap], 1).float()
        mean, std = (
            rearrange(x[window], "b c -> b c 1 1") for x in (self.latent_mean, self.latent_std)
        )
        planes = F.adaptive_avg_pool2d((latents - mean) / std, GRID)
        ramp = torch.linspace(-1, 1, GRID, device=planes.device)
        rows = repeat(ramp, "h -> b 1 h w", b=len(planes), w=GRID)
        return torch.cat([planes, rows, rearrange(rows, "b c h w -> b c w h")], 1)

    @torch.no_grad()
    def standardize(self, trace: Trace, window: int) -> None:
        """Set a window's means and standard deviations from a sample of its training traces."""
        logs = (trace.maps[trace.mask].float() + FLOOR).log()
        latents = torch.cat([trace.x0, trace.gap], 1).float()
        for name, planes in (("map", logs), ("latent", latents)):
            getattr(self, f"{name}_mean")[window] = planes.mean((0, 2, 3))
            getattr(self, f"{name}_std")[window] = planes.std((0, 2, 3)).clamp_min(1e-4)


def _known(values: Float[Tensor, " n"]) -> Float[Tensor, "n 2"]:
    """Encode shares 0 .. 1 that may be nan as a value -1 .. 1 (nan gives 0) and a known flag."""
    known = ~values.isnan()
    return torch.stack([torch.where(known, 2 * values - 1, 0.0), known.float()], 1)


def _flat(planes: Planes) -> Float[Tensor, "n two_channels"]:
    return torch.cat([reduce(planes, "n c h w -> n c", how) for how in ("mean", "max")], -1)


def _head(inner: int, hidden: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inner, hidden), nn.SiLU(), nn.Dropout(DROPOUT), nn.Linear(hidden, outer)
    )


def _pool(
    words: Float[Tensor, "n channel *place"], mask: Bool[Tensor, "batch word"]
) -> Float[Tensor, "batch two_channels *place"]:
    """Mean and maximum over each candidate's words; zeros for a prompt without words."""
    padded = words.new_zeros(*mask.shape, *words.shape[1:])
    padded[mask] = words
    real = mask.reshape(*mask.shape, *[1] * (words.dim() - 1))
    mean = padded.sum(1) / real.sum(1).clamp_min(1)
    highest = padded.masked_fill(~real, -torch.inf).amax(1).masked_fill(~real.any(1), 0.0)
    return torch.cat([mean, highest], 1)


def _check(trace: Trace, shape: NetworkConfig) -> None:
    for what, expected, got in (
        ("attention maps per word", shape.layers, trace.maps.shape[2]),
        ("values per embedding", shape.dim, trace.embeddings.shape[-1]),
        ("x0 latent channels", shape.channels, trace.x0.shape[1]),
        ("guidance gap channels", shape.channels, trace.gap.shape[1]),
        ("rows per map", GRID, trace.maps.shape[-2]),
    ):
        if expected != got:
            raise ValueError(f"this probe reads {expected} {what}, but the trace has {got}")
