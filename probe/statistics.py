"""Statistics of cross-attention: what did each word claim, and when?

Pure functions of maps whose values sum to one over the keys (special tokens among them, words kept
apart from those), so a value is the share of one place's attention that goes to one word.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "batch word layer row col"]
PerMap = Float[Tensor, "batch word layer"]

EPS = 1e-12


def mass(maps: Maps) -> PerMap:
    """Mean share of attention over all places, 0 .. 1."""
    return maps.mean((-2, -1))


def peak(maps: Maps) -> PerMap:
    """The greatest share at any place, 0 .. 1."""
    return maps.amax((-2, -1))


def spatial_entropy(maps: Maps) -> PerMap:
    """Entropy in nats of where a word looks, 0 .. log(row x col); low: it has found its place."""
    p = distribution(maps)
    return -(p * p.clamp_min(EPS).log()).sum((-2, -1))


def focus(maps: Maps) -> PerMap:
    """1 - entropy / log(row x col), 0 .. 1: 0 spread evenly (or no attention), 1 on one place."""
    places = maps.shape[-2] * maps.shape[-1]
    settled = 1 - spatial_entropy(maps) / math.log(places)
    return torch.where(mass(maps) > EPS, settled.clamp(0, 1), 0)


def spread(maps: Maps) -> PerMap:
    """Root mean square distance from the centre of attention, in maps' heights, from 0 up."""
    p = distribution(maps)
    size = maps.shape[-2]
    down = torch.arange(maps.shape[-2], device=maps.device) / size
    across = torch.arange(maps.shape[-1], device=maps.device) / size
    rows, cols = p.sum(-1), p.sum(-2)
    variance = _variance(rows, down) + _variance(cols, across)
    return variance.clamp_min(0).sqrt()


def overlap(maps: Maps) -> Float[Tensor, "batch word other layer"]:
    """Bhattacharyya coefficient of two words' places, 0 (apart) .. 1 (the same)."""
    root = distribution(maps).sqrt()
    return torch.einsum("bwlrc,bolrc->bwol", root, root)


def drift(earlier: Maps, later: Maps) -> PerMap:
    """Total variation between where a word looked earlier and later, 0 (stays) .. 1 (moved)."""
    return (distribution(earlier) - distribution(later)).abs().sum((-2, -1)) / 2


def distribution(maps: Maps) -> Maps:
    """Where a word looks: its map divided by its sum over places."""
    flat = rearrange(maps, "b w l row col -> b w l (row col)")
    flat = flat / flat.sum(-1, keepdim=True).clamp_min(EPS)
    return rearrange(flat, "b w l (row col) -> b w l row col", row=maps.shape[-2])


def _variance(
    p: Float[Tensor, "batch word layer place"], position: Float[Tensor, " place"]
) -> PerMap:
    mean = (p * position).sum(-1, keepdim=True)
    return (p * (position - mean) ** 2).sum(-1)
