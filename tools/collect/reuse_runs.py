"""Past runs as something to learn from: which fit a training, and which of their pictures.

A run fits where the model would draw its pictures again. What run.json says is compared first; what
it cannot say, such as weights that changed under their name, shows in a picture drawn again.
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
"""Levels of 255 that a picture drawn again may be away, on average. On Sprites bfloat16 is 0.2 away
from float32, and another seed 30 or more."""
FREE = ("device", "offload")
"""Settings that may differ: noise is drawn on the CPU, wherever the model is."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PastRun:
    """What a run leaves to learn from."""

    folder: Path
    model: str
    """As `Model.name`."""
    generation: Generation
    """The model's defaults filled in."""
    jobs: tuple[Job, ...]
    """Its finished candidates with their pictures, the seeds of a prompt side by side."""


def fitting(runs: Sequence[PastRun], model: Model, say: Say) -> list[PastRun]:
    """Runs of this model in these settings, with the pictures that can be read.

    say: is told of everything that is left out, and why.
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
    """The first thing that a run was made with and the training is not; empty: there is none."""
    then, now = run.generation.model_dump(), model.generation.model_dump()
    pairs = {"model": (run.model, model.name)} | {
        name: (then[name], now[name]) for name in now if name not in FREE
    }
    for name, (before, given) in pairs.items():
        if before != given:
            return f"it was made with {name} {before!r:.200}, and the training has {given!r:.200}"
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
    """Whether the model draws the run's first picture again; costs a render."""
    first = run.jobs[0]
    distance = collector.distance(first)
    if distance <= ALIKE:
        return True
    say(
        f"left out: {run.folder}: {first.picture} is {distance:.0f} of 255 levels away from what "
        f"the model draws of it now, expected at most {ALIKE:.0f}: other weights, another "
        "scheduler, or other versions of the libraries"
    )
    return False
