"""What a probe learns from: prompts x seeds, traced after some of their steps, rendered, scored.

Every candidate is drawn in full by going on from its traced steps, so a trace costs next to nothing
beyond the picture; of one whose picture a past run has left, only the traced steps are run. What a
folder of shards holds is not done again: killed at any moment, a collection goes on at the first
shard that is missing, and more prompts later only add.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from promptprobe.probe.families.family import Family, Settings
from promptprobe.probe.model.card import model_spec_of
from promptprobe.probe.trace import Trace, join, record_traces
from promptprobe.probe.training.shards import (
    Collection,
    Row,
    open_collection,
    read_rows,
    shards_of,
    write_shard,
)
from promptprobe.tools.collect.prompts import Job, Wanted, jobs
from promptprobe.tools.pictures.png import read_finished
from promptprobe.tools.predictions import drawn, seen
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.scorer import Scorer

BATCH = 16
PER_SHARD = 512
"""Candidates, rounded up to whole prompts."""

Pictures = list[Image.Image]


@dataclass(frozen=True)
class Collector:
    """What makes candidates: a model, its settings, and who judges."""

    model: str
    family: Family
    settings: Settings
    windows: tuple[int, ...]
    """Numbers of steps after which a trace is kept, ascending."""
    scorers: tuple[Scorer, ...]
    """The first one judges the previews too."""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(f"{scorer.name} score" for scorer in self.scorers)

    @property
    def collection(self) -> Collection:
        """Takes a hash of the model's attention weights: not for every candidate."""
        return Collection(
            model=self.model,
            targets=self.targets,
            windows=self.windows,
            facts=model_spec_of(self.family, self.settings),
        )

    def shard(self, chosen: Sequence[Job]) -> tuple[dict[int, Trace], list[Row]]:
        """Trace and score every candidate, and render those that have no picture yet.

        ValueError: a picture cannot be read.
        """
        traces: dict[int, list[Trace]] = {k: [] for k in self.windows}
        previews: dict[int, Pictures] = {k: [] for k in self.windows}
        finals: Pictures = []
        for batch in _batches(chosen):
            found, pictures = self._finished(batch)
            finals += pictures
            for k, trace in found.items():
                traces[k].append(trace)
                previews[k] += _pictures(self.family.decode(trace.x0))
        joined = {k: join(parts) for k, parts in traces.items()}
        looks = [self._judge(chosen, previews[k], self.scorers[:1])[0] for k in self.windows]
        scores = self._judge(chosen, finals, self.scorers)
        words = joined[self.windows[0]].words
        rows = [
            _row(job, words[at], self.targets, scores, looks, at) for at, job in enumerate(chosen)
        ]
        return joined, rows

    def measured(self, job: Job) -> tuple[float, int]:
        """Seconds that a candidate takes, and bytes on the disk, by one that is thrown away."""
        began = time.monotonic()
        traces, _ = self.shard([job])
        seconds = time.monotonic() - began
        kept = [part for trace in traces.values() for part in (trace.maps, trace.x0, trace.gap)]
        return seconds, 2 * sum(part.numel() for part in kept)

    def nfe(self, until: int) -> int:
        """Denoiser evaluations of a candidate's first steps."""
        return self.family.nfe(self.settings, 0, until)

    def distance(self, job: Job) -> float:
        """From its picture to what the model draws now: mean over pixels, of 255 levels."""
        [before] = self._kept([job])
        _, [now] = self._finished([job._replace(picture=None)])
        return float(np.abs(np.asarray(before, float) - np.asarray(now, float)).mean())

    def _finished(self, chosen: Sequence[Job]) -> tuple[dict[int, Trace], Pictures]:
        """Traces and finished pictures of a batch, which either has them all or none."""
        prompts, seeds = [job.wanted.prompt for job in chosen], [job.seed for job in chosen]
        traces, state = record_traces(self.family, prompts, seeds, self.settings, self.windows)
        if chosen[0].picture is not None:
            return traces, self._kept(chosen)
        conditioning = self.family.encode(prompts, self.settings)
        state = self.family.denoise(state, conditioning, self.settings, self.settings.steps)
        return traces, _pictures(self.family.decode(state.latents))

    def _kept(self, chosen: Sequence[Job]) -> Pictures:
        width, height = self.settings.width, self.settings.height
        return [read_finished(job.picture, width, height) for job in chosen if job.picture]

    def _judge(
        self, chosen: Sequence[Job], pictures: Pictures, scorers: Sequence[Scorer]
    ) -> list[list[Score]]:
        """Each scorer's scores of all pictures, asked prompt by prompt."""
        found: list[list[Score]] = [[] for _ in scorers]
        at = 0
        for prompt, same in groupby(chosen, key=lambda job: job.wanted.prompt):
            own = pictures[at : (at := at + len(list(same)))]
            for scores, scorer in zip(found, scorers, strict=True):
                scores += scorer(prompt, own)
        return found


def _batches(chosen: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """At most `BATCH` candidates that are neighbours, all with a picture or all without."""
    for _, alike in groupby(chosen, key=lambda job: job.picture is None):
        same = list(alike)
        for at in range(0, len(same), BATCH):
            yield same[at : at + BATCH]


def _pictures(pixels: Iterable[object]) -> Pictures:
    return [Image.fromarray(image) for image in pixels]  # type: ignore[arg-type]


def _row(
    job: Job,
    words: tuple[str, ...],
    targets: Sequence[str],
    scores: Sequence[Sequence[Score]],
    looks: Sequence[Sequence[Score]],
    at: int,
) -> Row:
    judged = scores[0][at]
    values = zip(targets, [of[at].value for of in scores], strict=True)
    return Row(
        scene=job.wanted.content,
        prompt=job.wanted.prompt,
        seed=job.seed,
        kind=job.wanted.kind,
        split=job.wanted.part,
        scores={target: value for target, value in values if value is not None},
        correct=judged.correct,
        explanation=judged.explanation or judged.reason,
        words=words,
        drawn=drawn(words, judged),
        previews=tuple(seen(words, look[at]) for look in looks),
    )


def collect(
    collector: Collector,
    out: Path,
    wanted: Iterable[Wanted],
    seeds: int,
    per_shard: int = PER_SHARD,
    given: Iterable[Sequence[Job]] = (),
) -> int:
    """Fill a folder with shards until it holds every prompt with its seeds.

    The number of candidates collected now is returned. ShardError: the folder was begun with
    another model, or otherwise.

    given: candidates whose seeds are known, the seeds of a prompt side by side; they come first.
    """
    open_collection(out, collector.collection)
    paths = shards_of(out)
    held = held_in(out)
    number = max((int(path.stem.rpartition("-")[2]) for path in paths), default=-1)
    groups = list(_missing(chain(given, jobs(wanted, seeds)), held))
    total = sum(map(len, groups))
    with tqdm(total=total + len(held), initial=len(held), unit="candidate", desc="collect") as bar:
        for shard in _filled(groups, per_shard):
            number += 1
            write_shard(out / f"shard-{number:05}.safetensors", *collector.shard(shard))
            bar.update(len(shard))
    return total


def held_in(folder: Path) -> set[tuple[str, int]]:
    """The candidates, as prompt and seed, that a folder of shards holds."""
    return {(row.prompt, row.seed) for row in rows_in(folder)}


def rows_in(folder: Path) -> list[Row]:
    """The rows of a folder of shards, which may be none."""
    return [row for path in shards_of(folder) for row in read_rows(path)]


def _missing(
    groups: Iterable[Sequence[Job]], held: Iterable[tuple[str, int]]
) -> Iterator[list[Job]]:
    """The groups without what is held, and each candidate once."""
    seen = set(held)
    for group in groups:
        new = {job.key: job for job in group if job.key not in seen}
        seen |= new.keys()
        if new:
            yield list(new.values())


def _filled(groups: Iterable[list[Job]], size: int) -> Iterable[list[Job]]:
    """Whole groups, together until there are `size` candidates or more."""
    shard: list[Job] = []
    for group in groups:
        shard += group
        if len(shard) >= size:
            yield shard
            shard = []
    if shard:
        yield shard
