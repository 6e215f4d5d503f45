"""Collects training data for a probe: prompts x seeds, traced after some steps, rendered, scored.

Every candidate is rendered by continuing from its traced steps, so a trace costs next to nothing in
addition to the picture; if a past run has the picture, only the traced steps are run. Candidates in
a folder of shards are not drawn again: a collection that was killed resumes at the first missing
shard, extra prompts extend it, and several processes can share it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from promptprobe.probe.families.family import Family, Images, Settings
from promptprobe.probe.files import replacing
from promptprobe.probe.model.card import model_spec_of
from promptprobe.probe.trace import Trace
from promptprobe.probe.training.shards import (
    Collection,
    Row,
    open_collection,
    read_rows,
    shards_of,
    write_shard,
)
from promptprobe.tools.collect.claims import Claims
from promptprobe.tools.collect.prompts import Job, Wanted, jobs
from promptprobe.tools.collect.rollout import BATCH, Pair, prompt_by_prompt, roll_out
from promptprobe.tools.device import Batches
from promptprobe.tools.pictures.png import read_finished
from promptprobe.tools.predictions import drawn, seen
from promptprobe.tools.records import Candidate, Score
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.scorers.table import target_of

PER_SHARD = 16
"""Candidates per shard, rounded up to whole prompts; a kill loses at most one shard."""
IMAGES = "images"
"""Folder of the finished images, inside the folder of shards."""
QUALITY = 95
"""JPEG quality of the finished images."""


class Collected(NamedTuple):
    """Candidates in the order of the request."""

    traces: dict[int, Trace]
    """By number of steps."""
    rows: list[Row]
    images: Images
    """Finished images."""


@dataclass(frozen=True)
class Collector:
    """Makes candidates with a model, its settings and judges."""

    model: str
    family: Family
    settings: Settings
    windows: tuple[int, ...]
    """Numbers of steps after which a trace is kept, ascending."""
    scorers: tuple[Scorer, ...]
    """Judges whose scores are to be predicted; they also score previews, the first one by word."""
    judges: tuple[Scorer, ...] = ()
    """Judges that only grade the finished images."""
    keep_images: bool = False
    batches: Batches = field(default_factory=lambda: Batches(BATCH), compare=False, repr=False)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(target_of(scorer.name) for scorer in self.scorers)

    @property
    def grades(self) -> tuple[str, ...]:
        """Names of the judges' scores."""
        return tuple(target_of(judge.name) for judge in self.judges)

    @property
    def collection(self) -> Collection:
        """The settings of the shards. This hashes the model's weights, so do not call it often."""
        return Collection(
            model=self.model,
            targets=self.targets,
            judges=self.grades,
            windows=self.windows,
            facts=model_spec_of(self.family, self.settings),
        )

    def shard(self, chosen: Sequence[Job]) -> Collected:
        """Trace and score every candidate, and render those that have no picture yet.

        ValueError: a picture cannot be read.
        """
        pairs = [job.key for job in chosen]
        drawn = roll_out(
            self.family,
            self.settings,
            pairs,
            self.windows,
            known=self._kept(chosen),
            batches=self.batches,
        )
        prompts = [prompt for prompt, _ in pairs]
        looks = [_judge(self.scorers, prompts, drawn.previews[k]) for k in self.windows]
        scores = _judge((*self.scorers, *self.judges), prompts, drawn.images)
        words = drawn.traces[self.windows[0]].words
        rows = [
            self._row(
                job, words[at], [of[at] for of in scores], [[of[at] for of in k] for k in looks]
            )
            for at, job in enumerate(chosen)
        ]
        return Collected(drawn.traces, rows, drawn.images)

    def _row(
        self,
        job: Job,
        words: tuple[str, ...],
        scores: Sequence[Score],
        looks: Sequence[Sequence[Score]],
    ) -> Row:
        """One candidate: scores by scorer and judge; of its previews, by window and scorer."""
        judged, names = scores[0], (*self.targets, *self.grades)
        values = zip(names, [score.value for score in scores], strict=True)
        others = self.targets[1:]
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
            previews=tuple(seen(words, look[0]) for look in looks),
            preview_scores={
                target: tuple(look[at].value for look in looks)
                for at, target in enumerate(others, 1)
            },
        )

    def measured(self, job: Job) -> tuple[float, int]:
        """Seconds and bytes on disk of a candidate, measured on one that is then discarded."""
        start = time.monotonic()
        found = self.shard([job])
        seconds = time.monotonic() - start
        traces = found.traces.values()
        kept = [part for trace in traces for part in (trace.maps, trace.x0, trace.gap)]
        image = len(jpeg(found.images[0])) if self.keep_images else 0
        return seconds, 2 * sum(part.numel() for part in kept) + image

    def nfe(self, until: int) -> int:
        """Denoiser evaluations of a candidate's steps up to `until`."""
        return self.family.nfe(self.settings, 0, until)

    def distance(self, job: Job) -> float:
        """Mean absolute difference, in levels of 255, of its picture and one drawn now."""
        now = roll_out(self.family, self.settings, [job.key], batches=self.batches).images[0]
        return float(np.abs(self._kept([job])[job.key].astype(float) - now).mean())

    def _kept(self, chosen: Sequence[Job]) -> dict[Pair, np.ndarray]:
        """The existing pictures, by candidate."""
        width, height = self.settings.width, self.settings.height
        return {
            job.key: np.asarray(read_finished(job.picture, width, height))
            for job in chosen
            if job.picture
        }


def _judge(scorers: Sequence[Scorer], prompts: Sequence[str], images: Images) -> list[list[Score]]:
    """Each scorer's scores of all images."""
    return [prompt_by_prompt(scorer.of_arrays, prompts, images) for scorer in scorers]


def jpeg(image: np.ndarray) -> bytes:
    """A finished image as it is stored."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def image_path(shards: Path, row: Row) -> Path:
    """Path of a candidate's finished image, if it was kept."""
    return shards / IMAGES / f"{Candidate(prompt=row.prompt, seed=row.seed).key}.jpg"


def collect(
    collector: Collector,
    out: Path,
    wanted: Iterable[Wanted],
    seeds: int,
    per_shard: int = PER_SHARD,
    given: Iterable[Sequence[Job]] = (),
) -> int:
    """Fill a folder with shards until it holds every prompt with its seeds.

    Returns the number of candidates that this process collected; others may have collected more.
    ShardError: the folder was started with another model or other settings.

    given: groups of candidates with known seeds, one group for each prompt; they come first.
    """
    out.mkdir(parents=True, exist_ok=True)
    claims = Claims(out)
    with claims.whole:
        open_collection(out, collector.collection)
    plan = list(chain(given, jobs(wanted, seeds)))
    total, done = len({job.key for group in plan for job in group} | claims.keys()), 0
    with tqdm(total=total, unit="candidate", desc="collect") as bar:
        while True:
            bar.update(len(claims.keys()) - bar.n)
            with claims.next(plan, per_shard) as claimed:
                if claimed is None:
                    return done
                path, chosen = claimed
                found = collector.shard(chosen)
                if collector.keep_images:
                    _keep(out, found)
                write_shard(path, found.traces, found.rows)
                done += len(chosen)


def _keep(out: Path, found: Collected) -> None:
    (out / IMAGES).mkdir(exist_ok=True)
    for row, image in zip(found.rows, found.images, strict=True):
        with replacing(image_path(out, row)) as partial:
            partial.write_bytes(jpeg(image))


def held_in(folder: Path) -> set[tuple[str, int]]:
    """The candidates, as prompt and seed, in a folder of shards."""
    return {(row.prompt, row.seed) for row in rows_in(folder)}


def rows_in(folder: Path) -> list[Row]:
    """The rows of a folder of shards; empty without shards."""
    return [row for path in shards_of(folder) for row in read_rows(path)]
