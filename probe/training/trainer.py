"""The training loop: epochs, checkpoints, early stopping, and the best network.

Every batch consists of whole groups (all seeds of a prompt), each after its own random number of
steps. On the same device and number of threads, a seed always gives the same network, even if the
training was killed and continued.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from promptprobe.probe.files import replacing
from promptprobe.probe.model.network import Network, NetworkConfig
from promptprobe.probe.training.dataset import (
    Dataset,
    Splits,
    drop_previews,
    pairwise_accuracy,
    places,
)
from promptprobe.probe.training.losses import Objective, loss
from promptprobe.probe.training.warm_start import WarmStart

GROUPS = 16
"""Prompts a batch; with 8 seeds each, 128 candidates."""
SAMPLE = 2048
"""Number of candidates used to standardize the input."""
FINE_TUNING_RATE = 0.25
"""Factor of the learning rate when training starts from another probe."""
PREVIEW_DROPOUT = 0.15
"""Share of groups shown without preview scores, so that the network can also work without."""


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of the training."""

    epochs: int = 30
    """Maximum number of epochs."""
    patience: int = 4
    """Epochs without a better rank on validation before stopping."""
    lr: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.99
    width: int = 24
    """Channels of the network."""
    seed: int = 0


def fit(
    dataset: Dataset,
    splits: Splits,
    config: TrainConfig,
    checkpoint: Path | None = None,
    objective: Objective = loss,
    start: WarmStart | None = None,
) -> Network:
    """Train; return the moving average of the weights from the epoch that ranked
    `splits.selection` best.

    With a `checkpoint` path, every epoch is saved there, and a checkpoint with the same examples,
    config and start is continued. ValueError: the start's shapes differ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trainer = _Trainer(dataset, splits, config, objective, start)
        mark = _mark(dataset, splits, config, start)
        if checkpoint and checkpoint.exists():
            trainer.load(checkpoint, mark)
        while trainer.goes_on:
            trainer.epoch()
            if checkpoint:
                trainer.save(checkpoint, mark)
        return trainer.kept.eval()


class _Trainer:
    """The state of a training between two epochs."""

    def __init__(
        self,
        dataset: Dataset,
        splits: Splits,
        config: TrainConfig,
        objective: Objective,
        start: WarmStart | None,
    ) -> None:
        self.dataset, self.splits, self.config, self.objective = dataset, splits, config, objective
        examples = dataset.examples
        self.network = Network(
            NetworkConfig(
                layers=len(examples.layers),
                channels=examples.x0.shape[2],
                dim=examples.embeddings.shape[1],
                windows=dataset.windows,
                targets=len(dataset.targets),
                width=config.width,
            )
        )
        known = list(chain(*splits.train))
        sample = [known[at] for at in torch.randperm(len(known))[:SAMPLE].tolist()]
        for window in range(dataset.windows):
            trace, _ = examples.batch(sample, torch.full((len(sample),), window))
            self.network.standardize(trace, window)
        if start:
            start.into(self.network)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        lr = config.lr * (FINE_TUNING_RATE if start else 1)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr, weight_decay=config.weight_decay
        )
        self.batches = math.ceil(len(splits.train) / GROUPS)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, lr, total_steps=config.epochs * self.batches, pct_start=0.1
        )
        self.done, self.best, self.since = 0, -1.0, 0
        self.kept = copy.deepcopy(self.network)

    @property
    def goes_on(self) -> bool:
        return self.done < self.config.epochs and self.since < self.config.patience

    def epoch(self) -> None:
        """Train on every group once, then rank the selection half."""
        self.network.train()
        title = f"epoch {self.done + 1} of at most {self.config.epochs}"
        for indices, group, window in tqdm(self._batches(), title, self.batches):
            batch = self.dataset.batch(indices, window)
            look = drop_previews(
                batch.look, (torch.rand(int(group[-1]) + 1) < PREVIEW_DROPOUT)[group]
            )
            output = self.network(batch.trace, look, window)
            value = self.objective(output, batch.scores, batch.words, group)
            self.optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.network)
        self.done += 1
        rank = self._rank()
        line = f"epoch {self.done}: loss {value.item():.3f}, validation pairwise {rank:.3f}"
        tqdm.write(line, file=sys.stderr)
        if rank > self.best:
            self.best, self.since = rank, 0
            self.kept.load_state_dict(self.average.module.state_dict())
        else:
            self.since += 1

    def _rank(self) -> float:
        """Pairwise accuracy of the first target on the selection half, averaged over windows."""
        selection, network = list(chain(*self.splits.selection)), self.average.module.eval()
        groups, truth = places(self.splits.selection), self.dataset.raw_scores(selection)[:, 0]
        ranks = []
        for window in range(self.dataset.windows):
            predicted = self.dataset.predict(network, selection, window).logit[:, 0]
            ranks.append(pairwise_accuracy(predicted, truth, groups))
        return sum(ranks) / len(ranks)

    def _batches(self) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Batches of whole groups in random order, with the group and window of each candidate."""
        groups = self.splits.train
        order = torch.randperm(len(groups)).tolist()
        for at in range(0, len(order), GROUPS):
            chosen = [groups[i] for i in order[at : at + GROUPS]]
            sizes = torch.tensor([len(group) for group in chosen])
            window = torch.randint(self.dataset.windows, (len(chosen),)).repeat_interleave(sizes)
            yield list(chain(*chosen)), torch.arange(len(chosen)).repeat_interleave(sizes), window

    def save(self, path: Path, mark: str) -> None:
        """Write a checkpoint atomically."""
        state = {name: getattr(self, name).state_dict() for name in LEARNING}
        counts = {name: getattr(self, name) for name in COUNTING}
        with replacing(path) as partial:
            torch.save(state | counts | {"mark": mark, "random": torch.get_rng_state()}, partial)

    def load(self, path: Path, mark: str) -> None:
        """Restore a checkpoint; one with other examples, config or start is ignored."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["mark"] != mark:
            return
        for name in LEARNING:
            getattr(self, name).load_state_dict(state[name])
        for name in COUNTING:
            setattr(self, name, state[name])
        torch.set_rng_state(state["random"])


LEARNING = ("network", "average", "optimizer", "schedule", "kept")
COUNTING = ("done", "best", "since")


def _mark(dataset: Dataset, splits: Splits, config: TrainConfig, start: WarmStart | None) -> str:
    """A hash of everything that a checkpoint depends on."""
    rows = dataset.examples.rows
    known = [(rows[i].prompt, rows[i].seed, rows[i].split) for i in chain(*splits.train)]
    start_mark = start and start.mark
    return sha256(repr((config, dataset.targets, known, start_mark)).encode()).hexdigest()
