"""Rivals that are networks, trained here and now on a collection of `promptprobe train`.

The paper's CNN (Diffusion Probe, arXiv 2602.23783): mean and deviation over words of each layer's
maps, residual blocks, MSE. And our own with a part of what it is told taken away: what each part is
worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from promptprobe.evals.clock import Clock
from promptprobe.evals.rivals import Method
from promptprobe.evals.statistics import Floats
from promptprobe.evals.table import Table
from promptprobe.probe.lessons import Parts, School, scale, split
from promptprobe.probe.network import FLOOR, Block
from promptprobe.probe.shards import Collection, Examples, read_collection, read_shards
from promptprobe.probe.training import Plan, fit

EPOCHS = 6
BATCH = 128
LR = 2e-3
WIDTH = 48

Part = Callable[[Examples], Examples]


def _without(*names: str) -> Part:
    def of(examples: Examples) -> Examples:
        nothing: dict[str, Any] = {
            name: torch.zeros_like(getattr(examples, name)) for name in names
        }
        return replace(examples, **nothing)

    return of


def _unseen(examples: Examples) -> Examples:
    nobody = [
        row.model_copy(
            update={
                "previews": tuple(
                    seen.model_copy(update={"score": None, "words": (None,) * len(row.words)})
                    for seen in row.previews
                )
            }
        )
        for row in examples.rows
    ]
    return replace(examples, rows=tuple(nobody))


ABLATIONS: dict[str, Part] = {
    "our network, retrained": lambda examples: examples,
    "... without attention": _without("maps"),
    "... without attention and gap (a trained judge of previews)": _without("maps", "gap"),
    "... without the judge's look": _unseen,
    "... attention alone": lambda examples: _unseen(_without("x0", "gap")(examples)),
}
UNJUDGED = ("... without the judge's look", "... attention alone")
"""These need no preview decoded and judged."""


class PaperCNN(nn.Module):
    """Mean and deviation over words of each layer's log maps to the score's logit."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2 * layers)
        self.stem = nn.Conv2d(2 * layers, WIDTH, 3, 1, 1)
        self.blocks = nn.ModuleList(
            Block(inner, outer, 2, 1)
            for inner, outer in ((WIDTH, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, 2 * WIDTH))
        )
        self.head = nn.Linear(2 * WIDTH, 1)

    def forward(
        self, maps: Float[Tensor, "batch word layer row col"], mask: Float[Tensor, "batch word"]
    ) -> Float[Tensor, " batch"]:
        logs = (maps + FLOOR).log()
        real = rearrange(mask, "b w -> b w 1 1 1").float()
        number = real.sum(1).clamp_min(1)
        mean = (logs * real).sum(1) / number
        spread = (((logs - mean[:, None]).square() * real).sum(1) / number + 1e-6).sqrt()
        x = self.stem(self.norm(torch.cat([mean, spread], 1)))
        nothing = x.new_zeros(len(x), 1)
        for block in self.blocks:
            x = block(x, nothing)
        logit: Tensor = self.head(x.mean((2, 3)))[:, 0]
        return logit


def collected(shards: Path, step: int) -> Collection:
    """What a folder of shards was made with. ValueError: none, or not after this many steps."""
    collection = read_collection(shards)
    if step not in collection.windows:
        raise ValueError(
            f"{shards} was collected after {collection.windows} steps, and {step} are asked for"
        )
    return collection


def rivals(shards: Path, test: Table, step: int, clock: Clock) -> dict[str, Method]:
    """Each network trained on the collection's training scenes after `step` steps, on test.

    ValueError: broken shards, or a collection without this number of steps.
    """
    collection = collected(shards, step)
    known = at_window(read_shards(shards), collection.windows.index(step))
    fresh = at_window(test.examples, list(test.views).index(step))
    target = collection.targets[0]
    parts = split(known, target)
    scales = (scale(known, parts.train, target),)
    rest, blind = clock.finish(step), clock.probe(step, judged=False)
    found = {
        "the paper's CNN": Method(
            test.shaped(_paper(School(known, scales), parts, fresh)), blind, rest
        )
    }
    for name, part in ABLATIONS.items():
        network = fit(School(part(known), scales), parts, Plan(epochs=EPOCHS))
        said = School(part(fresh), scales).predict(network, range(len(fresh)), 0)
        cost = clock.probe(step, judged=name not in UNJUDGED)
        found[name] = Method(test.shaped(said.logit[:, 0].sigmoid().numpy()), cost, rest)
    return found


def at_window(examples: Examples, place: int) -> Examples:
    """The examples after one window's steps alone."""
    one = slice(place, place + 1)
    rows = tuple(row.model_copy(update={"previews": row.previews[one]}) for row in examples.rows)
    return replace(
        examples, maps=examples.maps[one], x0=examples.x0[one], gap=examples.gap[one], rows=rows
    )


def _paper(school: School, parts: Parts, fresh: Examples) -> Floats:
    """The paper's CNN, from the epoch with the least error on validation: guesses of `fresh`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PaperCNN(len(school.examples.layers))
        known, watched = list(chain(*parts.train)), list(chain(*parts.selection))
        optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.05)
        batches = -(-len(known) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=EPOCHS * batches)
        best, guesses = np.inf, np.zeros(len(fresh))
        for epoch in range(EPOCHS):
            model.train()
            order = [known[at] for at in torch.randperm(len(known)).tolist()]
            for at in tqdm(range(0, len(order), BATCH), f"the paper's CNN, epoch {epoch + 1}"):
                some = order[at : at + BATCH]
                batch = school.batch(some, torch.zeros(len(some), dtype=torch.long))
                error = model(batch.trace.maps, batch.trace.mask).sigmoid() - batch.scores[:, 0]
                optimizer.zero_grad()
                error.square().nanmean().backward()
                optimizer.step()
                schedule.step()
            truth = school.batch(watched, torch.zeros(len(watched), dtype=torch.long)).scores[:, 0]
            wrong = float((_guess(model, school.examples, watched) - truth).square().nanmean())
            if wrong < best:
                best, guesses = wrong, _guess(model, fresh, range(len(fresh))).numpy()
    return guesses


@torch.inference_mode()
def _guess(model: PaperCNN, examples: Examples, indices: range | list[int]) -> Tensor:
    model.eval()
    found = []
    for at in range(0, len(indices), BATCH):
        some = list(indices[at : at + BATCH])
        trace, _ = examples.batch(some, torch.zeros(len(some), dtype=torch.long))
        found.append(model(trace.maps, trace.mask).sigmoid())
    return torch.cat(found)
