"""From a folder of shards to a probe: trained, calibrated, measured, written with its card."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.calibration import calibrated, conformal_margin, score_scale
from promptprobe.probe.card import Card, Window, ranges_of
from promptprobe.probe.lessons import Groups, School, pairwise_accuracy, places, scale, split
from promptprobe.probe.network import Network
from promptprobe.probe.prediction import Probe, save_probe
from promptprobe.probe.shards import Collection, read_collection, read_shards
from promptprobe.probe.start import Start
from promptprobe.probe.training import Plan, fit


def make_probe(
    shards: Path,
    out: Path,
    plan: Plan,
    checkpoint: Path | None = None,
    start: Probe | None = None,
) -> Card:
    """Train on a folder of shards and write the probe's folder; the card comes back too.

    It holds for the settings of the shards alone; `checking` finds out about others.

    start: a probe whose weights training begins with.

    ValueError: broken shards, too little to learn from or to measure on, or an unfit start.
    """
    collection, examples = read_collection(shards), read_shards(shards)
    parts = split(examples, collection.targets[0])
    targets = tuple(scale(examples, parts.train, name) for name in collection.targets)
    school = School(examples, targets)
    begun = Start(start, collection.windows, collection.targets) if start else None
    network = fit(school, parts, plan, checkpoint, start=begun)
    rescale(network, school, parts.selection)
    card = Card(
        model=collection.model,
        made_with=collection.facts,
        ranges=ranges_of(collection.facts),
        shape=network.shape,
        weights_sha256="0" * 64,
        targets=targets,
        windows=examine(network, school, parts.calibration, collection),
        candidates=sum(map(len, parts.train)),
        prompts=len(parts.train),
        start_sha256=begun and begun.mark,
    )
    return save_probe(out, network, card)


def rescale(network: Network, school: School, groups: Groups) -> None:
    """Make the scores as sure as they are right on these groups, over all windows."""
    chosen = list(chain(*groups))
    score = school.scores(chosen).repeat(school.windows, 1)
    logit = torch.cat(
        [school.predict(network, chosen, window).logit for window in range(school.windows)]
    ).clone()
    for at in range(len(school.targets)):
        known = ~score[:, at].isnan()
        factor, offset = score_scale(logit[known, at], score[known, at])
        network.rescale(at, factor, offset)


def examine(
    network: Network, school: School, groups: Groups, collection: Collection
) -> tuple[Window, ...]:
    """Margins of the intervals and figures, by window, on groups that chose nothing."""
    held_out = list(chain(*groups))
    found = []
    for place, k in enumerate(collection.windows):
        batch = school.batch(held_out, torch.full((len(held_out),), place))
        output = school.predict(network, held_out, place)
        alone = school.predict(network, held_out, place, blind=True)
        margins, figures = [], {}
        for at, target in enumerate(school.targets):
            columns = (output.logit, output.low, output.high, alone.logit, batch.scores)
            logit, low, high, blind, score = (table[:, at] for table in columns)
            known = ~score.isnan()
            predicted = torch.sigmoid(logit)
            margin = conformal_margin(score[known], low[known], high[known])
            low, high = calibrated(predicted, low, high, margin)
            figures[target.name] = _figures(predicted, score, groups) | {
                "within_pairwise_blind": rank_within(blind, score, groups),
                "interval_width": float((high - low)[known].mean()),
            }
            if at == 0:
                rank = rank_within(batch.look.score, score, groups)
                figures[target.name]["within_pairwise_preview"] = rank
            margins.append(margin)
        rounded = {name: _rounded(table) for name, table in figures.items()}
        found.append(Window(k=k, margins=tuple(margins), figures=rounded))
    return tuple(found)


def _figures(
    predicted: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"], groups: Groups
) -> dict[str, float]:
    known = ~score.isnan()
    both = torch.stack([predicted[known], score[known]])
    return {
        "validation_prompts": float(len(groups)),
        "validation_candidates": float(known.sum()),
        "within_pairwise": rank_within(predicted, score, groups),
        "pooled_pcc": float(torch.corrcoef(both)[0, 1]),
    }


def rank_within(
    predicted: Float[Tensor, " candidate"], score: Float[Tensor, " candidate"], groups: Groups
) -> float:
    """Pairwise accuracy within the groups; an unscored candidate makes no pair."""
    kept = [[at for at in group if not score[at].isnan()] for group in places(groups)]
    return pairwise_accuracy(predicted.nan_to_num(), score, kept)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    """Those that are defined."""
    return {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
