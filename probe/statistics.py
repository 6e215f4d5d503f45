"""Statistics of the first few steps: what did each word claim, where, and how hard did text pull?

Pure functions of maps and of the latents of the same step. A map's value is the share of one
position's attention, over all keys, that goes to one word. Special tokens are among the keys, never
among the words. Where there is no attention (the padding of a batch), every statistic is 0.

`python -m promptprobe.probe.statistics` prints the table of docs/statistics.md.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.families.family import Latents

Maps = Float[Tensor, "batch word layer row col"]
PerMap = Float[Tensor, "batch word layer"]

EPS = 1e-12
"""Less attention than this counts as none."""


@dataclass(frozen=True)
class Statistic:
    """One row of the table; name, meaning and axes come from the function."""

    function: Callable[..., Tensor]
    formula: str
    range: str
    source: str

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def meaning(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def axes(self) -> dict[str, str]:
        """Axes of each argument by its name, and of the result under "return"."""
        return {name: hint.dim_str for name, hint in get_type_hints(self.function).items()}


STATISTICS: list[Statistic] = []
"""All of them, in the order of this file."""

Function = TypeVar("Function", bound=Callable[..., Tensor])


def statistic(formula: str, range: str, source: str) -> Callable[[Function], Function]:
    """Decorator that adds a function to the table."""

    def register(function: Function) -> Function:
        STATISTICS.append(Statistic(function, formula, range, source))
        return function

    return register


# Attention: how much, and where


@statistic("Σ A / RC", "0 .. 1", "mean of a word's map in DAAM (Tang et al., arXiv 2210.04885)")
def mass(maps: Maps) -> PerMap:
    """Mean share of attention over all places."""
    return maps.mean((-2, -1))


@statistic("max A", "0 .. 1", "Attend-and-Excite (Chefer et al., arXiv 2301.13826), unsmoothed")
def peak(maps: Maps) -> PerMap:
    """The greatest share at any place."""
    return maps.amax((-2, -1))


@statistic("H = −Σ p ln p", "0 .. ln RC", "Shannon (1948)")
def spatial_entropy(maps: Maps) -> PerMap:
    """Entropy in nats of where a word looks; low: it has found its place."""
    return torch.special.entr(distribution(maps)).sum((-2, -1))


@statistic("1 − H / ln RC", "0 .. 1", "one minus Pielou's evenness (1966)")
def focus(maps: Maps) -> PerMap:
    """How settled a word is: 0 spread evenly, 1 on one place."""
    places = maps.shape[-2] * maps.shape[-1]
    settled = 1 - spatial_entropy(maps) / math.log(places)
    return torch.where(mass(maps) > EPS, settled.clamp(0, 1), 0)


# Companions: latents at the last probed step


@statistic("√ mean g²", "from 0", "one step of CFG-Rejection (Wang et al., arXiv 2505.23343)")
def gap_rms(gap: Latents) -> Float[Tensor, " batch"]:
    """How hard text pulls: root mean square of the guidance gap, whatever the picture's size."""
    return gap.square().mean((1, 2, 3)).sqrt()


@statistic("√ mean (x − mean x)²", "from 0", "ours")
def x0_std(x0: Latents) -> Float[Tensor, "batch channel"]:
    """How far the predicted picture is from flat: deviation over places, channel by channel."""
    return x0.std((-2, -1), correction=0)


def distribution(maps: Maps) -> Maps:
    """Where a word looks: its map divided by its sum over places."""
    return maps / maps.sum((-2, -1), keepdim=True).clamp_min(EPS)


def table() -> str:
    """The registry in Markdown."""
    lines = ["| statistic | what it says | formula | shape | range | source |", "|---" * 6 + "|"]
    for row in STATISTICS:
        axes = row.axes
        shape = axes.pop("return")
        call = f"`{row.name}({', '.join(axes)})`"
        source = re.sub(r"arXiv ([\d.]+\d)", r"[arXiv \1](https://arxiv.org/abs/\1)", row.source)
        cells = call, row.meaning.rstrip("."), row.formula, shape, row.range, source
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
