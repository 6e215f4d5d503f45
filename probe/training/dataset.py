"""The training dataset: examples split by scene, with scaled scores, in batches.

Choosing among the seeds of one prompt depends on the rank within the prompt, so candidates stay in
groups: all seeds of a prompt. Validation scenes are split in halves: one decides when training
stops, the other calibrates the intervals and gives the card's figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from promptprobe.probe.model.card import Target
from promptprobe.probe.model.network import Output, PreviewScore
from promptprobe.probe.trace import Trace
from promptprobe.probe.training.shards import Examples, Row, padded

Groups = list[list[int]]


@dataclass(frozen=True)
class Splits:
    """Groups of candidates (the seeds of one prompt), by purpose."""

    train: Groups
    selection: Groups
    """Decides when to stop."""
    calibration: Groups
    """Calibrates intervals and gives the card's figures."""


def groups_of(rows: Sequence[Row]) -> Groups:
    """Group candidates by scene and prompt, in an order that does not depend on the shards."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda i: (rows[i].scene, rows[i].prompt, i)):
        row = rows[index]
        groups.setdefault((row.split, row.scene, row.prompt), []).append(index)
    return [sorted(group, key=lambda i: rows[i].seed) for group in groups.values()]


def split(examples: Examples, target: str) -> Splits:
    """Groups for training, early stopping and calibration.

    ValueError: one of the three has no prompt whose seeds differ in the target's score.
    """
    splits = splits_of(examples.rows)
    for name, found in asdict(splits).items():
        scores = [{examples.rows[i].scores.get(target) for i in group} - {None} for group in found]
        if all(len(distinct) < 2 for distinct in scores):
            raise ValueError(
                f"no prompt for {name} has two seeds with different scores ({len(found)} prompts):"
                f" collect more prompts, or more seeds of each (validation is split in halves)"
                f"{_unscored(examples.rows, target)}"
            )
    return splits


def _unscored(rows: Sequence[Row], target: str) -> str:
    """How many candidates lack a score, and why; empty if none does."""
    missing = [row for row in rows if target not in row.scores]
    if not missing:
        return ""
    why = next((f" ({row.explanation})" for row in missing if row.explanation), "")
    return f"; {len(missing)} of {len(rows)} candidates have no {target}{why}"


def splits_of(rows: Sequence[Row]) -> Splits:
    """`split` without checking scores. A scene with the same prompt in both train and validation is
    used for training only."""
    splits = Splits([], [], [])
    groups = groups_of(rows)
    first = [rows[group[0]] for group in groups]
    known = {(row.scene, row.prompt) for row in first if row.split == "train"}
    for group, row in zip(groups, first, strict=True):
        if row.split == "train":
            splits.train.append(group)
        elif row.split == "validation" and (row.scene, row.prompt) not in known:
            (splits.calibration if calibrates(row.scene) else splits.selection).append(group)
    return splits


def calibrates(scene: str) -> bool:
    """Whether a validation scene belongs to the calibration half."""
    return sha256(scene.encode()).digest()[0] % 2 == 1


def scale(examples: Examples, train: Groups, name: str) -> Target:
    """A target's range and median on the training split. ValueError: all its scores are equal."""
    found = [examples.rows[i].scores.get(name) for i in chain(*train)]
    scores = torch.tensor([score for score in found if score is not None])
    if len(scores) == 0 or scores.min() == scores.max():
        raise ValueError(f"the {name} is the same for all of {len(scores)} training candidates")
    return Target(
        name=name,
        low=float(scores.min()),
        high=float(scores.max()),
        median=float(scores.median()),
    )


@dataclass(frozen=True)
class Batch:
    """The network's inputs for some candidates, and their labels."""

    trace: Trace
    look: PreviewScore
    scores: Float[Tensor, "batch target"]
    """On the targets' scales 0 .. 1; nan where unscored."""
    words: Float[Tensor, "batch word"]
    """1 if drawn as asked, 0 if not, nan if unknown."""


@dataclass(frozen=True)
class Dataset:
    """Examples and the scales of the targets to learn."""

    examples: Examples
    targets: tuple[Target, ...]

    @property
    def windows(self) -> int:
        return len(self.examples.maps)

    def batch(self, indices: Sequence[int], window: Int[Tensor, " batch"]) -> Batch:
        """These candidates, each after the steps of its window."""
        trace, look = self.examples.batch(indices, window)
        rows = [self.examples.rows[i] for i in indices]
        return Batch(
            trace,
            look._replace(score=self.targets[0].share(look.score)),
            self.scores(indices),
            padded([row.drawn for row in rows], trace.mask.shape[1]),
        )

    def scores(self, indices: Sequence[int]) -> Float[Tensor, "candidate target"]:
        """On the targets' scales 0 .. 1; nan where unscored. Scores outside the training range are
        clamped and tie there, so seeds are ranked by `raw_scores`."""
        raw = self.raw_scores(indices)
        return torch.stack(
            [t.share(x) for t, x in zip(self.targets, raw.unbind(1), strict=True)], 1
        )

    def raw_scores(self, indices: Sequence[int]) -> Float[Tensor, "candidate target"]:
        """On the judges' own scales; nan where unscored."""
        names = [target.name for target in self.targets]
        return padded([[self.examples.rows[i].scores.get(name) for name in names] for i in indices])

    def previews(self, indices: Sequence[int], window: int) -> Float[Tensor, "candidate target"]:
        """Each target's scores of the previews, on the judge's scale; nan where unscored."""
        names = [target.name for target in self.targets]
        return padded([self.examples.rows[i].looks(names, window) for i in indices])

    @torch.inference_mode()
    def predict(
        self,
        network: nn.Module,
        indices: Sequence[int],
        window: int,
        *,
        network_step: int | None = None,
        blind: bool = False,
    ) -> Output:
        """The network's output for these candidates after one window's steps, with padded words.

        network_step: index of the window that the network is given; None for the same.
        """
        found = []
        place = window if network_step is None else network_step
        for at in range(0, len(indices), 128):
            part = indices[at : at + 128]
            batch = self.batch(part, torch.full((len(part),), window))
            look = drop_previews(batch.look, torch.full((len(part),), blind))
            found.append(network(batch.trace, look, torch.full((len(part),), place)))
        most = max(output.words.shape[1] for output in found)
        words = [nn.functional.pad(o.words, (0, most - o.words.shape[1])) for o in found]
        return Output(
            torch.cat([output.logit for output in found]),
            torch.cat([output.low for output in found]),
            torch.cat([output.high for output in found]),
            torch.cat(words),
        )


def drop_previews(look: PreviewScore, blind: Tensor) -> PreviewScore:
    """Remove the preview scores of the candidates that `blind`, [batch], marks."""
    return PreviewScore(
        look.score.masked_fill(blind, torch.nan),
        look.words.masked_fill(blind[:, None], torch.nan),
    )


def pairwise_accuracy(
    predicted: Float[Tensor, " candidate"],
    score: Float[Tensor, " candidate"],
    groups: Sequence[Sequence[int]],
) -> float:
    """Share of the groups' untied pairs ranked correctly (see `pair_credit`); nan if no pair is."""
    found = [pair_credit(predicted[list(group)], score[list(group)]) for group in groups]
    pairs = sum(untied for _, untied in found)
    return sum(right for right, _ in found) / pairs if pairs else math.nan


def pair_credit(
    predicted: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"]
) -> tuple[float, int]:
    """Count one prompt's pairs of seeds: those ranked correctly, and those that differ in score.

    Tied and nan predictions count half; an unscored candidate makes no pair.
    """
    above = (score[:, None] - score[None]) > 0
    guess = predicted[:, None] - predicted[None]
    right = (guess > 0) + 0.5 * ((guess == 0) | guess.isnan())
    return float(right[above].sum()), int(above.sum())


def places(groups: Groups) -> Groups:
    """The groups with each candidate replaced by its index in the concatenation of all groups."""
    numbers = iter(range(sum(map(len, groups))))
    return [[next(numbers) for _ in group] for group in groups]
