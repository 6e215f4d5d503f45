"""Trains a probe on a folder of shards, calibrates and measures it, and writes it with its card."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.model.calibration import Calibration, conformal_margin, score_scale
from promptprobe.probe.model.card import PREVIEW_RANK, RANK, Card, ProbeStep, ranges_of
from promptprobe.probe.model.checkpoint import Probe, save_probe
from promptprobe.probe.model.network import Network, Output
from promptprobe.probe.model.verdict import Comparison, compared, verdict
from promptprobe.probe.training.dataset import (
    Dataset,
    Groups,
    Splits,
    pair_credit,
    pairwise_accuracy,
    places,
    scale,
    split,
)
from promptprobe.probe.training.shards import Collection, read_collection, read_shards
from promptprobe.probe.training.trainer import TrainConfig, fit
from promptprobe.probe.training.warm_start import WarmStart


def train_probe(
    shards: Path,
    out: Path,
    config: TrainConfig,
    checkpoint: Path | None = None,
    start: Probe | None = None,
) -> Card:
    """Train on a folder of shards, write the probe's folder and return its card.

    The probe is valid only for the settings of the shards; `validate` checks others.

    start: a probe to start training from.

    ValueError: broken shards, too little data to train or measure on, or a start that does not fit.
    """
    collection, examples = read_collection(shards), read_shards(shards)
    splits = split(examples, collection.targets[0])
    targets = tuple(scale(examples, splits.train, name) for name in collection.targets)
    dataset = Dataset(examples, targets)
    warm_start = WarmStart(start, collection.windows, collection.targets) if start else None
    network = fit(dataset, splits, config, checkpoint, start=warm_start)
    windows = examine(network, dataset, splits, collection)
    first = {
        w.k: w.comparisons[name] for w in windows if (name := targets[0].name) in w.comparisons
    }
    card = Card(
        model=collection.model,
        made_with=collection.facts,
        ranges=ranges_of(collection.facts),
        shape=network.shape,
        weights_sha256="0" * 64,
        targets=targets,
        windows=windows,
        candidates=sum(map(len, splits.train)),
        prompts=len(splits.train),
        start_sha256=warm_start and warm_start.mark,
        verdict=verdict(first),
    )
    return save_probe(out, network, card)


def examine(
    network: Network, dataset: Dataset, splits: Splits, collection: Collection
) -> tuple[ProbeStep, ...]:
    """Calibration of each window, and figures on groups that selected nothing in training."""
    chosen, held_out = list(chain(*splits.selection)), list(chain(*splits.calibration))
    truth, scores = dataset.scores(chosen), dataset.scores(held_out)
    raw = dataset.raw_scores(held_out)
    found = []
    for place, k in enumerate(collection.windows):
        known = dataset.predict(network, chosen, place), truth
        output = dataset.predict(network, held_out, place)
        blind = dataset.predict(network, held_out, place, blind=True)
        previews = dataset.previews(held_out, place)
        calibrations, figures, comparisons = [], {}, {}
        for at, target in enumerate(dataset.targets):
            calibration, score = calibrated(known, (output, scores), at), raw[:, at]
            preview, truths = previews[:, at], (scores[:, at], score)
            figures[target.name] = _figures(
                calibration, output, *truths, at, splits.calibration
            ) | {
                "within_pairwise_blind": rank_within(blind.logit[:, at], score, splits.calibration),
                PREVIEW_RANK: rank_within(preview, score, splits.calibration),
            }
            if one := compare(output.logit[:, at], preview, score, splits.calibration):
                comparisons[target.name] = one
            calibrations.append(calibration)
        rounded = {name: _rounded(table) for name, table in figures.items()}
        found.append(
            ProbeStep(
                k=k, calibration=tuple(calibrations), figures=rounded, comparisons=comparisons
            )
        )
    return tuple(found)


Scored = tuple[Output, Tensor]
"""The network's output for some candidates and their scores, [candidate, target], nan where
unscored."""


def calibrated(chosen: Scored, held_out: Scored, at: int) -> Calibration:
    """Calibrate one target: the score's scale on candidates that selected the network, the
    interval's margin on others."""
    (output, scores), (unseen, truth) = chosen, held_out
    known, scored = ~scores[:, at].isnan(), ~truth[:, at].isnan()
    factor, offset = score_scale(output.logit[known, at].clone(), scores[known, at])
    low, high = (torch.sigmoid(x[scored, at]) for x in (unseen.low, unseen.high))
    margin = conformal_margin(truth[scored, at], low, high)
    return Calibration(factor=factor, offset=offset, margin=margin)


def _figures(
    calibration: Calibration, output: Output, score: Tensor, raw: Tensor, at: int, groups: Groups
) -> dict[str, float]:
    known = ~score.isnan()
    predictions = calibration.of(*output.target(at))
    both = torch.stack([predictions[0][known], score[known]])
    measured = measure(predictions, score, raw, groups)
    return {
        "validation_prompts": float(len(groups)),
        "validation_candidates": float(known.sum()),
        RANK: measured.within_pairwise,
        "pooled_pcc": float(torch.corrcoef(both)[0, 1]),
        "interval_width": measured.width,
    }


class Measured(NamedTuple):
    """How good predictions are on candidates that were scored."""

    within_pairwise: float
    """Pairwise accuracy within the groups."""
    coverage: float
    """Share of the scores inside their interval."""
    width: float
    """Mean width of the intervals."""


def measure(
    predictions: tuple[Tensor, Tensor, Tensor],
    score: Float[Tensor, " candidate"],
    raw: Float[Tensor, " candidate"],
    groups: Groups,
) -> Measured:
    """Measure predicted scores and the ends of their intervals; scores are nan where unscored."""
    predicted, low, high = predictions
    known = ~score.isnan()
    inside = (low <= score) & (score <= high)
    return Measured(
        rank_within(predicted, raw, groups),
        float(inside[known].float().mean()),
        float((high - low)[known].mean()),
    )


def rank_within(
    predicted: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"], groups: Groups
) -> float:
    """Pairwise accuracy within the groups, whose candidates are in order of the groups; nan if
    there are no predictions."""
    if predicted.isnan().all():
        return math.nan
    return pairwise_accuracy(predicted, score, places(groups))


def compare(
    predicted: Float[Tensor, " candidate"],
    preview: Float[Tensor, " candidate"],
    score: Float[Tensor, " candidate"],
    groups: Groups,
) -> Comparison | None:
    """Compare the probe's rank within the groups with the preview's; None if no two scores differ
    or no preview was scored."""
    if preview.isnan().all():
        return None
    rows = [
        (*pair_credit(predicted[group], score[group]), pair_credit(preview[group], score[group])[0])
        for group in places(groups)
    ]
    right, pairs, by_preview = np.array(rows, float).reshape(-1, 3).T
    return compared(right, by_preview, pairs)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    """Leave out undefined figures and round the others."""
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
