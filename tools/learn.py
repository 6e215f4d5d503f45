"""Make a probe for a model: collect candidates, train on them, write weights and card.

Everything lies in one folder: `shards/`, which later runs add to, `training.pt`, from which a
killed training goes on, and `probe/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptprobe.probe.family import Settings
from promptprobe.probe.making import make_probe
from promptprobe.probe.training import Plan
from promptprobe.tools.collect import Collector, collect
from promptprobe.tools.models import open_model
from promptprobe.tools.prompts import Job, Wanted
from promptprobe.tools.records import Generation
from promptprobe.tools.scorers import open_scorer
from promptprobe.tools.toolbox import settings_of

WINDOWS = (1, 2, 3, 5, 8, 10)
"""Of 25 steps; other numbers of steps take the same shares."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Course:
    """What is to be learned, and from what."""

    model: str
    wanted: Sequence[Wanted]
    scorers: Sequence[str]
    """The first judges previews too, and is the score that the probe stands for."""
    generation: Generation = field(default_factory=Generation)
    seeds: int = 8
    """Of each prompt."""
    windows: tuple[int, ...] = ()
    """Numbers of steps to learn from; none: `WINDOWS`, scaled to the steps of a full render."""
    epochs: int = Plan.epochs
    """Of training, at most."""


def learn(course: Course, out: Path, say: Say) -> dict[str, Any]:
    """Collect what is missing in `out`, train, and write `out`/probe. Returns the card as JSON.

    Args:
        say: is told what it will cost, before it starts, and where it stands.

    Raises:
        ValueError: unknown model or scorer, shards of something else, or too little to learn from.
    """
    collector = open_collector(course)
    say(cost(collector, course))
    drawn = collect(collector, out / "shards", course.wanted, course.seeds)
    say(f"{drawn} candidates drawn; training")
    plan = Plan(epochs=course.epochs)
    card = make_probe(out / "shards", out / "probe", plan, out / "training.pt")
    return card.model_dump(mode="json")


def open_collector(course: Course) -> Collector:
    """The model and its judges. Raises ValueError, see `learn`."""
    model = open_model(course.model, course.generation)
    settings, device = settings_of(model.generation), model.generation.device or "cpu"
    windows = course.windows or scaled(settings)
    if wrong := [k for k in windows if not 1 <= k < settings.steps]:
        raise ValueError(
            f"expected from 1 to {settings.steps - 1} steps to learn from, got {wrong}"
        )
    scorers = tuple(open_scorer(spec, device) for spec in course.scorers)
    return Collector(model.name, model.family, settings, tuple(sorted(set(windows))), scorers)


def scaled(settings: Settings) -> tuple[int, ...]:
    """`WINDOWS` for another number of steps, at least one step each and before the end."""
    shares = {max(1, round(k * settings.steps / 25)) for k in WINDOWS}
    return tuple(sorted(k for k in shares if k < settings.steps)) or (1,)


def cost(collector: Collector, course: Course) -> str:
    """What the whole collection takes, by a first candidate that is drawn and thrown away."""
    number = len(course.wanted) * course.seeds
    began = time.monotonic()
    traces, _ = collector.shard([Job(course.wanted[0], 0)])
    minutes = (time.monotonic() - began) * number / 60
    kept = [part for trace in traces.values() for part in (trace.maps, trace.x0, trace.gap)]
    gigabytes = 2 * sum(part.numel() for part in kept) * number / 1e9
    nfe = collector.family.nfe(collector.settings, 0, collector.settings.steps)
    return (
        f"{len(course.wanted)} prompts x {course.seeds} seeds = {number} candidates of {nfe} "
        f"denoiser evaluations; by the first one at most {minutes:.0f} minutes and "
        f"{gigabytes:.1f} GB, less what is there already; then training"
    )
