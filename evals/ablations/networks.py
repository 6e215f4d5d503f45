"""Baseline networks, trained as part of the eval on a collection of `promptprobe train`.

They are the paper's CNN (Diffusion Probe, arXiv 2602.23783: mean and deviation over words of each
layer's maps, residual blocks, MSE), our own network with one thing changed (ablations.py), and our
own on a coarse path (baselines/coarse.py).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from promptprobe.evals.ablations.ablations import ABLATIONS, Ablation
from promptprobe.evals.baselines.baselines import Cost, Method
from promptprobe.evals.baselines.coarse import retraced
from promptprobe.evals.bench import Bench, check_shards
from promptprobe.evals.fidelity.rollouts import Rollouts
from promptprobe.evals.fidelity.timing import Timing
from promptprobe.evals.statistics import Floats
from promptprobe.probe.model.card import Target
from promptprobe.probe.model.network import FLOOR, Block
from promptprobe.probe.training.dataset import Dataset, Splits, scale, split
from promptprobe.probe.training.shards import Collection, Examples, read_shards
from promptprobe.probe.training.trainer import fit

PAPER = "the paper's CNN"
EPOCHS = 30
"""Epochs of the paper's CNN; one of its epochs costs a fifth of one of ours."""
BATCH = 128
LR = 2e-3
WIDTH = 48


class PaperCNN(nn.Module):
    """Maps the mean and deviation over words of each layer's log maps to the score's logit."""

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


def collected(shards: Path, step: int, bench: Bench) -> Collection:
    """The settings of a folder of shards.

    ValueError: it has no shards, none after this many steps, or they are from another model or
    scorer.
    """
    collection = check_shards(bench, shards)
    if step not in collection.windows:
        raise ValueError(
            f"{shards} was collected after {collection.windows} steps, but {step} were requested"
        )
    return collection


def train_baselines(
    shards: Path, test: Rollouts, step: int, timing: Timing, bench: Bench
) -> dict[str, Method]:
    """Train each network on the collection's training scenes after `step` steps; guess the test's.

    ValueError: the shards are broken, or the collection lacks this number of steps.
    """
    collection = collected(shards, step, bench)
    known = at_window(read_shards(shards), collection.windows.index(step))
    fresh = at_window(test.examples, list(test.views).index(step))
    target = collection.targets[0]
    splits = split(known, target)
    scales = (scale(known, splits.train, target),)
    rest, blind = timing.finish(step), timing.probe(step, judged=False)
    paper = _paper(Dataset(known, scales), splits, fresh)
    found = {PAPER: Method(test.shaped(paper), blind, rest, trained=True)}
    for name, variant in ABLATIONS.items():
        guesses = test.shaped(_taught(variant, known, splits, scales, fresh))
        look = timing.probe(step, judged=variant.judged)
        found[name] = Method(guesses, look, rest, trained=True)
    coarse, fresh = (retraced(bench, examples, step) for examples in (known, fresh))
    guesses = test.shaped(_taught(Ablation(), coarse, splits, scales, fresh))
    look = timing.full(step) + Cost(0, timing.capture + timing.predict)
    name = f"our network on a coarse path of {step} steps"
    found[name] = Method(guesses, look, timing.full(), trained=True)
    return found


def _taught(
    variant: Ablation, known: Examples, splits: Splits, scales: tuple[Target, ...], fresh: Examples
) -> Floats:
    """Guesses of `fresh` by a network trained on `known`."""
    dataset = Dataset(variant.inputs(known), scales)
    network = fit(dataset, variant.taught(splits), variant.config, objective=variant.objective)
    output = Dataset(variant.inputs(fresh), scales).predict(network, range(len(fresh)), 0)
    guesses: Floats = output.logit[:, 0].sigmoid().double().numpy()
    return guesses


def at_window(examples: Examples, place: int) -> Examples:
    """The examples with only one window."""
    one = slice(place, place + 1)
    rows = tuple(row.model_copy(update={"previews": row.previews[one]}) for row in examples.rows)
    return replace(
        examples, maps=examples.maps[one], x0=examples.x0[one], gap=examples.gap[one], rows=rows
    )


def _paper(dataset: Dataset, splits: Splits, fresh: Examples) -> Floats:
    """Guesses of `fresh` by the paper's CNN, from the epoch with the smallest validation error."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PaperCNN(len(dataset.examples.layers))
        known, selection = list(chain(*splits.train)), list(chain(*splits.selection))
        optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.05)
        batches = -(-len(known) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=EPOCHS * batches)
        best, guesses = np.inf, np.zeros(len(fresh))
        for epoch in range(EPOCHS):
            model.train()
            order = [known[at] for at in torch.randperm(len(known)).tolist()]
            for at in tqdm(range(0, len(order), BATCH), f"the paper's CNN, epoch {epoch + 1}"):
                indices = order[at : at + BATCH]
                batch = dataset.batch(indices, torch.zeros(len(indices), dtype=torch.long))
                error = model(batch.trace.maps, batch.trace.mask).sigmoid() - batch.scores[:, 0]
                optimizer.zero_grad()
                error.square().nanmean().backward()
                optimizer.step()
                schedule.step()
            errors = _guess(model, dataset.examples, selection) - dataset.scores(selection)[:, 0]
            mse = float(errors.square().nanmean())
            if mse < best:
                best, guesses = mse, _guess(model, fresh, range(len(fresh))).numpy()
    return guesses


@torch.inference_mode()
def _guess(model: PaperCNN, examples: Examples, indices: range | list[int]) -> Tensor:
    model.eval()
    found = []
    for at in range(0, len(indices), BATCH):
        part = list(indices[at : at + BATCH])
        trace, _ = examples.batch(part, torch.zeros(len(part), dtype=torch.long))
        found.append(model(trace.maps, trace.mask).sigmoid())
    return torch.cat(found)
