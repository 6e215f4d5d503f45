"""Validation of a probe for settings other than those that it is made with.

One setting is changed at a time. The prompts and seeds that are used neither for training nor for
early stopping are drawn with it, into shards of their own, such as `also/steps-15`, which can be
resumed like any others. Pictures of past runs, which have the probe's own settings, are of no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from promptprobe.probe.model.card import MOST_CHECKS, SETTINGS, Card, Check, Setting, ranges_of
from promptprobe.probe.model.checkpoint import load_probe, save_probe
from promptprobe.probe.training.dataset import calibrates, splits_of
from promptprobe.probe.training.shards import Row
from promptprobe.probe.training.validate import validate_setting
from promptprobe.tools.collect.collector import Collector, collect, rows_in
from promptprobe.tools.collect.prompts import Job, Wanted
from promptprobe.tools.collect.reuse_runs import Say
from promptprobe.tools.records import Generation
from promptprobe.tools.toolbox import settings_of


@dataclass(frozen=True)
class Other:
    """One setting to validate for, with a collector that uses it."""

    setting: Setting
    value: float
    collector: Collector

    @property
    def title(self) -> str:
        return f"{self.setting} {self.value:g}"

    @property
    def folder(self) -> str:
        return f"{self.setting}-{self.value:g}"


def open_others(home: Collector, generation: Generation, also: Sequence[str]) -> list[Other]:
    """Open an `Other` for each setting. ValueError: it is not a setting with a value that can be
    drawn.

    generation: the probe's own settings, with the model's defaults filled in.
    """
    if len(also) > MOST_CHECKS:
        raise ValueError(
            f"expected at most {MOST_CHECKS} settings to validate for, got {len(also)}"
        )
    found = {}
    for spec in also:
        name, _, text = spec.partition("=")
        if name not in SETTINGS or not text:
            raise ValueError(
                f"expected a setting to validate for, one of {', '.join(SETTINGS)}, with its value "
                f"(steps=15), got {spec!r:.100}"
            )
        other = _opened(home, generation, name, text)
        found[other.folder] = other
    return list(found.values())


def _opened(home: Collector, generation: Generation, setting: Setting, text: str) -> Other:
    try:
        changed = Generation.model_validate(generation.model_dump() | {setting: text})
        settings = settings_of(changed)
        value = getattr(settings, setting)
        if value == getattr(home.settings, setting):
            raise ValueError("this is the value that the probe is made with; leave it out")
        if settings.steps < 2:
            raise ValueError("expected at least 2 steps, so that something is left to predict")
        home.family.draw_noise([0], settings)  # impossible settings fail now, not later
        home.family.nfe(settings, 0, settings.steps)
    except ValidationError as error:
        raise ValueError(f"--also {setting}={text:.50}: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise ValueError(f"--also {setting}={text:.50}: {error}") from error
    windows = rescaled(home.windows, home.settings.steps, settings.steps)
    return Other(setting, float(value), replace(home, settings=settings, windows=windows))


def rescaled(windows: Sequence[int], steps: int, other: int) -> tuple[int, ...]:
    """Windows at the same shares of another number of steps, at least 1 and below the last."""
    shares = {max(1, round(k * other / steps)) for k in windows}
    return tuple(sorted(k for k in shares if k < other)) or (1,)


def also_cost(others: Sequence[Other], shards: Path, planned: Iterable[Job]) -> str:
    """Their cost in words, each measured on a candidate that is drawn and discarded.

    planned: candidates that will be added to the shards.
    """
    held = [_job(row) for row in rows_in(shards) if row.split == "validation"]
    chosen = {job.key: job for job in [*held, *planned] if _calibrates(job)}
    seconds, size = 0.0, 0
    for other in others if chosen else ():
        taken, kept = other.collector.measured(next(iter(chosen.values()))._replace(picture=None))
        seconds, size = seconds + taken * len(chosen), size + kept * len(chosen)
    each = ", ".join(
        f"{other.title} ({other.collector.nfe(other.collector.settings.steps)} denoiser"
        " evaluations)"
        for other in others
    )
    return (
        f"to validate it for other settings, at most {len(chosen)} candidates each with {each}; by "
        f"the first ones at most {seconds / 60:.0f} minutes and {size / 1e9:.1f} GB more"
    )


def _calibrates(job: Job) -> bool:
    return job.wanted.part == "validation" and calibrates(job.wanted.content)


def _job(row: Row) -> Job:
    """A validation candidate to draw again."""
    wanted = Wanted(prompt=row.prompt, scene=row.scene, kind=row.kind, split="validation")
    return Job(wanted, row.seed)


def validate_settings(out: Path, others: Sequence[Other], say: Say) -> Card:
    """Draw with every other setting, measure `out`/probe there, write its card with its validated
    ranges, and return the card."""
    probe, rows = load_probe(out / "probe"), rows_in(out / "shards")
    groups = [[_job(rows[i]) for i in group] for group in splits_of(rows).calibration]
    drawn = {job.key for group in groups for job in group}
    checks: list[Check] = []
    for other in others:
        folder = out / "also" / other.folder
        say(f"drawing {len(drawn)} candidates with {other.title}")
        collect(other.collector, folder, (), 0, given=groups)
        checks.append(validate_setting(probe, folder, drawn, other.setting, other.value))
    ranges = ranges_of(probe.card.made_with, checks)
    card = probe.card.model_copy(update={"ranges": ranges, "checks": tuple(checks)})
    return save_probe(out / "probe", probe.network, card)
