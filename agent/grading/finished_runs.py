"""Grades the pictures of finished runs by further judges.

The grades go to their own file in the run's folder, and the run's report shows them. The result
does not change: judges that grade never select, not even afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from promptprobe.agent.grading.judges import disagreements
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.run_folder import locked, own_file
from promptprobe.probe.files import replacing
from promptprobe.tools.records import Candidate, Record, Score, Trial
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.scorers.table import parts_of

FILE = "grades.json"
Say = Callable[[str], None]


class Grades(Record):
    """One judge's grades of a run's finished pictures."""

    judge: str
    pictures: dict[str, Score] = Field(description="by the candidate's key, which names its file")


class Graded(NamedTuple):
    """A run with the grades of further judges instead of its own."""

    result: OptimizationResult
    file: Path
    notes: tuple[str, ...]
    """Notes on judges that are the run's own scorer, failed, or disagree with the choice."""


class _File(Record):
    judges: tuple[Grades, ...] = ()


def grade_again(run_dir: Path, judges: Sequence[Scorer], say: Say) -> Graded:
    """Have judges grade all finished pictures of a run, and keep the grades in its folder.

    Earlier grades by other judges are kept, and those by the same judges replaced.

    Args:
        run_dir: folder of a run.
        judges: the judges, with different names.
        say: called with a line about each judge before it starts.

    Raises:
        ValueError: this is not a run folder, nothing was rendered there, a judge fails on an image
            of noise, or the file of earlier grades is damaged.
        OSError: the run is in progress, or its folder cannot be written.
    """
    result = read_result(run_dir)
    pictures = [trial for trial in result.trials if trial.image is not None]
    for judge in judges:
        judge.check(result.brief)
    with locked(result.run_dir):
        path = result.run_dir / FILE
        kept = {one.judge: one for one in _read(path).judges}
        for judge in judges:
            say(f"{judge.name} grades; pictures: {len(pictures)}")
            scores = _graded(judge, result, pictures)
            kept[judge.name] = Grades(judge=judge.name, pictures=scores)
            _write(path, kept)
    regraded = _with(result, {judge.name: kept[judge.name] for judge in judges})
    return Graded(regraded, path, tuple(_notes(regraded, regraded.judges)))


def with_grades(result: OptimizationResult) -> OptimizationResult:
    """The result with later grades of its pictures added to those by its own judges.

    If the later grades cannot be read, the result gets a warning instead.
    """
    path = result.run_dir / FILE
    try:
        kept = {one.judge: one for one in _read(path).judges}
        notes = [f"graded afterwards: {note}" for note in _notes(_with(result, kept), kept)]
    except (OSError, ValueError) as error:
        kept, notes = {}, [f"its later grades are not shown: {error}"]
    merged = _with(result, kept, own=True)
    return merged.model_copy(update={"warnings": (*result.warnings, *notes)})


def _notes(graded: OptimizationResult, judges: Collection[str]) -> Iterator[str]:
    """Notes on judges that are the run's own scorer, failed, or disagree with the choice."""
    for name in judges:
        scores = [score for t in graded.trials if (score := t.judged.get(name))]
        reasons = (score.reason for score in scores if score.value is None)
        yield from (f"{name} gave no grade: {why}" for why in dict.fromkeys(reasons))
        if name in (graded.scorer, *parts_of(graded.scorer)):
            yield f"selector and judge are the same ({name})"
    yield from disagreements(graded.trials, graded.best)


def _graded(
    judge: Scorer, result: OptimizationResult, pictures: Sequence[Trial]
) -> dict[str, Score]:
    """A judge's scores by candidate; a picture outside of the run's folder gets none."""
    paths: dict[Candidate, Path] = {}
    scores: dict[Candidate, Score] = {}
    for trial in pictures:
        assert trial.image is not None, "only finished pictures are graded"
        try:
            paths[trial.candidate] = own_file(trial.image, result.run_dir)
        except ValueError as error:
            scores[trial.candidate] = Score(reason=str(error))
    scores |= zip(paths, judge.of_files(result.brief, list(paths.values())), strict=True)
    return {candidate.key: score for candidate, score in scores.items()}


def _with(
    result: OptimizationResult, grades: dict[str, Grades], own: bool = False
) -> OptimizationResult:
    """The result as if these judges had graded it; with `own`, its own judges' grades stay."""

    def graded(trial: Trial) -> Trial:
        key = trial.candidate.key
        found = {name: one.pictures[key] for name, one in grades.items() if key in one.pictures}
        return trial.model_copy(update={"judged": (trial.judged if own else {}) | found})

    return result.model_copy(
        update={
            "judges": tuple(dict.fromkeys([*(result.judges if own else ()), *grades])),
            "best": graded(result.best),
            "initial": graded(result.initial),
            "trials": tuple(map(graded, result.trials)),
        }
    )


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _File()
    except ValidationError as error:
        raise ValueError(
            f"{path} is damaged or of another version: move it away and grade again ({error})"
        ) from error


def _write(path: Path, kept: dict[str, Grades]) -> None:
    with replacing(path) as partial:
        found = _File(judges=tuple(kept.values()))
        partial.write_text(found.model_dump_json(indent=2), encoding="utf-8")
