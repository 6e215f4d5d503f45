"""A collection's candidates as the tables of an eval, read from shards instead of drawn.

The shards hold traces in half precision, as training reads them, the scorer's scores of previews,
and final scores. Finished images are drawn again only for judges whose scores the shards lack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from promptprobe.evals.bench import Bench, Judge
from promptprobe.evals.fidelity.rollouts import Rollouts, View
from promptprobe.evals.sampling import grade, sample, with_gaps
from promptprobe.evals.statistics import Floats
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.scorers.table import target_of

if TYPE_CHECKING:
    from promptprobe.probe.training.shards import Examples, PreviewScores, Row

SURE = 0.5
"""Chance from which a word counts as drawn in a preview."""


def stored(
    bench: Bench,
    shards: Path,
    tables: Sequence[list[Brief]],
    seeds: int,
    windows: Sequence[int],
) -> list[Rollouts]:
    """The candidates of each table's briefs, with the first `seeds` seeds of each.

    Args:
        windows: numbers of steps, all of them windows of the collection.

    Raises:
        ValueError: the shards are missing or broken.
    """
    from promptprobe.probe.training.shards import read_collection, read_shards

    examples, places = read_shards(shards), read_collection(shards).windows
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for at in sorted(range(len(examples)), key=lambda at: examples.rows[at].seed):
        by_prompt[examples.rows[at].prompt].append(at)
    chosen = [places.index(k) for k in windows]
    return [
        _table(
            bench,
            briefs,
            examples.take([at for one in briefs for at in by_prompt[one.text][:seeds]], chosen),
            windows,
        )
        for briefs in tables
    ]


def _table(
    bench: Bench, briefs: list[Brief], examples: Examples, windows: Sequence[int]
) -> Rollouts:
    rows, seeds = examples.rows, len(examples) // len(briefs)
    finished = [_finished(row, bench.target) for row in rows]
    wanted = dict(bench.further)
    if second := bench.grader != bench.scorer:
        wanted[target_of(bench.grader)] = bench.judge
    scores = _scores(bench, briefs, rows, wanted)
    return Rollouts(
        briefs,
        [(row.prompt, row.seed) for row in rows],
        [finished[at : at + seeds] for at in range(0, len(rows), seeds)],
        {k: _view(bench, examples, place, k) for place, k in enumerate(windows)},
        examples,
        {name: scores[name] for name in bench.further},
        scores[target_of(bench.grader)] if second else None,
    )


def _view(bench: Bench, examples: Examples, place: int, k: int) -> View:
    """The stored scores of the previews after k steps, and the probe's predictions from now."""
    looks = [_look(row, row.previews[place]) for row in examples.rows]
    probe, window = bench.probe_at(k)
    if probe is None:
        return View(looks, [], [])
    indices = range(len(examples))
    trace, look = examples.batch(indices, torch.full((len(indices),), place))
    return View(looks, probe.predict(trace, window, look), probe.predict(trace, window))


def _scores(
    bench: Bench, briefs: list[Brief], rows: Sequence[Row], wanted: Mapping[str, Judge]
) -> dict[str, Floats]:
    """Final scores [prompt, seed] by name: stored ones, or those of images that are drawn again."""
    found, shape = {}, (len(briefs), -1)
    for name in wanted:
        if any(name in row.scores for row in rows):
            found[name] = np.array([row.scores.get(name, np.nan) for row in rows]).reshape(shape)
    if left := {name: judge for name, judge in wanted.items() if name not in found}:
        pairs = [(row.prompt, row.seed) for row in rows]
        images = sample(bench, pairs, label="images, for judges whose scores are missing").images
        found |= {name: with_gaps(grade(judge, briefs, images)) for name, judge in left.items()}
    return found


def _finished(row: Row, target: str) -> Score:
    """The scorer's score of a finished image, as far as it is stored."""
    value = row.scores.get(target)
    if value is None:
        return Score(reason=row.explanation or "no score is stored")
    drawn = zip(row.words, row.drawn, strict=True)
    words = [Verdict(word=word, ok=ok, chance=float(ok)) for word, ok in drawn if ok is not None]
    return Score(value=value, correct=row.correct, explanation=row.explanation, words=tuple(words))


def _look(row: Row, look: PreviewScores) -> Score:
    """The scorer's score of a preview, as far as it is stored."""
    if look.score is None:
        return Score(reason="no score of this preview is stored")
    chances = zip(row.words, look.words, strict=True)
    words = [Verdict(word=word, ok=x >= SURE, chance=x) for word, x in chances if x is not None]
    return Score(value=look.score, words=tuple(words))
