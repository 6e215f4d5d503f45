"""The briefs that an eval measures on: a built-in model's held-out scenes, a file, or a collection.

Prompts are split by hash, whatever their order: one third is for fitting and choosing, the rest for
measuring. Prompts that are known to have trained the probe are left out.
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
"""Split of a file's prompts, which have other seeds than any training."""
FEWEST = 2
"""Prompts in a table; with a single one there is no interval."""


@dataclass(frozen=True)
class Sample:
    """Briefs that share no seed with any training."""

    test: list[Brief]
    known: list[Brief]
    """Briefs for fitting and choosing; empty if nothing is fitted or chosen."""
    title: str
    notes: tuple[str, ...] = ()
    shards: Path | None = None
    """A collection that holds the candidates of these briefs; None if they are to be drawn."""


def held_out(bench: Bench, count: int, split: str = "test", *, choosing: bool = True) -> Sample:
    """Held-out scenes of a built-in model, and half as many of its validation scenes.

    ValueError: the model is not built in, or holds out too few scenes.
    """
    if count < FEWEST:
        raise ValueError(f"--prompts: expected at least {FEWEST} scenes, got {count}")
    if bench.evidence is None:
        raise ValueError(
            f"--prompts {count}: a number means held-out scenes of a built-in model, but "
            f"{bench.name} is not built in; give a file of prompts"
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
        most: maximum number of prompts, chosen by hash.
        trained: prompts that the probe has seen, as `content_of` gives them.
        choosing: whether a third of them is reserved for fitting and choosing.

    Raises:
        ValueError: the file cannot be read, or holds too few prompts that the probe has not seen.
    """
    prompts, notice = read_prompts(path)
    named = {content_of(one.prompt): one for one in prompts}
    briefs = {name: Brief(one.prompt, name, SPLIT, one.kind) for name, one in named.items()}
    fresh = [brief for name, brief in briefs.items() if name not in trained]
    notes = [notice] if notice else []
    if left := len(briefs) - len(fresh):
        notes.append(
            f"{left} of {len(briefs)} prompts of {path} are left out: the probe was trained on them"
        )
    test, known = _divided(fresh, most, choosing, path)
    return Sample(test, known, f"prompts of {path.name}", tuple(notes))


def from_shards(
    bench: Bench,
    shards: Path,
    seeds: int,
    most: int | None = None,
    trained: Collection[str] = (),
) -> Sample:
    """Prompts of a collection, one for each scene, for which it has enough seeds.

    With a probe, only prompts that are used neither for training nor for early stopping.

    Args:
        seeds: seeds needed of each prompt.
        most: maximum number of prompts, chosen by hash.
        trained: prompts that the probe has seen elsewhere, as `content_of` gives them.

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
            f"left out (the most for any prompt is --seeds {longest})"
        )
    if bench.probe:
        notes.append(
            "these prompts did not affect training, but if they come from the probe's own "
            "collection, its intervals were calibrated on them, so coverage here is not a test"
        )
    try:
        test, known = _divided(list(briefs.values()), most, True, shards)
    except ValueError as error:
        raise ValueError("; ".join([str(error), *notes])) from None
    return Sample(test, known, f"prompts of {shards}, read", tuple(notes), shards)


def _divided(
    fresh: Sequence[Brief], most: int | None, choosing: bool, source: Path
) -> tuple[list[Brief], list[Brief]]:
    """Briefs for measuring, and briefs for fitting and choosing, in the order of the source."""
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
    """Check each brief with an image of noise before anything is drawn.

    ValueError: the model can draw nothing of a brief, or a judge gives it no score.
    """
    for brief in briefs:
        if bench.own:
            bench.own.check_brief(brief.text)
        for scorer in bench.scorers:
            scorer.check(brief.text)


def contents(shards: Iterable[Path]) -> set[str]:
    """All prompts of these collections. ShardError: one cannot be read."""
    from promptprobe.tools.collect.collector import rows_in

    return {content_of(row.prompt) for folder in shards for row in rows_in(folder)}
