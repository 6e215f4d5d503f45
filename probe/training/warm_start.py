"""A training that begins with another probe instead of chance: one for a kindred model, or one that
knew fewer numbers of steps or other scores.

Every weight that means the same is taken over. A number of steps that the other did not know begins
as the nearest one that it knew, a score that it did not know with chance.
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
    """A probe to begin with, for a network that knows these windows and targets."""

    probe: Probe
    windows: Sequence[int]
    targets: Sequence[str]

    @property
    def mark(self) -> str:
        """sha256 of its weights."""
        return self.probe.card.weights_sha256

    @torch.no_grad()
    def into(self, network: Network) -> None:
        """Copy what means the same. ValueError: the two look at models of other shapes."""
        shape = self.probe.card.shape
        for name in ("layers", "channels", "dim", "width"):
            begun, wanted = getattr(shape, name), getattr(network.shape, name)
            if begun != wanted:
                raise ValueError(
                    f"the probe to start from has {name} {begun}, and the training {wanted}: start "
                    "from a probe of a model of the same shapes, or from none"
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
        """For the weights with a row a window or a target: which rows come from which."""
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
