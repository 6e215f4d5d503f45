"""Every candidate of an eval, drawn in one pass, with its previews, predictions and final scores.

Rows are briefs and columns their seeds; flat lists are ordered by brief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from promptprobe.evals.bench import Bench
from promptprobe.evals.sampling import grade, grid, sample, with_gaps
from promptprobe.evals.statistics import Floats
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.predictions import drawn, seen
from promptprobe.tools.records import Score

if TYPE_CHECKING:
    from promptprobe.tools.collect.rollout import Pair, Rollout

TARGET = "score"


@dataclass(frozen=True)
class View:
    """Scores and predictions of all candidates after a number of steps."""

    seen: list[Score]
    """The scorer's scores of the previews, against the prompt."""
    predictions: list[Any]
    """The probe's predictions with preview scores; empty without a probe for this many steps."""
    blind: list[Any]
    """The probe's predictions without preview scores."""


@dataclass(frozen=True)
class Rollouts:
    """A table of candidates, briefs x seeds."""

    briefs: list[Brief]
    pairs: list[Pair]
    judged: list[list[Score]]
    """The scorer's scores of the finished images, which are to be predicted."""
    views: dict[int, View]
    """By number of steps."""
    examples: Any
    """The candidates as `probe.training.shards.Examples`, for networks."""
    further: dict[str, Floats] = field(default_factory=dict)
    """Scores by the judges of the probe's other targets, [prompt, seed]."""
    graded: Floats | None = None
    """Scores by the second judge, [prompt, seed]; None without one."""

    @cached_property
    def scores(self) -> Floats:
        """[prompt, seed]."""
        return with_gaps(self.judged)

    @cached_property
    def groups(self) -> Floats:
        """The row number of each candidate, [candidate]."""
        return np.repeat(np.arange(len(self.briefs)), self.scores.shape[1]).astype(float)

    @property
    def words(self) -> list[tuple[str, ...]]:
        """The traced words of each candidate."""
        return [row.words for row in self.examples.rows]

    def shaped(self, flat: Sequence[float] | Floats) -> Floats:
        """Reshape one number for each candidate to [prompt, seed]."""
        return np.asarray(flat, float).reshape(self.scores.shape)

    def part(self, seeds: Sequence[Sequence[int]]) -> Rollouts:
        """The given seeds of each prompt, equally many; prompts without any are dropped."""
        width = self.scores.shape[1]
        kept = [row for row, places in enumerate(seeds) if places]
        flat = [row * width + place for row in kept for place in seeds[row]]

        def of(table: Floats) -> Floats:
            return np.asarray(table.ravel()[flat].reshape(len(kept), -1), float)

        def each(found: list[Any]) -> list[Any]:
            return [found[at] for at in flat] if found else []

        return Rollouts(
            [self.briefs[row] for row in kept],
            each(self.pairs),
            [[self.judged[row][place] for place in seeds[row]] for row in kept],
            {
                k: View(each(view.seen), each(view.predictions), each(view.blind))
                for k, view in self.views.items()
            },
            self.examples.take(flat, range(len(self.views))),
            {name: of(table) for name, table in self.further.items()},
            None if self.graded is None else of(self.graded),
        )

    def previews(self, k: int) -> Floats:
        """The scorer's scores of the x0 previews after k steps, [prompt, seed]."""
        return with_gaps([self.views[k].seen])[0].reshape(self.scores.shape)


def roll_out(bench: Bench, briefs: list[Brief], seeds: int, windows: Sequence[int]) -> Rollouts:
    """Draw the candidates, predict after each of `windows` steps, and judge the finished images."""
    from promptprobe.probe.training.shards import as_examples

    pairs = grid(briefs, seeds)
    looked = sample(bench, pairs, windows, "looked at and finished")
    views = {k: view(bench, pairs, looked, k) for k in windows}
    judged = grade(bench.score, briefs, looked.images)
    rows = _rows(briefs, pairs, looked, [score for row in judged for score in row], views)
    further = {
        name: with_gaps(grade(judge, briefs, looked.images))
        for name, judge in bench.further.items()
    }
    second = bench.grader != bench.scorer
    graded = with_gaps(grade(bench.judge, briefs, looked.images)) if second else None
    examples = as_examples(looked.traces, rows)
    return Rollouts(briefs, pairs, judged, views, examples, further, graded)


def view(bench: Bench, pairs: Sequence[Pair], looked: Rollout, k: int) -> View:
    """The scorer's scores after k steps, and predictions if a probe was trained for k steps."""
    from promptprobe.tools.collect.rollout import prompt_by_prompt
    from promptprobe.tools.predictions import look_of

    seen = prompt_by_prompt(bench.score, [prompt for prompt, _ in pairs], looked.previews[k])
    (probe, k), trace = bench.probe_at(k), looked.traces[k]
    if probe is None:
        return View(seen, [], [])
    preview = look_of(seen, seen, trace)
    return View(seen, probe.predict(trace, k, preview), probe.predict(trace, k))


def _rows(
    briefs: Sequence[Brief],
    pairs: Sequence[Pair],
    looked: Rollout,
    judged: Sequence[Score],
    views: dict[int, View],
) -> list[Any]:
    from promptprobe.probe.training.shards import Row

    words = next(iter(looked.traces.values())).words
    rows = []
    for at, ((prompt, seed), score) in enumerate(zip(pairs, judged, strict=True)):
        brief = briefs[at * len(briefs) // len(pairs)]
        rows.append(
            Row(
                scene=brief.content,
                prompt=prompt,
                seed=seed,
                kind=brief.kind,
                split=brief.split,
                scores={TARGET: score.value} if score.value is not None else {},
                words=words[at],
                drawn=drawn(words[at], score),
                previews=tuple(seen(words[at], view.seen[at]) for view in views.values()),
            )
        )
    return rows
