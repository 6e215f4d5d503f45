"""What an eval measures on: briefs that a built-in model holds out, a file, or a collection.

Prompts are divided by hash, whatever their order: what is fitted or chosen, is so on one third, and
the rest is measured. Prompts that are known to have trained the probe are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptprobe.evals.bench import Bench
from promptprobe.tools.collect.prompts import content_of, read_prompts
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.splits import fraction

SPLIT = "eval"
"""Of a file's prompts: training draws with other seeds, whatever its prompts are."""
FEWEST = 2
"""Prompts of a table: one has no interval."""


@dataclass(frozen=True)
class Sample:
    """Briefs with no seed in common with any training."""

    test: list[Brief]
    known: list[Brief]
    """What may be fitted or chosen on; empty where nothing is."""
    title: str
    notes: tuple[str, ...] = ()
    shards: Path | None = None
    """A collection that holds the candidates of these briefs; None: they are to be drawn."""


def held_out(bench: Bench, count: int, split: str = "test", *, choosing: bool = True) -> Sample:
    """Scenes of a built-in model, and half as many of its validation scenes.

    ValueError: this model holds none out, or not so many.
    """
    if count < FEWEST:
        raise ValueError(f"--prompts: expected at least {FEWEST} scenes, got {count}")
    if bench.evidence is None:
        raise ValueError(
            f"--prompts: a number counts the held-out scenes of a built-in model, and {bench.name} "
            f"is none: give a file of prompts, got {count}"
        )
    test = bench.evidence.held_out(count, split)
    known = bench.evidence.held_out(max(FEWEST, count // 2), "validation") if choosing else []
    return Sample(test, known, f"{split} scenes, natural wordings")


def from_file(
    path: Path,
    most: int | None = None,
    trained: Collection[str] = (),
    *,
    choosing: bool = True,
) -> Sample:
    """The prompts of a file, each once.

    Args:
        most: so many of them at most, by hash.
        trained: prompts that the probe has seen, as `content_of` spells them.
        choosing: whether a third of them is set apart to fit and choose on.

    Raises:
        ValueError: the file cannot be read, or holds too few prompts that the probe has not seen.
    """
    wanted, notice = read_prompts(path)
    named = {content_of(one.prompt): one for one in wanted}
    briefs = {name: Brief(one.prompt, name, SPLIT, one.kind) for name, one in named.items()}
    fresh = [brief for name, brief in briefs.items() if name not in trained]
    notes = [notice] if notice else []
    if left := len(briefs) - len(fresh):
        notes.append(f"{left} of {len(briefs)} prompts of {path} are left out: they made the probe")
    test, known = _divided(fresh, most, choosing, path)
    return Sample(test, known, f"prompts of {path.name}", tuple(notes))


def from_shards(
    bench: Bench,
    shards: Path,
    seeds: int,
    most: int | None = None,
    trained: Collection[str] = (),
) -> Sample:
    """Prompts of a collection, one a scene, that it has enough seeds of.

    With a probe, only those that training neither learns from nor stops by.

    Args:
        seeds: so many of each prompt.
        most: so many prompts at most, by hash.
        trained: prompts that the probe has seen elsewhere, as `content_of` spells them.

    Raises:
        ValueError: too few are left.
    """
    from promptprobe.probe.training.dataset import groups_of, splits_of
    from promptprobe.tools.collect.collector import rows_in

    rows = rows_in(shards)
    groups = splits_of(rows).calibration if bench.probe else groups_of(rows)
    groups = [group for group in groups if content_of(rows[group[0]].prompt) not in trained]
    first = [rows[group[0]] for group in groups if len(group) >= seeds]
    briefs = {row.scene: Brief(row.prompt, row.scene, row.split, row.kind) for row in first}
    notes = []
    if short := len(groups) - len(first):
        longest = max(map(len, groups))
        notes.append(
            f"{short} of {len(groups)} prompts of {shards} have fewer than {seeds} seeds and are "
            f"left out (--seeds {longest} is the most that it has of a prompt)"
        )
    if bench.probe:
        notes.append(
            "these prompts stopped no training, but where they are of the probe's own collection, "
            "its intervals were calibrated on them: their coverage here is no test of them"
        )
    try:
        test, known = _divided(list(briefs.values()), most, True, shards)
    except ValueError as error:
        raise ValueError("; ".join([str(error), *notes])) from None
    return Sample(test, known, f"prompts of {shards}, read", tuple(notes), shards)


def _divided(
    fresh: Sequence[Brief], most: int | None, choosing: bool, source: Path
) -> tuple[list[Brief], list[Brief]]:
    """Briefs to measure on, and to fit and choose on, in the order of the source."""
    chosen = sorted(fresh, key=lambda brief: fraction("eval order", brief.content))[:most]
    known = chosen[: max(FEWEST, len(chosen) // 3)] if choosing else []
    test = chosen[len(known) :]
    if len(test) < FEWEST:
        raise ValueError(
            f"expected at least {FEWEST * (1 + choosing)} prompts that the probe has not seen, got "
            f"{len(chosen)} of {source}"
        )
    order = {brief.content: at for at, brief in enumerate(fresh)}
    known, test = (sorted(part, key=lambda one: order[one.content]) for part in (known, test))
    return test, known


def check_each(bench: Bench, briefs: Sequence[Brief]) -> None:
    """Each brief, with an image of noise, before anything is drawn.

    ValueError: the model can draw nothing of one, or a judge gives it no score.
    """
    for brief in briefs:
        if bench.own:
            bench.own.check_brief(brief.text)
        for scorer in bench.scorers:
            scorer.check(brief.text)


def contents(shards: Iterable[Path]) -> set[str]:
    """Every prompt of these collections. ShardError: one cannot be read."""
    from promptprobe.tools.collect.collector import rows_in

    return {content_of(row.prompt) for folder in shards for row in rows_in(folder)}
