"""From shards of traces to a probe: `python -m promptprobe.probe.training --shards DIR --out DIR`.

Choosing among the seeds of one prompt needs the rank within the prompt, so every batch is made of
whole groups (all seeds of a prompt). Validation scenes are halved by scene: one half stops the
training and joins the network with the preview, the other calibrates the interval and gives the
card's figures. The same seed gives the same probe on the same device with as many threads.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from promptprobe.probe.calibration import calibrated, conformal_margin
from promptprobe.probe.card import Card, save_probe
from promptprobe.probe.losses import loss
from promptprobe.probe.network import Network, Shape
from promptprobe.probe.shards import Examples, read_collection, read_shards
from promptprobe.probe.stacking import Stack, fit_stack

GROUPS = 16
"""Prompts a batch; with 8 seeds each, 128 candidates."""
SAMPLE = 2048
"""Candidates that the means and deviations of the input are taken from."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast."""

    epochs: int = 20
    """At most."""
    patience: int = 4
    """Epochs without a better rank on validation before stopping."""
    lr: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.99
    seed: int = 0


def groups_of(examples: Examples, indices: Sequence[int]) -> list[list[int]]:
    """Candidates of the same scene and prompt together, in order of appearance."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in indices:
        row = examples.rows[index]
        groups.setdefault((row.scene, row.prompt), []).append(index)
    return list(groups.values())


def pairwise_accuracy(
    predicted: Float[Tensor, " candidate"],
    score: Float[Tensor, " candidate"],
    groups: Sequence[Sequence[int]],
) -> float:
    """Share of groups' untied pairs ranked right, tied predictions half; nan: no such pair."""
    right, pairs = 0.0, 0
    for group in groups:
        truth = score[list(group)][:, None] - score[list(group)][None]
        guess = predicted[list(group)][:, None] - predicted[list(group)][None]
        above = truth > 0
        right += float(((guess > 0) + 0.5 * (guess == 0))[above].sum())
        pairs += int(above.sum())
    return right / pairs if pairs else math.nan


@torch.inference_mode()
def predict(
    network: nn.Module, examples: Examples, indices: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Score and raw interval, low and high, of these candidates: three times [candidate]."""
    parts = [network(examples.batch(indices[at : at + 128])) for at in range(0, len(indices), 128)]
    logit, low, high = (torch.cat(part) for part in zip(*parts, strict=True))
    return torch.sigmoid(logit), low, high


@dataclass(frozen=True)
class Trained:
    """All that a card and its weights say."""

    network: Network
    """Of the epoch that ranked validation best."""
    stack: Stack
    margin: float
    figures: dict[str, float]
    """On validation."""
    groups: list[list[int]]
    """The candidates that it was trained on."""


def train(examples: Examples, plan: Plan, width: int = 24) -> Trained:
    """Train the network, join it with the preview, calibrate the interval.

    ValueError: the training or a half of the validation split has no prompt whose seeds differ.
    """
    parts = _split(examples)
    shape = Shape(
        layers=examples.maps.shape[1],
        channels=examples.x0.shape[1],
        dim=examples.embeddings.shape[1],
        width=width,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = _fit(Network(shape), examples, parts, plan)
    return _finish(network, examples, parts)


def _finish(network: Network, examples: Examples, parts: dict[str, list[list[int]]]) -> Trained:
    """Stack on one half of validation; calibrate and measure on the other."""
    chosen_on, held_out = list(chain(*parts["selection"])), list(chain(*parts["calibration"]))
    group = torch.repeat_interleave(torch.tensor([len(group) for group in parts["selection"]]))
    alone, _, _ = predict(network, examples, chosen_on)
    seen, score = _previews(examples, chosen_on), _scores(examples, chosen_on)
    stack = fit_stack(alone, seen, score, group)

    alone, low, high = predict(network, examples, held_out)
    seen, score = _previews(examples, held_out), _scores(examples, held_out)
    predicted, low, high = (stack(view, seen) for view in (alone, low, high))
    margin = conformal_margin(score, low, high)
    low, high = calibrated(predicted, low, high, margin)
    places = _places(examples, held_out)
    figures = _figures(predicted, score, places) | {
        "within_pairwise_network_alone": pairwise_accuracy(alone, score, places),
        "within_pairwise_preview_alone": pairwise_accuracy(seen, score, places),
        "interval_width": float((high - low).mean()),
    }
    figures = {name: round(value, 4) for name, value in figures.items()}
    return Trained(network, stack, margin, figures, parts["train"])


def _split(examples: Examples) -> dict[str, list[list[int]]]:
    """Groups to train on, to stop by, and to calibrate on.

    A prompt that both splits hold (one object: only the seeds are new) is trained on as a whole.
    """
    parts: dict[str, list[list[int]]] = {"train": [], "selection": [], "calibration": []}
    for group in groups_of(examples, range(len(examples))):
        row = examples.rows[group[0]]
        if row.split == "train":
            parts["train"].append(group)
        elif row.split == "validation":
            odd = sha256(row.scene.encode()).digest()[0] % 2
            parts["calibration" if odd else "selection"].append(group)
    for name, groups in parts.items():
        if all(len({examples.rows[i].score for i in group}) < 2 for group in groups):
            raise ValueError(
                f"no prompt for {name} has two seeds with different scores ({len(groups)} prompts):"
                " collect more candidates of that split (train; validation for the other two)"
            )
    return parts


def _fit(
    network: Network, examples: Examples, parts: dict[str, list[list[int]]], plan: Plan
) -> Network:
    """The moving average of the weights, from the epoch that ranked validation best."""
    trained_on = list(chain(*parts["train"]))
    order = torch.randperm(len(trained_on))[:SAMPLE].tolist()
    network.standardize(examples.batch([trained_on[at] for at in order]))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), plan.lr, weight_decay=plan.weight_decay)
    batches = math.ceil(len(parts["train"]) / GROUPS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.lr, total_steps=plan.epochs * batches, pct_start=0.1
    )
    watched = list(chain(*parts["selection"]))
    groups = _places(examples, watched)
    best, since = -1.0, 0
    kept: nn.Module = network
    began = time.monotonic()
    for epoch in range(plan.epochs):
        network.train()
        bar = tqdm(_batches(parts["train"]), f"epoch {epoch + 1}/{plan.epochs}", batches)
        for done, (indices, group) in enumerate(bar, 1):
            value = loss(network(examples.batch(indices)), _scores(examples, indices), group)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            if epoch == 0 and done == min(5, batches):
                minutes = (time.monotonic() - began) / done * batches * plan.epochs / 60
                bar.write(f"{len(trained_on)} candidates; at most {minutes:.1f} minutes")
        predicted, _, _ = predict(average.module.eval(), examples, watched)
        rank = pairwise_accuracy(predicted, _scores(examples, watched), groups)
        tqdm.write(f"epoch {epoch + 1}: loss {value.item():.3f}, validation pairwise {rank:.3f}")
        if rank > best:
            best, since, kept = rank, 0, copy.deepcopy(average.module)
        elif (since := since + 1) >= plan.patience:
            break
    assert isinstance(kept, Network)
    return kept.eval()


def _batches(groups: list[list[int]]) -> Iterator[tuple[list[int], Int[Tensor, " batch"]]]:
    """Whole groups in a new order, with the group of each candidate."""
    order = torch.randperm(len(groups)).tolist()
    for at in range(0, len(order), GROUPS):
        chosen = [groups[i] for i in order[at : at + GROUPS]]
        sizes = torch.tensor([len(group) for group in chosen])
        yield list(chain(*chosen)), torch.arange(len(chosen)).repeat_interleave(sizes)


def _scores(examples: Examples, indices: Sequence[int]) -> Float[Tensor, " batch"]:
    return torch.tensor([examples.rows[i].score for i in indices], dtype=torch.float32)


def _previews(examples: Examples, indices: Sequence[int]) -> Float[Tensor, " batch"]:
    return torch.tensor([examples.rows[i].preview for i in indices], dtype=torch.float32)


def _places(examples: Examples, indices: Sequence[int]) -> list[list[int]]:
    """Groups of these candidates, as positions in `indices`."""
    place = {index: at for at, index in enumerate(indices)}
    return [[place[index] for index in group] for group in groups_of(examples, indices)]


def _figures(
    predicted: Float[Tensor, " candidate"],
    score: Float[Tensor, " candidate"],
    groups: list[list[int]],
) -> dict[str, float]:
    """Of validation candidates that chose nothing; those that are defined."""
    figures = {
        "validation_prompts": float(len(groups)),
        "validation_candidates": float(len(score)),
        "within_pairwise": pairwise_accuracy(predicted, score, groups),
        "pooled_pcc": float(torch.corrcoef(torch.stack([predicted, score]))[0, 1]),
        "mse": float(F.mse_loss(predicted, score)),
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def make_probe(shards: Path, out: Path, plan: Plan) -> Card:
    """Train on a folder of shards and write the probe folder."""
    collection = read_collection(shards)
    examples = read_shards(shards)
    trained = train(examples, plan)
    trained_on = list(chain(*trained.groups))
    card = Card(
        model=collection.model,
        ranges=collection.facts,
        shape=trained.network.shape,
        weights_sha256="0" * 64,
        target=collection.target,
        stack=trained.stack,
        candidates=len(trained_on),
        prompts=len(trained.groups),
        median=float(_scores(examples, trained_on).median()),
        margin=trained.margin,
        figures=trained.figures,
    )
    return save_probe(out, trained.network, card)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a probe on shards of traces.")
    parser.add_argument("--shards", type=Path, required=True, help="written by tools.collect")
    parser.add_argument("--out", type=Path, required=True, help="folder of the probe")
    parser.add_argument("--epochs", type=int, default=Plan.epochs, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        plan = Plan(epochs=options.epochs, seed=options.seed)
        card = make_probe(options.shards, options.out, plan)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(card.model_dump_json(indent=1, exclude={"ranges": {"layers"}}))
    print(f"probe in {options.out}")


if __name__ == "__main__":
    main()
