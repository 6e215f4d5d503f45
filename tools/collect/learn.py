"""Make a probe for a model: collect candidates, train on them, write weights and card.

Everything lies in one folder: `shards/`, which later runs add to, `training.pt`, from which a
killed training goes on, `probe/`, and `also/`, what it is validated on beyond its own settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from promptprobe.probe.families.family import Settings
from promptprobe.probe.model.checkpoint import load_probe
from promptprobe.probe.training.train_probe import train_probe
from promptprobe.probe.training.trainer import TrainConfig
from promptprobe.tools.collect.collector import Collector, collect, held_in
from promptprobe.tools.collect.other_settings import (
    also_cost,
    open_others,
    rescaled,
    validate_settings,
)
from promptprobe.tools.collect.prompts import Job, Wanted, jobs
from promptprobe.tools.collect.reuse_runs import PastRun, Say, drawn_alike, fitting
from promptprobe.tools.models.model import Model, open_model
from promptprobe.tools.models.probes import locate_probe
from promptprobe.tools.records import Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import settings_of

NOTHING = "no past run fits, and there are no prompts: give prompts, or other runs"
WINDOWS = (1, 2, 3, 5, 8, 10)
"""For renders of 25 steps; renders of other lengths are probed after the same shares of them."""


@dataclass(frozen=True)
class ProbeTraining:
    """What is to be learned, and from what."""

    model: str
    wanted: Sequence[Wanted]
    scorers: Sequence[str]
    """The first judges previews too, and is the score that the probe stands for."""
    generation: Generation = field(default_factory=Generation)
    seeds: int = 8
    """Per prompt."""
    windows: tuple[int, ...] = ()
    """Numbers of steps to learn from; none: `WINDOWS`, scaled to the steps of a full render."""
    epochs: int = TrainConfig.epochs
    """At most: the best one is kept."""
    past: Sequence[PastRun] = ()
    """Their finished pictures are not drawn again."""
    start: str | None = None
    """A probe whose weights training begins with: a folder, a hub id, or a built-in model's."""
    also: Sequence[str] = ()
    """Settings to validate for too, one changed at a time, such as "steps=15"."""


def learn(course: ProbeTraining, out: Path, say: Say) -> dict[str, Any]:
    """Collect what is missing in `out`, train, and write `out`/probe. Returns the card as JSON.

    Args:
        say: is told which past runs do not fit, what it will cost, before it starts, and where it
            stands.

    Raises:
        ValueError: unknown model, scorer or start, impossible settings, shards of something else,
            or too little to learn from.
    """
    start = load_probe(locate_probe(course.start)) if course.start else None
    model = open_model(course.model, course.generation)
    collector = open_collector(course, model)
    others = open_others(collector, model.generation, course.also)
    past = fitting(course.past, model, say)
    if not (course.wanted or past):
        raise ValueError(NOTHING)
    say(cost(collector, course, past))
    if others:
        groups = chain(jobs(course.wanted, course.seeds), (run.jobs for run in past))
        say(also_cost(others, out / "shards", chain.from_iterable(groups)))
    held = held_in(out / "shards")
    new = [run for run in past if any(job.key not in held for job in run.jobs)]
    known = [run.jobs for run in new if drawn_alike(run, collector, say)]
    if not (course.wanted or known or held):
        raise ValueError(NOTHING)
    number = collect(collector, out / "shards", course.wanted, course.seeds, given=known)
    say(f"{number} candidates collected; training")
    plan = TrainConfig(epochs=course.epochs)
    card = train_probe(out / "shards", out / "probe", plan, out / "training.pt", start)
    if others:
        card = validate_settings(out, others, say)
    return card.model_dump(mode="json")


def open_collector(course: ProbeTraining, model: Model) -> Collector:
    """The model and its judges. Raises ValueError, see `learn`."""
    settings, device = settings_of(model.generation), model.generation.device or "cpu"
    windows = course.windows or scaled(settings)
    if wrong := [k for k in windows if not 1 <= k < settings.steps]:
        raise ValueError(
            f"expected from 1 to {settings.steps - 1} steps to learn from, got {wrong}"
        )
    scorers = tuple(open_scorer(spec, device) for spec in course.scorers)
    return Collector(model.name, model.family, settings, tuple(sorted(set(windows))), scorers)


def scaled(settings: Settings) -> tuple[int, ...]:
    """`WINDOWS` for another number of steps."""
    return rescaled(WINDOWS, 25, settings.steps)


def cost(collector: Collector, course: ProbeTraining, past: Sequence[PastRun]) -> str:
    """What the whole collection takes, by first candidates that are drawn and thrown away."""
    drawn, read = len(course.wanted) * course.seeds, sum(len(run.jobs) for run in past)
    known = [run.jobs[0] for run in past]
    full = Job(course.wanted[0], 0) if course.wanted else known[0]._replace(picture=None)
    seconds, size = collector.measured(full)
    seconds *= drawn + len(past)
    kinds = []
    if drawn:
        kinds.append(
            f"{len(course.wanted)} prompts x {course.seeds} seeds = {drawn} candidates of "
            f"{collector.nfe(collector.settings.steps)} denoiser evaluations"
        )
    if known:
        seconds += collector.measured(known[0])[0] * read
        kinds.append(
            f"{read} candidates of {len(past)} past runs, of "
            f"{collector.nfe(collector.windows[-1])} denoiser evaluations (one a run of "
            f"{collector.nfe(collector.settings.steps)}, to see that it is drawn alike)"
        )
    return (
        f"{' and '.join(kinds)}; by the first one at most {seconds / 60:.0f} minutes and "
        f"{size * (drawn + read) / 1e9:.1f} GB, less what is there already; then training"
    )
