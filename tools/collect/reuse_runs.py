"""Past runs as training data: which runs fit a training, and which of their pictures.

A run fits if the model would draw its pictures again. The settings in run.json are compared first;
other changes, such as new weights under the same name, show when a picture is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptprobe.tools.collect.collector import Collector
from promptprobe.tools.collect.prompts import Job
from promptprobe.tools.models.model import Model
from promptprobe.tools.pictures.png import read_finished
from promptprobe.tools.records import Generation

ALIKE = 8.0
"""Largest mean difference, in levels of 255, of a picture drawn again. On Sprites bfloat16 differs
from float32 by 0.2, and another seed by 30 or more."""
FREE = ("device", "offload")
"""Settings that may differ, since noise is drawn on the CPU wherever the model is."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PastRun:
    """The training data that a run leaves."""

    folder: Path
    model: str
    """As `Model.name`."""
    generation: Generation
    """Settings, with the model's defaults filled in."""
    jobs: tuple[Job, ...]
    """Finished candidates with their pictures, grouped by prompt."""


def fitting(runs: Sequence[PastRun], model: Model, say: Say) -> list[PastRun]:
    """Runs of this model with these settings, with the pictures that can be read.

    say: called with a message for everything that is left out.
    """
    found = []
    for run in runs:
        if difference := _difference(run, model):
            say(f"left out: {run.folder}: {difference}")
            continue
        jobs = tuple(job for job in run.jobs if _readable(job, run.generation, say))
        if jobs:
            found.append(replace(run, jobs=jobs))
        else:
            say(f"left out: {run.folder}: it holds no finished picture")
    return found


def _difference(run: PastRun, model: Model) -> str:
    """The first difference between a run's settings and the training's; empty if there is none."""
    then, now = run.generation.model_dump(), model.generation.model_dump()
    pairs = {"model": (run.model, model.name)} | {
        name: (then[name], now[name]) for name in now if name not in FREE
    }
    for name, (before, given) in pairs.items():
        if before != given:
            return f"it was made with {name} {before!r:.200}, but the training has {given!r:.200}"
    return ""


def _readable(job: Job, generation: Generation, say: Say) -> bool:
    assert job.picture and generation.width and generation.height, "a finished job, a filled run"
    try:
        read_finished(job.picture, generation.width, generation.height)
    except ValueError as error:
        say(f"left out: seed {job.seed} of {job.wanted.prompt[:80]!r}: {error}")
        return False
    return True


def drawn_alike(run: PastRun, collector: Collector, say: Say) -> bool:
    """Whether the model draws the run's first picture again; this costs a render."""
    first = run.jobs[0]
    distance = collector.distance(first)
    if distance <= ALIKE:
        return True
    say(
        f"left out: {run.folder}: {first.picture} differs by {distance:.0f} of 255 levels from "
        f"what the model draws now, expected at most {ALIKE:.0f}: the weights, the scheduler or "
        "the versions of libraries have changed"
    )
    return False
