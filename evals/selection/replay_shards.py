"""A table from the shards of a training: predictions of previews, or of a probe, and final scores.

A probe predicts only prompts that it cannot have learned from: those that `promptprobe train` uses
neither for training nor for early stopping, whichever collection it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from promptprobe.evals.fidelity.gaps import equal_seeds
from promptprobe.evals.selection.replay_table import FEWEST, Table, checked
from promptprobe.evals.statistics import Floats
from promptprobe.probe.model.card import ProbeError
from promptprobe.probe.model.checkpoint import Probe, load_probe
from promptprobe.probe.training.dataset import splits_of
from promptprobe.probe.training.shards import (
    Collection,
    Row,
    read_collection,
    read_rows,
    read_shards,
    shards_of,
)
from promptprobe.tools.scorers.table import target_of

Known = tuple[Row, list[float | None]]
"""A candidate with its final score, followed by its predictions; None where missing."""


def previews_of(folder: Path, scorer: str | None) -> Table:
    """A scorer's scores of the previews of a collection, by prompt and seed.

    Prompts that lack a seed, a preview or the score are left out, as are steps without previews.

    ValueError: fewer than two prompts are complete, or the scorer is not among the targets.
    """
    collection = read_collection(folder)
    target = _target(folder, collection, scorer)
    place = collection.targets.index(target)
    rows = list(chain.from_iterable(map(read_rows, shards_of(folder))))
    judged = [
        at
        for at in range(len(collection.windows))
        if any(row.looks(collection.targets, at)[place] is not None for row in rows)
    ]
    known = [
        (
            row,
            [row.scores.get(target), *(row.looks(collection.targets, at)[place] for at in judged)],
        )
        for row in rows
    ]
    final, looks = _whole(folder, known)
    steps = [collection.windows[at] for at in judged]
    return checked(f"{folder.name} {target} preview", collection.facts.steps, steps, looks, final)


def predictions_of(folder: Path, scorer: str | None, probe: Path) -> Table:
    """What a probe predicts from the traces and previews of a collection's held-out prompts.

    ValueError: the probe is for another model or for none of the collection's steps, or fewer than
    two held-out prompts are complete.
    """
    collection, found = read_collection(folder), load_probe(probe)
    if found.card.made_with.weights != collection.facts.weights:
        raise ProbeError(
            f"{probe} was made for {found.card.model}, but {folder} was collected with "
            f"{collection.model}: their weights differ"
        )
    target = _target(folder, collection, scorer)
    steps = [k for k in collection.windows if k in {step.k for step in found.card.windows}]
    if not steps:
        raise ProbeError(f"{probe} was trained for other numbers of steps than {folder} holds")
    known = _predicted(folder, collection, found, found.target(target), steps)
    final, looks = _whole(folder, known)
    return checked(f"{folder.name} {target} probe", collection.facts.steps, steps, looks, final)


def _predicted(
    folder: Path, collection: Collection, probe: Probe, target: int, steps: list[int]
) -> list[Known]:
    examples, name = read_shards(folder), probe.card.targets[target].name
    held_out = list(chain(*splits_of(examples.rows).calibration))
    scores: list[list[float]] = [[] for _ in held_out]
    for k in steps:
        window = torch.full((len(held_out),), collection.windows.index(k))
        trace, look = examples.batch(held_out, window)
        for values, prediction in zip(scores, probe.predict(trace, k, look, target), strict=True):
            values.append(prediction.score)
    known = [(examples.rows[at], values) for at, values in zip(held_out, scores, strict=True)]
    return [(row, [row.scores.get(name), *values]) for row, values in known]


def _whole(folder: Path, known: Iterable[Known]) -> tuple[Floats, Floats]:
    """Final scores [prompt, seed] and looks [step, prompt, seed], with the number of seeds that
    keeps most candidates. A prompt may have more if it was listed twice or came from a run."""
    found: dict[str, list[list[float]]] = {}
    for row, values in known:
        if None not in values:
            found.setdefault(row.prompt, []).append(values)  # type: ignore[arg-type]
    counts = np.array([len(group) for group in found.values()])
    if (several := int((counts > 1).sum())) < 2:
        raise ValueError(f"{folder}: expected two prompts or more with all looks, found {several}")
    most = np.sort(counts)[-FEWEST:][0]
    seeds, [kept] = equal_seeds(np.arange(most) < counts[:, None])
    whole = [group[:seeds] for group, places in zip(found.values(), kept, strict=True) if places]
    stored = np.moveaxis(np.array(whole), 2, 0)
    return stored[0], stored[1:]


def _target(folder: Path, collection: Collection, scorer: str | None) -> str:
    if scorer is None:
        return collection.targets[0]
    for target in (scorer, target_of(scorer)):
        if target in collection.targets:
            return target
    raise ValueError(f"{folder} has no {scorer}; it has {', '.join(collection.targets)}")
