"""Starts training from another probe instead of random weights: a probe for a related model, or one
with fewer numbers of steps or other scores.

Every weight with the same meaning is copied. A number of steps that the other probe lacks starts
from the nearest one that it has; a score that it lacks starts from random weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptprobe.probe.model.checkpoint import Probe
from promptprobe.probe.model.network import Network


@dataclass(frozen=True)
class WarmStart:
    """A probe to start from, for a network with these windows and targets."""

    probe: Probe
    windows: Sequence[int]
    targets: Sequence[str]

    @property
    def mark(self) -> str:
        """sha256 of the probe's weights."""
        return self.probe.card.weights_sha256

    @torch.no_grad()
    def into(self, network: Network) -> None:
        """Copy all weights with the same meaning. ValueError: the two networks' shapes differ."""
        shape = self.probe.card.shape
        for name in ("layers", "channels", "dim", "width"):
            found, wanted = getattr(shape, name), getattr(network.shape, name)
            if found != wanted:
                raise ValueError(
                    f"the probe to start from has {name} {found}, but this training needs {wanted}:"
                    " start from a probe for a model with the same shapes, or from none"
                )
        rows = dict(self._rows())
        other = dict(self.probe.network.named_parameters())
        for name, own in network.named_parameters():
            if name in rows:
                here, there = rows[name]
                own[here] = other[name][there].to(own)
            else:
                own.copy_(other[name])

    def _rows(self) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        """For weights with a row per window or target: the rows to set and those to copy."""
        known = [window.k for window in self.probe.card.windows]
        nearest = [min(range(len(known)), key=lambda at: abs(known[at] - k)) for k in self.windows]
        yield "window.weight", (torch.arange(len(nearest)), torch.tensor(nearest))
        names = [target.name for target in self.probe.card.targets]
        pairs = [(at, names.index(x)) for at, x in enumerate(self.targets) if x in names]
        here, there = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        ends = (
            torch.cat([here, here + len(self.targets)]),
            torch.cat([there, there + len(names)]),
        )
        last = len(self.probe.network.score) - 1
        for part in ("weight", "bias"):
            yield f"score.{last}.{part}", (here, there)
            yield f"spread.{last}.{part}", ends
