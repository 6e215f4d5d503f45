"""A run whose Python scorer fails on the way: nothing is lost, and nothing is drawn in vain."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from promptprobe import Generation, OptimizationResult, Score, optimize_prompt
from promptprobe.__main__ import main
from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.agent.optimize import start, wait_for
from promptprobe.agent.search.policy import MOST_UNSCORED, scores_nothing
from promptprobe.tools.models.model import open_model
from promptprobe.tools.scorers.function import open_function
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.toolbox import Toolbox

FEW_STEPS = Generation(steps=3)
BUDGET = 12
CHECKED, FIRST_ROUND = 1, 4
"""Calls of a scorer by then: one image of noise, two looks of the first round, its picture."""


@dataclass
class Failing:
    """Scores so many images, and then does something else."""

    calls: int
    then: Callable[[], Any]
    asked: list[Any] = field(default_factory=list)

    def __call__(self, brief: str, image: Any) -> Any:
        self.asked.append(image)
        return 0.5 if len(self.asked) <= self.calls else self.then()


def away() -> float:
    raise ConnectionError("the service is gone")


def run(folder: Path, out: Path, scorer: Any) -> OptimizationResult:
    return optimize_prompt(
        "a red cat", model=folder, generation=FEW_STEPS, scorer=scorer, rewrite="off",
        budget=BUDGET, out=out,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (away, "ConnectionError: the service is gone"),
        (lambda: float("nan"), "expected a finite number, got nan"),
    ],
)
def test_a_scorer_that_fails_on_every_picture_ends_the_run_after_the_first(
    then: Callable[[], Any], says: str, ddim_folder: Path, tmp_path: Path
) -> None:
    result = run(ddim_folder, tmp_path, Failing(CHECKED, then))
    assert result.stop_reason == "scorer failed"
    assert [trial.image is not None for trial in result.trials] == [True]
    assert result.best.score is not None
    assert result.best.score.value is None
    assert any(says in said and "so the run stops here" in said for said in result.warnings)


def test_a_scorer_that_dies_midway_ends_the_run_with_the_best_by_then(
    ddim_folder: Path, tmp_path: Path
) -> None:
    result = run(ddim_folder, tmp_path, Failing(FIRST_ROUND, away))
    assert result.stop_reason == "scorer failed"
    assert result.best == result.initial
    finished = [trial for trial in result.trials if trial.image]
    assert all(trial.image.is_file() for trial in finished if trial.image)
    assert MOST_UNSCORED < len(finished) < BUDGET
    assert result.contact_sheet.is_file()
    assert result.report.is_file()


def test_the_command_ends_with_1_and_still_says_what_was_drawn(
    ddim_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def score(brief, image):\n    return 0.5 if image.width == 224 else 'fine'\n")
    options = ["--model", str(ddim_folder), "--scorer", f"python:{judge}:score", "--steps", "3"]
    assert main(["optimize", "a red cat", *options, "--json", "--out", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["stop_reason"] == "scorer failed"
    assert Path(found["best"]["image"]).is_file()
    assert "expected a number or a Score, got str 'fine'" in said.err


def test_a_batch_goes_on_with_the_brief_at_which_the_scorer_failed(
    ddim_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, works = tmp_path / "judge.py", tmp_path / "works"
    judge.write_text(
        "import pathlib\ndef score(brief, image):\n"
        f"    return 0.5 if image.width == 224 or pathlib.Path({str(works)!r}).exists() else None\n"
    )
    (tmp_path / "briefs.txt").write_text("a red cat\n")
    batch = ["--briefs", str(tmp_path / "briefs.txt"), "--out", str(tmp_path / "out")]
    options = ["--model", str(ddim_folder), "--scorer", f"python:{judge}:score", "--steps", "3"]
    command = ["optimize", *batch, *options, "--budget", "2", "--rewrite", "off"]
    assert main(command) == 1
    assert "failed: the scorer failed (see the warnings)" in capsys.readouterr().err
    works.touch()
    assert main(command) == 0
    (row,) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert row["best"]["score"] == 0.5
    assert len(list((tmp_path / "out").rglob("run.json"))) == 1


def test_a_scorer_that_hangs_is_given_up_and_ends_the_run(
    ddim_folder: Path, tmp_path: Path
) -> None:
    over = threading.Event()
    hangs = Failing(CHECKED, over.wait)
    scorer = Scorer("hangs", open_function(hangs, patience=0.2).score_images, may_decline=True)
    tools = Toolbox(open_model(ddim_folder, FEW_STEPS), scorer)
    request = OptimizeRequest(brief="a red cat", model=str(ddim_folder), rewrite="off")
    result = wait_for(start(request, tmp_path, open_tools=lambda _: tools))
    over.set()
    assert result.stop_reason == "scorer failed"
    assert len(hangs.asked) == CHECKED + 1
    assert any(
        "no answer within 0.2 s, so it is not called again" in said for said in result.warnings
    )


@pytest.mark.parametrize(
    ("scores", "nothing"),
    [
        ([], False),
        ([Score(reason="broke", failed=True)], True),
        ([Score(reason="no face in it")], False),
        ([Score(reason="no face in it")] * MOST_UNSCORED, True),
        ([Score(value=1), *[Score(reason="broke", failed=True)] * 3], False),
        ([Score(value=1), *[Score(reason="broke", failed=True)] * 4], True),
        ([*[Score(reason="broke", failed=True)] * 3, Score(value=0)], False),
    ],
)
def test_a_scorer_is_of_no_use_that_broke_on_all_or_left_the_last_four_unscored(
    scores: list[Score], nothing: bool
) -> None:
    assert scores_nothing(scores) is nothing
