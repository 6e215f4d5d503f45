"""`promptprobe score RUN --judge J`: further grades of a run's pictures, beside its own result."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.agent.grading.finished_runs import FILE
from promptprobe.agent.report.page import report_of
from promptprobe.agent.result import read_result
from promptprobe.agent.run_folder import REPORT
from promptprobe.agent.runner import run_loop
from tests.agent.scripted import ScriptedTools, offline, start

JUDGES = """
def red(brief, image):
    return image.getpixel((0, 0))[0] / 255

def dark(brief, image):
    return 1 - red(brief, image)

def broken(brief, image):
    if image.width == 224:  # the image of noise
        return 1.0
    raise RuntimeError("no weights")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, and judges in a file next to it."""
    (tmp_path / "own.py").write_text(JUDGES)
    monkeypatch.chdir(tmp_path)
    run_dir = start(tmp_path, "medium", scorer="python:own.py:red")
    asyncio.run(run_loop(run_dir, ScriptedTools(tmp_path / "log"), offline()))
    return run_dir


def test_further_judges_grade_all_pictures_and_change_no_result(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_result(run)
    judges = ["--judge", "python:own.py:dark", "--judge", "python:own.py:red"]
    assert main(["score", str(run), *judges, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["judges"] == ["python:own.py:dark", "python:own.py:red"]
    finished = [row for row in found["trials"] if row["image"]]
    assert len(finished) >= 3
    for row in finished:
        dark, red = row["judged"].values()
        assert dark == pytest.approx(1 - red)
    assert any(
        "selector and judge are the same (python:own.py:red)" in w for w in found["warnings"]
    )
    assert any("the judge python:own.py:dark disagrees" in w for w in found["warnings"])
    assert "note: " in said.err
    assert read_result(run) == before
    assert found["file"] == str(run / FILE)


def test_the_report_shows_later_grades_whoever_writes_it_anew(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = [trial for trial in read_result(run).trials if trial.image]
    for judge in ("dark", "red"):
        assert main(["score", str(run), "--judge", f"python:own.py:{judge}"]) == 0
    written = report_of(run).read_text()
    assert (run / REPORT).read_text() == written, "the command that graded has written it anew"
    for judge in ("dark", "red"):
        assert written.count(f"<dt>Judge python:own.py:{judge}</dt>") == len(finished)
    assert "<dt>Graded by</dt><dd>second, python:own.py:dark, python:own.py:red</dd>" in written
    assert "graded afterwards: the judge python:own.py:dark disagrees" in written
    assert str(run / REPORT) in capsys.readouterr().out

    (run / FILE).write_text("{")
    assert main(["report", str(run)]) == 0
    assert "its later grades are not shown: " in (run / REPORT).read_text()


def test_a_judge_that_fails_is_noted_and_earlier_grades_of_others_are_kept(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(run), "--judge", "python:own.py:dark"]) == 0
    assert main(["score", str(run), "--judge", "python:own.py:broken"]) == 0
    said = capsys.readouterr()
    assert "python:own.py:broken gave no grade: broken failed: RuntimeError: no weights" in said.err
    assert str(run / FILE) in said.out
    kept = json.loads((run / FILE).read_bytes())["judges"]
    assert [one["judge"] for one in kept] == ["python:own.py:dark", "python:own.py:broken"]


def test_what_cannot_be_graded_is_refused_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, says in (
        (["nowhere", "--judge", "ocr"], "expected the folder of a run"),
        ([str(run)], "Missing option '--judge'"),
        ([str(run), "--judge", "python:own.py:gone"], "own.py has no gone"),
        ([str(run), *["--judge", "python:own.py:red"] * 2], "two judges are called"),
    ):
        assert main(["score", *arguments]) == 2
        err = capsys.readouterr().err
        assert says in err
        assert len(err.splitlines()) == 1
    (run / FILE).write_text("{")
    assert main(["score", str(run), "--judge", "python:own.py:red"]) == 2
    assert "damaged" in capsys.readouterr().err
