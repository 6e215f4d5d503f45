"""From a folder of shards to a probe: trained, calibrated, measured, written with its card."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.model.calibration import Calibration, conformal_margin, score_scale
from promptprobe.probe.model.card import Card, ProbeStep, ranges_of
from promptprobe.probe.model.checkpoint import Probe, save_probe
from promptprobe.probe.model.network import Network, Output
from promptprobe.probe.training.dataset import (
    Dataset,
    Groups,
    Splits,
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
    """Train on a folder of shards and write the probe's folder; the card comes back too.

    It holds for the settings of the shards alone; `validate` finds out about others.

    start: a probe whose weights training begins with.

    ValueError: broken shards, too little to learn from or to measure on, or an unfit start.
    """
    collection, examples = read_collection(shards), read_shards(shards)
    splits = split(examples, collection.targets[0])
    targets = tuple(scale(examples, splits.train, name) for name in collection.targets)
    dataset = Dataset(examples, targets)
    begun = WarmStart(start, collection.windows, collection.targets) if start else None
    network = fit(dataset, splits, config, checkpoint, start=begun)
    card = Card(
        model=collection.model,
        made_with=collection.facts,
        ranges=ranges_of(collection.facts),
        shape=network.shape,
        weights_sha256="0" * 64,
        targets=targets,
        windows=examine(network, dataset, splits, collection),
        candidates=sum(map(len, splits.train)),
        prompts=len(splits.train),
        start_sha256=begun and begun.mark,
    )
    return save_probe(out, network, card)


def examine(
    network: Network, dataset: Dataset, splits: Splits, collection: Collection
) -> tuple[ProbeStep, ...]:
    """By window, how sure the network may be, and figures on groups that chose nothing."""
    chosen, held_out = list(chain(*splits.selection)), list(chain(*splits.calibration))
    truth, scores = dataset.scores(chosen), dataset.scores(held_out)
    found = []
    for place, k in enumerate(collection.windows):
        known = dataset.predict(network, chosen, place), truth
        said = dataset.predict(network, held_out, place)
        alone = dataset.predict(network, held_out, place, blind=True)
        calibrations, figures = [], {}
        for at, target in enumerate(dataset.targets):
            calibration = calibrated(known, (said, scores), at)
            figures[target.name] = _figures(calibration, said, scores, at, splits.calibration) | {
                "within_pairwise_blind": rank_within(
                    alone.logit[:, at], scores[:, at], splits.calibration
                )
            }
            calibrations.append(calibration)
        look = dataset.batch(held_out, torch.full((len(held_out),), place)).look
        first = figures[dataset.targets[0].name]
        first["within_pairwise_preview"] = rank_within(look.score, scores[:, 0], splits.calibration)
        rounded = {name: _rounded(table) for name, table in figures.items()}
        found.append(ProbeStep(k=k, calibration=tuple(calibrations), figures=rounded))
    return tuple(found)


Said = tuple[Output, Tensor]
"""What the network says of some candidates, and their scores, [candidate, target], nan where
unscored."""


def calibrated(chosen: Said, held_out: Said, at: int) -> Calibration:
    """One target's: the scores' scale by candidates that chose the network, the interval's margin
    by others."""
    (said, scores), (fresh, truth) = chosen, held_out
    known, scored = ~scores[:, at].isnan(), ~truth[:, at].isnan()
    factor, offset = score_scale(said.logit[known, at].clone(), scores[known, at])
    low, high = (torch.sigmoid(x[scored, at]) for x in (fresh.low, fresh.high))
    margin = conformal_margin(truth[scored, at], low, high)
    return Calibration(factor=factor, offset=offset, margin=margin)


def _figures(
    calibration: Calibration, said: Output, scores: Tensor, at: int, groups: Groups
) -> dict[str, float]:
    score = scores[:, at]
    known = ~score.isnan()
    predictions = calibration.of(*said.target(at))
    both = torch.stack([predictions[0][known], score[known]])
    measured = measure(predictions, score, groups)
    return {
        "validation_prompts": float(len(groups)),
        "validation_candidates": float(known.sum()),
        "within_pairwise": measured.within_pairwise,
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
    predictions: tuple[Tensor, Tensor, Tensor], score: Float[Tensor, " candidate"], groups: Groups
) -> Measured:
    """Predicted scores, with the ends of their intervals, against the scores; nan: unscored."""
    predicted, low, high = predictions
    known = ~score.isnan()
    inside = (low <= score) & (score <= high)
    return Measured(
        rank_within(predicted, score, groups),
        float(inside[known].float().mean()),
        float((high - low)[known].mean()),
    )


def rank_within(
    predicted: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"], groups: Groups
) -> float:
    """Pairwise accuracy within the groups; an unscored candidate makes no pair."""
    kept = [[at for at in group if not score[at].isnan()] for group in places(groups)]
    return pairwise_accuracy(predicted.nan_to_num(), score, kept)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    """Those that are defined."""
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
