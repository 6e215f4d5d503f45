"""Reads past runs for `promptprobe train`, from their folders into records of tools/.

A folder may come from anywhere: it is only read, within bounds, and nothing outside of it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from promptprobe.agent import ledger, run_folder
from promptprobe.agent.ledger import Ledger, RenderedLine
from promptprobe.tools.collect.prompts import Job, Wanted
from promptprobe.tools.collect.reuse_runs import PastRun, Say


def read_runs(folders: Sequence[Path], say: Say) -> list[PastRun]:
    """Every run in these folders, at any depth.

    Args:
        say: called with each run and picture that is left out, and why.

    Raises:
        ValueError: a folder contains no run.
    """
    found: dict[Path, PastRun] = {}
    for folder in folders:
        for run_dir in map(Path.resolve, run_folder.runs_in(folder)):
            try:
                found[run_dir] = _read(run_dir, say)
            except (OSError, ValueError, RuntimeError) as error:
                say(f"left out: {run_dir}: {error}")
    return list(found.values())


def _read(run_dir: Path, say: Say) -> PastRun:
    for name in (run_folder.FILE, ledger.FILE):
        run_folder.own_file(run_dir / name, run_dir)
    settings = run_folder.read(run_dir)
    scene = Wanted(prompt=settings.brief).content
    return PastRun(
        folder=run_dir,
        model=settings.model,
        generation=settings.generation,
        jobs=tuple(sorted(_finished(run_dir, scene, say), key=lambda job: job.key)),
    )


def _finished(run_dir: Path, scene: str, say: Say) -> Iterator[Job]:
    """Candidates with a picture that can be scored; rewrites of a brief count as one scene."""
    rendered = [line for line in Ledger(run_dir).lines if isinstance(line, RenderedLine)]
    for candidate, found in {line.candidate: line.rendered for line in rendered}.items():
        if found.scorable is None:
            continue
        try:
            picture = run_folder.own_file(found.scorable, run_dir)
        except (OSError, ValueError, RuntimeError) as error:
            say(f"left out: seed {candidate.seed} of {candidate.prompt[:80]!r}: {error}")
            continue
        yield Job(Wanted(prompt=candidate.prompt, scene=scene), candidate.seed, picture)
