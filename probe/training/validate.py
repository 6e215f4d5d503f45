"""Validates a probe for a setting that it was not made with.

The prompts and seeds that its intervals were calibrated on are drawn again, so only the setting
differs from the figures of its card.
"""

from __future__ import annotations

import math
from collections.abc import Collection as Held
from itertools import chain
from pathlib import Path

from promptprobe.probe.model.card import Check, Setting
from promptprobe.probe.model.checkpoint import Probe
from promptprobe.probe.training.dataset import Dataset, groups_of
from promptprobe.probe.training.shards import read_collection, read_shards
from promptprobe.probe.training.train_probe import measure

RANK_KEPT = 0.85
"""Share of the rank's lead over chance that must remain. With less, the preview would be as good:
it has .78 of that lead on Sprites-flow, after 5 of 25 steps."""
CHANCE = 0.5
SHORT = 0.03
"""How far coverage may fall short: twice the standard error of .9 with 400 candidates."""


def validate_setting(
    probe: Probe, shards: Path, drawn: Held[tuple[str, int]], setting: Setting, value: float
) -> Check:
    """Measure the probe on candidates that were drawn with one setting changed.

    Args:
        shards: the candidates; `Card.window_for` gives the window for each number of steps.
        drawn: prompts and seeds to use.

    ValueError: the shards are broken or from another model.
    """
    card, collection, examples = probe.card, read_collection(shards), read_shards(shards)
    groups = [
        [i for i in group if (examples.rows[i].prompt, examples.rows[i].seed) in drawn]
        for group in groups_of(examples.rows)
    ]
    dataset, first = Dataset(examples, card.targets), card.targets[0].name
    chosen = list(chain(*groups))
    score, raw = dataset.scores(chosen)[:, 0], dataset.raw_scores(chosen)[:, 0]
    measured = []
    for window, k in enumerate(collection.windows):
        place = card.place(card.window_for(k, collection.facts))
        home = card.windows[place].figures.get(first, {}).get("within_pairwise", math.nan)
        logits = dataset.predict(probe.network, chosen, window, network_step=place).target(0)
        predictions = card.windows[place].calibration[0].of(*logits)
        measured.append((home, *measure(predictions, score, raw, groups)))
    home, rank, coverage, width = (sum(one) / len(one) for one in zip(*measured, strict=True))
    return Check(
        setting=setting,
        value=value,
        holds=rank - CHANCE >= RANK_KEPT * (home - CHANCE) and coverage >= card.coverage - SHORT,
        candidates=int((~score.isnan()).sum()),
        within_pairwise=_defined(rank),
        within_pairwise_home=_defined(home),
        coverage=_defined(coverage),
        interval_width=_defined(width),
    )


def _defined(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
