"""From a folder of shards to a probe: trained, calibrated, measured, written with its card."""

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
        start_sha256=begun and begun.mark,
        verdict=verdict(first),
    )
    return save_probe(out, network, card)


def examine(
    network: Network, dataset: Dataset, splits: Splits, collection: Collection
) -> tuple[ProbeStep, ...]:
    """By window, how sure the network may be, and figures on groups that chose nothing."""
    chosen, held_out = list(chain(*splits.selection)), list(chain(*splits.calibration))
    truth, scores = dataset.scores(chosen), dataset.scores(held_out)
    raw = dataset.raw_scores(held_out)
    found = []
    for place, k in enumerate(collection.windows):
        known = dataset.predict(network, chosen, place), truth
        said = dataset.predict(network, held_out, place)
        alone = dataset.predict(network, held_out, place, blind=True)
        previews = dataset.previews(held_out, place)
        calibrations, figures, comparisons = [], {}, {}
        for at, target in enumerate(dataset.targets):
            calibration, score = calibrated(known, (said, scores), at), raw[:, at]
            seen, truths = previews[:, at], (scores[:, at], score)
            figures[target.name] = _figures(calibration, said, *truths, at, splits.calibration) | {
                "within_pairwise_blind": rank_within(alone.logit[:, at], score, splits.calibration),
                PREVIEW_RANK: rank_within(seen, score, splits.calibration),
            }
            if one := compare(said.logit[:, at], seen, score, splits.calibration):
                comparisons[target.name] = one
            calibrations.append(calibration)
        rounded = {name: _rounded(table) for name, table in figures.items()}
        found.append(
            ProbeStep(
                k=k, calibration=tuple(calibrations), figures=rounded, comparisons=comparisons
            )
        )
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
    calibration: Calibration, said: Output, score: Tensor, raw: Tensor, at: int, groups: Groups
) -> dict[str, float]:
    known = ~score.isnan()
    predictions = calibration.of(*said.target(at))
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
    """Predicted scores, with the ends of their intervals, against the scores; nan: unscored."""
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
    """Pairwise accuracy within the groups, by their candidates' places in the chain of all; nan
    where nothing was predicted."""
    if predicted.isnan().all():
        return math.nan
    return pairwise_accuracy(predicted, score, places(groups))


def compare(
    predicted: Float[Tensor, " candidate"],
    preview: Float[Tensor, " candidate"],
    score: Float[Tensor, " candidate"],
    groups: Groups,
) -> Comparison | None:
    """A probe's and the preview's rank within the groups; None where no two scores differ, or no
    preview was scored."""
    if preview.isnan().all():
        return None
    rows = [
        (*pair_credit(predicted[group], score[group]), pair_credit(preview[group], score[group])[0])
        for group in places(groups)
    ]
    right, pairs, by_preview = np.array(rows, float).reshape(-1, 3).T
    return compared(right, by_preview, pairs)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    """Those that are defined."""
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
