"""Judges that only grade: paid once, never selecting, and heard where they disagree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from promptprobe import Generation, Session, optimize_prompt
from promptprobe.agent import run_folder
from promptprobe.agent.given import opened
from promptprobe.agent.grading.judges import disagreements
from promptprobe.agent.runner import run_loop
from promptprobe.tools.records import Candidate, Score, Trial
from tests.agent.scripted import ScriptedTools, offline, start

FEW_STEPS = Generation(steps=5)


def darkness(brief: str, image: Any) -> float:
    """A scorer of one's own."""
    return 1 - sum(image.convert("L").resize((1, 1)).tobytes()) / 255


def lightness(brief: str, image: Any) -> Score:
    """A judge that never thinks as that scorer does."""
    return Score(value=1 - darkness(brief, image), correct=False, explanation="too dark")


@dataclass
class TwoJudges(ScriptedTools):
    """The second of two judges may break the run."""

    judge_names: tuple[str, ...] = ("second", "third")
    breaks: bool = False

    def judge(self, name: str, brief: str, images: Sequence[Path]) -> list[Score]:
        if self.breaks and name == "third":
            raise RuntimeError("pulled the plug")
        with self.log.open("a") as log:
            log.writelines(f"{name} {path.stem}\n" for path in images)
        return super().judge(name, brief, images)


def test_every_finished_picture_is_graded_once_by_each_judge_in_a_resumed_run_too(
    tmp_path: Path,
) -> None:
    run_dir, log = start(tmp_path, judge=("second", "third")), tmp_path / "log"
    with pytest.raises(RuntimeError, match="pulled the plug"):
        asyncio.run(run_loop(run_dir, TwoJudges(log, breaks=True), offline()))
    result = asyncio.run(run_loop(run_dir, TwoJudges(log), offline()))
    finished = [trial for trial in result.trials if trial.image]
    assert [list(trial.judged) for trial in finished] == [["second", "third"]] * len(finished)
    grades = [line for line in log.read_text().splitlines() if line.startswith(("sec", "thi"))]
    assert len(grades) == len(set(grades)) == 2 * len(finished)
    assert result.judges == ("second", "third")
    assert result.summary()["best"]["judged"].keys() == {"second", "third"}


def graded(*grades: Score) -> list[Trial]:
    """Finished trials of one judge, called j; the first is the winner."""
    return [
        Trial(candidate=Candidate(prompt="a cat", seed=at), round=0, judged={"j": grade})
        for at, grade in enumerate(grades)
    ]


@pytest.mark.parametrize(
    ("grades", "says"),
    [
        ([0.1, 0.2, 0.9], "grades the best picture 0.1 and prefers seed 2 of 'a cat': 0.9"),
        ([0.8, 0.2, 0.9], ""),
        ([0.1, 0.9], ""),
        ([0.5, 0.5, 0.5], ""),
    ],
)
def test_a_judge_disagrees_by_more_than_a_standard_deviation_of_three_grades_or_more(
    grades: list[float], says: str
) -> None:
    trials = graded(*(Score(value=grade) for grade in grades))
    found = list(disagreements(trials, trials[0]))
    assert len(found) == bool(says)
    assert all(says in message for message in found)


def test_a_judge_disagrees_that_says_what_is_wrong_and_one_that_gave_no_grade_does_not() -> None:
    trials = graded(Score(value=0.5, correct=False, explanation="no cat"), Score(reason="away"))
    (said,) = disagreements(trials, trials[0])
    assert said == "the judge j disagrees with the choice: it grades the best picture 0.5 (no cat)"
    assert not list(disagreements(trials, trials[1]))
    assert not list(disagreements([], None))


def test_functions_as_judges_grade_and_are_given_again_to_go_on(
    ddim_folder: Path, tmp_path: Path
) -> None:
    judges = [lightness, darkness]
    asked: dict[str, Any] = {"model": ddim_folder, "scorer": darkness}
    result = optimize_prompt(
        "a red cat", **asked, judge=judges, generation=FEW_STEPS, rewrite="off", budget=2,
        out=tmp_path,
    )  # fmt: skip
    assert (result.scorer, result.judges) == ("darkness", ("lightness", "darkness"))
    grades = result.best.judged
    assert result.best.score == grades["darkness"]
    assert grades["lightness"].explanation == "too dark"
    assert any("selector and judge are the same (darkness)" in said for said in result.warnings)
    assert any("the judge lightness disagrees" in said for said in result.warnings)
    with pytest.raises(ValueError, match="a judge that is a Python object: give it again"):
        optimize_prompt(resume=result.run_dir, **asked)
    with pytest.raises(ValueError, match="this run's judge is 'callable lightness' and"):
        optimize_prompt(resume=result.run_dir, **asked, judge=lightness)
    assert optimize_prompt(resume=result.run_dir, **asked, judge=judges) == result
    session = Session(**asked, judge=judges, generation=FEW_STEPS)
    assert session.optimize(resume=result.run_dir) == result


def test_none_as_the_judge_is_nobody_of_the_callers(ddim_folder: Path, tmp_path: Path) -> None:
    result = optimize_prompt(
        "a red cat", model=ddim_folder, scorer=darkness, judge=None, generation=FEW_STEPS,
        rewrite="off", budget=1, out=tmp_path,
    )  # fmt: skip
    assert result.judges == ()


def test_no_folder_decides_whose_code_grades(tmp_path: Path) -> None:
    settings = run_folder.read(start(tmp_path, judge=("python:j.py:grade", "ocr")))
    with pytest.raises(ValueError, match=r"names 'python:j\.py:grade' as its judge, but a folder"):
        opened(settings)
    with pytest.raises(ValueError, match=r"judge is 'python:j\.py:grade' and 'ocr', got 'ocr'"):
        opened(settings, judges=("ocr",))


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        (5, "judge must be a name"),
        ([darkness, darkness], "two judges are called 'darkness'"),
        ("python:nowhere.py:grade", "no file nowhere.py"),
        (lambda image: 1.0, "gave no score for an image of noise"),
    ],
)
def test_a_judge_that_cannot_grade_ends_the_run_before_anything_is_drawn(
    judge: Any, says: str, ddim_folder: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"model": ddim_folder, "scorer": darkness, "generation": FEW_STEPS}
    with pytest.raises(ValueError, match=says):
        optimize_prompt("a red cat", **given, judge=judge, out=tmp_path)
    assert not list(tmp_path.iterdir())
