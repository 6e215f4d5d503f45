"""Makes a probe for a model: collects candidates, trains on them, writes weights and card.

Everything is in one folder: `shards/`, which later runs extend, `training.pt`, from which a killed
training resumes, `probe/`, and `also/`, candidates for validation with other settings. The same
command in several processes shares the collecting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock

from promptprobe.probe.families.family import Settings
from promptprobe.probe.model.card import Card
from promptprobe.probe.model.checkpoint import load_probe
from promptprobe.probe.training.dataset import calibrates
from promptprobe.probe.training.train_probe import train_probe
from promptprobe.probe.training.trainer import TrainConfig
from promptprobe.tools.collect.collector import Collector, collect, held_in, rows_in
from promptprobe.tools.collect.other_settings import (
    also_cost,
    open_others,
    rescaled,
    validate_settings,
)
from promptprobe.tools.collect.prompts import TRAINED, Job, Wanted, jobs
from promptprobe.tools.collect.reuse_runs import PastRun, Say, drawn_alike, fitting
from promptprobe.tools.models.model import Model, open_model
from promptprobe.tools.models.probes import locate_probe
from promptprobe.tools.records import Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import settings_of

NOTHING = "no past run fits, and there are no prompts: give prompts, or other runs"
FEWEST_HELD_OUT = 20
HELD_OUT = (1 - TRAINED) / 2
"""Share of prompts used to compare the probe with previews, unless their rows name a split."""
WINDOWS = (1, 2, 3, 5, 8, 10)
"""For renders of 25 steps; with another number of steps, windows are scaled."""


@dataclass(frozen=True)
class ProbeTraining:
    """What a probe should learn, and from what."""

    model: str
    wanted: Sequence[Wanted]
    scorers: Sequence[str]
    """Scores to learn; runs use the first one, which also labels words."""
    generation: Generation = field(default_factory=Generation)
    seeds: int = 8
    """Seeds for each prompt."""
    windows: tuple[int, ...] = ()
    """Numbers of steps to learn from; if empty, `WINDOWS` scaled to the steps of a full render."""
    epochs: int = TrainConfig.epochs
    """Maximum number of epochs; the best one is kept."""
    past: Sequence[PastRun] = ()
    """Past runs, whose finished pictures are not drawn again."""
    start: str | None = None
    """A probe to start training from: a folder, a hub id, or a built-in model's."""
    also: Sequence[str] = ()
    """Further settings to validate for, each changed alone, such as "steps=15"."""
    judges: Sequence[str] = ()
    """Judges that grade the finished images in the shards; nothing is learned from them."""
    keep_images: bool = False
    """Whether the shards keep the finished images, as JPEG."""


def learn(course: ProbeTraining, out: Path, say: Say) -> dict[str, Any]:
    """Collect what is missing in `out`, train, and write `out`/probe. Returns the card as JSON.

    Args:
        say: called with messages: past runs that do not fit, the cost beforehand, and progress.

    Raises:
        ValueError: the model, a scorer or the start is unknown, settings are impossible, shards
            were made with other settings, or there is too little to learn from.
        ModuleNotFoundError: promptprobe[train] is not installed.
    """
    import_module("pyarrow")  # shards need it, once the first of them is drawn
    start = load_probe(locate_probe(course.start)) if course.start else None
    model = open_model(course.model, course.generation)
    collector = open_collector(course, model)
    others = open_others(collector, model.generation, course.also)
    past = fitting(course.past, model, say)
    if not (course.wanted or past):
        raise ValueError(NOTHING)
    check_enough(course, past, out / "shards")
    first = _first(course, past)
    for judge in (*collector.scorers, *collector.judges):
        judge.check(first.wanted.prompt)
    each, size = collector.measured(first)
    say(cost(collector, course, past, each, size))
    held = held_in(out / "shards")
    if warning := too_few(held_out(course, past, out / "shards")):
        say(f"warning: {warning}")
    if others:
        groups = chain(jobs(course.wanted, course.seeds), (run.jobs for run in past))
        say(also_cost(others, out / "shards", chain.from_iterable(groups)))
    new = [run for run in past if any(job.key not in held for job in run.jobs)]
    known = [run.jobs for run in new if drawn_alike(run, collector, say)]
    if not (course.wanted or known or held):
        raise ValueError(NOTHING)
    number = collect(collector, out / "shards", course.wanted, course.seeds, given=known)
    say(f"{number} candidates collected; training")
    # Processes that shared the collecting train one after the other; later ones resume from the
    # first one's checkpoint.
    with FileLock(out / "training.lock"):
        plan = TrainConfig(epochs=course.epochs)
        card = train_probe(out / "shards", out / "probe", plan, out / "training.pt", start)
        if others:
            card = validate_settings(out, others, say)
    if advice := more_prompts(card, course, each):
        say(advice)
    return card.model_dump(mode="json")


def check_enough(course: ProbeTraining, past: Sequence[PastRun], shards: Path) -> None:
    """Raise ValueError if there would be too little to learn from, whatever the scores."""
    groups = chain(jobs(course.wanted, course.seeds), (run.jobs for run in past))
    planned = ((job.wanted.part, job.wanted.content, *job.key) for group in groups for job in group)
    existing = ((row.split, row.scene, row.prompt, row.seed) for row in rows_in(shards))
    seeds = Counter(candidate[:3] for candidate in {*planned, *existing})
    whole = [(part, scene) for (part, scene, _), number in seeds.items() if number > 1]
    held = [calibrates(scene) for part, scene in whole if part == "validation"]
    fewest, most = min(seeds.values(), default=0), max(seeds.values(), default=0)
    each = f"{most}" if fewest == most else f"{fewest} to {most}"
    for use, number in (
        ("train on", len(whole) - len(held)),
        ("decide when to stop", held.count(False)),
        ("compare the probe with previews", held.count(True)),
    ):
        if not number:
            raise ValueError(
                f"there would be no prompt with two seeds or more to {use}, so nothing could be "
                f"learned: got {len(seeds)} prompt{'s' * (len(seeds) != 1)} with {each} "
                f"seed{'s' * (most != 1)}: give more "
                "(of ten prompts, seven are for training, and half of the others decide when to "
                'stop, half compare), or mark some "split": "validation"'
            )


def held_out(course: ProbeTraining, past: Sequence[PastRun], shards: Path) -> int:
    """How many prompts will compare the probe with previews."""
    planned = [one.wanted for run in past for one in run.jobs] + list(course.wanted)
    prompts = {
        one.prompt for one in planned if one.part == "validation" and calibrates(one.content)
    }
    held = [row for row in rows_in(shards) if row.split == "validation" and calibrates(row.scene)]
    return len(prompts | {row.prompt for row in held})


def too_few(prompts: int) -> str:
    """A warning if these held-out prompts are too few to tell a good probe from a useless one."""
    if prompts >= FEWEST_HELD_OUT:
        return ""
    return (
        f"{prompts} prompts are held out to compare the probe with previews, and fewer than "
        f"{FEWEST_HELD_OUT} seldom tell which is better; give about "
        f"{math.ceil(FEWEST_HELD_OUT / HELD_OUT)} prompts in all, or mark more of them "
        '"split": "validation"'
    )


def more_prompts(card: Card, course: ProbeTraining, seconds: float) -> str:
    """How many more prompts would decide between probe and preview, and their cost; empty if the
    comparison is decided, or there was none.

    seconds: time of one candidate.
    """
    name = card.targets[0].name
    found = [window.comparisons.get(name) for window in card.windows]
    more = max((one.more_prompts for one in found if one and one.finding == "too few"), default=0)
    if not more:
        return ""
    prompts = math.ceil(more / HELD_OUT)
    minutes = prompts * course.seeds * seconds / 60
    return (
        f"{prompts} more prompts, of which {more} would be held out, would tell, and cost about "
        f"{minutes:.0f} minutes"
    )


def open_collector(course: ProbeTraining, model: Model) -> Collector:
    """A collector for the model, with its judges. Raises ValueError; see `learn`."""
    settings, device = settings_of(model.generation), model.generation.device or "cpu"
    windows = course.windows or scaled(settings)
    if wrong := [k for k in windows if not 1 <= k < settings.steps]:
        raise ValueError(
            f"expected from 1 to {settings.steps - 1} steps to learn from, got {wrong}"
        )
    scorers = tuple(open_scorer(spec, device) for spec in course.scorers)
    judges = tuple(open_scorer(spec, device) for spec in course.judges)
    if both := {one.name for one in scorers} & {one.name for one in judges}:
        raise ValueError(
            f"expected a judge that does not select, but {both.pop()} is a scorer too: leave it out"
        )
    return Collector(
        model.name,
        model.family,
        settings,
        tuple(sorted(set(windows))),
        scorers,
        judges,
        course.keep_images,
    )


def scaled(settings: Settings) -> tuple[int, ...]:
    """`WINDOWS` for another number of steps."""
    return rescaled(WINDOWS, 25, settings.steps)


def _first(course: ProbeTraining, past: Sequence[PastRun]) -> Job:
    """A candidate to measure the cost on."""
    return Job(course.wanted[0], 0) if course.wanted else past[0].jobs[0]._replace(picture=None)


def cost(
    collector: Collector,
    course: ProbeTraining,
    past: Sequence[PastRun],
    seconds: float,
    size: int,
) -> str:
    """The cost of the whole collection, in words.

    seconds, size: time and bytes on disk of a candidate that was drawn and discarded.
    """
    drawn, read = len(course.wanted) * course.seeds, sum(len(run.jobs) for run in past)
    known = [run.jobs[0] for run in past]
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
    minutes = "a minute" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    return (
        f"{' and '.join(kinds)}; by the first one at most {minutes} and "
        f"{max(0.1, size * (drawn + read) / 1e9):.1f} GB, less what is there already; then training"
    )
