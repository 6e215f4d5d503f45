"""Ablations: our network with one thing changed at a time, to see what each part is worth.

Every variant is trained on the same collection for equally many epochs and tested on the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import reduce, repeat
from torch import Tensor

from promptprobe.probe.training.dataset import Splits
from promptprobe.probe.training.losses import Objective, loss
from promptprobe.probe.training.shards import Examples
from promptprobe.probe.training.trainer import TrainConfig

PLAN = TrainConfig(epochs=8)
TEMPERATURE = 0.1
"""Temperature of the scores in the listwise loss, whose scale is 0 .. 1."""
SEPARATE = -1e4
"""Logit of a candidate of another prompt, so that its probability is zero."""


@dataclass(frozen=True)
class Ablation:
    """What is changed; nothing by default."""

    inputs: Callable[[Examples], Examples] = lambda examples: examples
    """Changes what the network sees of a candidate."""
    taught: Callable[[Splits], Splits] = lambda splits: splits
    """Changes which candidates it is trained on."""
    config: TrainConfig = PLAN
    objective: Objective = loss
    judged: bool = True
    """Whether it needs previews to be decoded and judged."""


def _without(*names: str) -> Callable[[Examples], Examples]:
    def inputs(examples: Examples) -> Examples:
        zeros: dict[str, Any] = {name: torch.zeros_like(getattr(examples, name)) for name in names}
        return replace(examples, **zeros)

    return inputs


def _without_previews(examples: Examples) -> Examples:
    rows = [
        row.model_copy(
            update={
                "previews": tuple(
                    preview.model_copy(update={"score": None, "words": (None,) * len(row.words)})
                    for preview in row.previews
                )
            }
        )
        for row in examples.rows
    ]
    return replace(examples, rows=tuple(rows))


def _half_of_layers(first: bool) -> Callable[[Examples], Examples]:
    def inputs(examples: Examples) -> Examples:
        maps, half = examples.maps.clone(), len(examples.layers) // 2
        maps[:, :, slice(half, None) if first else slice(half)] = 0
        return replace(examples, maps=maps)

    return inputs


def _coarser(examples: Examples) -> Examples:
    small = reduce(examples.maps.float(), "w n l (r a) (c b) -> w n l r c", "mean", a=2, b=2)
    same = repeat(small, "w n l r c -> w n l (r a) (c b)", a=2, b=2)
    return replace(examples, maps=same.to(examples.maps.dtype))


def _share(number: int) -> Callable[[Splits], Splits]:
    """Train on one of `number` prompts; the selection half stays whole."""
    return lambda splits: replace(splits, train=splits.train[::number])


def listwise(logit: Tensor, score: Tensor, group: Tensor) -> Tensor:
    """ListNet, top-one (Cao et al. 2007): each prompt's seeds as a distribution."""
    apart = group[:, None] != group[None]
    wanted, found = (
        x[None].expand(len(x), -1).masked_fill(apart, SEPARATE)
        for x in (score / TEMPERATURE, logit)
    )
    return -(wanted.softmax(-1) * F.log_softmax(found, -1).clamp_min(SEPARATE)).sum(-1).mean()


RETRAINED = "our network, retrained"
ABLATIONS: dict[str, Ablation] = {
    RETRAINED: Ablation(),
    "... without attention": Ablation(_without("maps")),
    "... without attention and gap (a trained judge of previews)": Ablation(
        _without("maps", "gap")
    ),
    "... without the judge's look": Ablation(_without_previews, judged=False),
    "... attention alone": Ablation(
        lambda examples: _without_previews(_without("x0", "gap")(examples)), judged=False
    ),
    "... the first half of the layers": Ablation(_half_of_layers(first=True)),
    "... the second half of the layers": Ablation(_half_of_layers(first=False)),
    "... maps of 8 x 8": Ablation(_coarser),
    "... MSE without a ranking loss": Ablation(objective=partial(loss, ranking=None)),
    "... listwise in place of pairwise": Ablation(objective=partial(loss, ranking=listwise)),
    "... without the words' labels": Ablation(objective=partial(loss, of_words=0.0)),
    "... half of the prompts": Ablation(taught=_share(2)),
    "... a quarter of the prompts": Ablation(taught=_share(4)),
    "... 8 channels": Ablation(config=replace(PLAN, width=8)),
    "... 48 channels": Ablation(config=replace(PLAN, width=48)),
}
