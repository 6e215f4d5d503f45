"""A trace: per-word attention maps and latents of a batch of candidates after a few steps.

Only the last of the probed steps is captured: maps of the steps before it did not make the network
any better (tools/sprites/weights/README.md). A candidate's trace does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from promptprobe.probe.capture.capture import Groups
from promptprobe.probe.families.family import Conditioning, Family, Latents, Settings, State
from promptprobe.probe.statistics import Maps, focus

GRID = 16
"""Rows and columns of every map, whatever the layer's resolution."""


@dataclass(frozen=True)
class Trace:
    """Float32, on the pipeline's device. `word` is padded to the longest prompt; see `mask`."""

    maps: Maps
    """Attention to each content word (summed over its tokens) at the last probed step: mean over
    heads, conditional half, softmax over all keys."""
    mask: Bool[Tensor, "batch word"]
    """True where there is a word."""
    embeddings: Float[Tensor, "batch word dim"]
    """The text encoder's output for each word, mean over its tokens."""
    x0: Float[Tensor, "batch channel height width"]
    """Predicted x0 latents at the last probed step."""
    gap: Float[Tensor, "batch channel height width"]
    """Conditional minus unconditional prediction there; zeros without guidance."""
    words: tuple[tuple[str, ...], ...]
    """The content words of each candidate's prompt."""
    layers: tuple[str, ...]
    """Names along the layer axis."""


def record_trace(
    family: Family,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    k: int,
) -> tuple[Trace, State]:
    """Run the first k steps of each (prompt, seed) and record what the last of them shows.

    The state continues with `family.denoise`. Raises CaptureError where attention cannot be read.
    """
    traces, state = record_traces(family, prompts, seeds, settings, (k,))
    return traces[k], state


def record_traces(
    family: Family,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    windows: Sequence[int],
) -> tuple[dict[int, Trace], State]:
    """`record_trace` after each of several numbers of steps, in one pass; the state is the last."""
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts, but {len(seeds)} seeds: expected pairs")
    conditioning = family.encode(prompts, settings)
    return traces_from(family, conditioning, family.draw_noise(seeds, settings), settings, windows)


def traces_from(
    family: Family,
    conditioning: Conditioning,
    state: State,
    settings: Settings,
    windows: Sequence[int],
) -> tuple[dict[int, Trace], State]:
    """`record_traces` for encoded prompts, from a state that may come from an earlier call; steps
    that it has already taken are not repeated."""
    first = state.step + 1
    if not windows or not first <= min(windows) <= max(windows) <= settings.steps:
        found = ", ".join(map(str, windows))
        raise ValueError(
            f"expected from {first} to {settings.steps} steps to probe, got {found or 0}"
        )
    traces: dict[int, Trace] = {}
    for k in sorted(set(windows)):
        state = family.denoise(state, conditioning, settings, k - 1)
        traces[k], state = _traced_step(family, conditioning, state, settings)
    return traces, state


def _traced_step(
    family: Family, conditioning: Conditioning, state: State, settings: Settings
) -> tuple[Trace, State]:
    shares = _shares(conditioning)
    capture = family.capture(shares, settings)
    companions: list[Latents] = []

    def observe(step: int, x0: Tensor, gap: Tensor) -> None:
        companions[:] = x0.float(), gap.float()

    after = family.denoise(state, conditioning, settings, state.step + 1, observe, capture)
    maps = _on_one_grid(list(capture.take().values()))
    shares = shares.to(maps.device)
    trace = Trace(
        maps=maps,
        mask=shares.sum(-1) > 0,
        embeddings=_word_embeddings(conditioning, shares),
        x0=companions[0],
        gap=companions[1],
        words=tuple(tuple(span.word for span in spans) for spans in conditioning.words),
        layers=tuple(capture.layers),
    )
    return trace, after


def word_focus(trace: Trace) -> Float[Tensor, "batch word"]:
    """How settled each word is, 0 .. 1: the focus of its map averaged over layers."""
    return focus(trace.maps.mean(2, keepdim=True))[:, :, 0]


def join(traces: Sequence[Trace]) -> Trace:
    """Concatenate traces of several batches of one model, padded to the longest prompt."""
    if not traces:
        raise ValueError("no traces given: expected at least one")
    layers = {trace.layers for trace in traces}
    if len(layers) > 1:
        raise ValueError(f"expected traces of the same layers, got {sorted(layers)}")
    most = max(trace.mask.shape[1] for trace in traces)
    pads = [most - trace.mask.shape[1] for trace in traces]
    padded = list(zip(traces, pads, strict=True))
    return Trace(
        maps=torch.cat([F.pad(trace.maps, (0, 0) * 3 + (0, pad)) for trace, pad in padded]),
        mask=torch.cat([F.pad(trace.mask, (0, pad)) for trace, pad in padded]),
        embeddings=torch.cat([F.pad(trace.embeddings, (0, 0, 0, pad)) for trace, pad in padded]),
        x0=torch.cat([trace.x0 for trace in traces]),
        gap=torch.cat([trace.gap for trace in traces]),
        words=tuple(words for trace in traces for words in trace.words),
        layers=traces[0].layers,
    )


def _shares(conditioning: Conditioning) -> Groups:
    """Which tokens make each map: one row a word, and at least one row to keep axes nonempty."""
    most = max(1, *(len(spans) for spans in conditioning.words))
    shares = torch.zeros(len(conditioning.words), most, conditioning.embeddings.shape[1])
    for row, spans in enumerate(conditioning.words):
        for place, span in enumerate(spans):
            shares[row, place, list(span.tokens)] = 1
    return shares


def _on_one_grid(layers: list[Tensor]) -> Maps:
    """Resize every layer's maps, [batch group row col], to one grid and stack them."""
    grids = [
        maps
        if maps.shape[-2:] == (GRID, GRID)
        else F.interpolate(maps, (GRID, GRID), mode="bilinear", align_corners=False)
        for maps in layers
    ]
    return rearrange(grids, "layer b w row col -> b w layer row col")


def _word_embeddings(
    conditioning: Conditioning, shares: Float[Tensor, "batch word token"]
) -> Float[Tensor, "batch word dim"]:
    pieces = shares.sum(-1, keepdim=True).clamp_min(1)
    return torch.einsum("bwk,bkd->bwd", shares / pieces, conditioning.embeddings.float())
