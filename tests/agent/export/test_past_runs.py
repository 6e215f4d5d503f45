"""Run folders are read for training, within bounds; nothing is written there, or read elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from promptprobe.agent.export.past_runs import read_runs
from promptprobe.agent.ledger import Ledger, RenderedLine
from promptprobe.agent.runner import run_loop
from promptprobe.tools.protocol import Rendered
from tests.agent.scripted import ScriptedTools, offline, start


def a_run(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    run_dir = start(out, brief="A scarlet  kitty")
    asyncio.run(run_loop(run_dir, ScriptedTools(out / "log"), offline()))
    return run_dir


def finished(run_dir: Path) -> int:
    return sum(trial.image is not None for trial in Ledger(run_dir).trials())


def without_news(line: str) -> None:
    raise AssertionError(line)


def test_every_finished_trial_of_every_run_is_there_with_its_picture(tmp_path: Path) -> None:
    runs = [a_run(tmp_path), a_run(tmp_path / "runs" / "000001")]
    found = read_runs([tmp_path, runs[0]], without_news)
    assert {run.folder for run in found} == set(runs)
    for run in found:
        trials = Ledger(run.folder).trials()
        expected = {
            (t.candidate.prompt, t.candidate.seed): t.image for t in trials if t.image is not None
        }
        assert {job.key: job.picture for job in run.jobs} == expected
        assert len(expected) > 1
        assert (run.model, run.generation) == ("scripted", ScriptedTools(Path()).settings_used)


def test_the_rewrites_of_a_brief_share_its_scene_and_so_a_split(tmp_path: Path) -> None:
    a_run(tmp_path)
    [run] = read_runs([tmp_path], without_news)
    assert len({job.wanted.prompt for job in run.jobs}) > 1
    assert {job.wanted.content for job in run.jobs} == {"a scarlet kitty"}
    assert len({job.wanted.part for job in run.jobs}) == 1


def test_a_run_that_is_still_being_written_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    path = a_run(tmp_path) / "trials.jsonl"
    torn = path.read_bytes()[:-20]
    path.write_bytes(torn)
    [run] = read_runs([tmp_path], without_news)
    assert len(run.jobs) == finished(path.parent)
    assert path.read_bytes() == torn


def test_an_image_that_the_run_refused_to_score_is_no_label(tmp_path: Path) -> None:
    run_dir = a_run(tmp_path)
    before = finished(run_dir)
    candidate = next(trial for trial in Ledger(run_dir).trials() if trial.image).candidate
    black = Rendered(image=run_dir / "images" / "x.png", reason="blacked out", nfe=1)
    Ledger(run_dir).write([RenderedLine(candidate=candidate, rendered=black)])
    [run] = read_runs([tmp_path], without_news)
    assert len(run.jobs) == before - 1


def linked_outside(picture: Path) -> None:
    picture.rename(picture.parents[2] / "elsewhere.png")
    picture.symlink_to(picture.parents[2] / "elsewhere.png")


def linked_to_itself(picture: Path) -> None:
    picture.unlink()
    picture.symlink_to(picture)


def made_a_pipe(picture: Path) -> None:
    picture.unlink()
    os.mkfifo(picture)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (linked_outside, "leads out of the run's folder"),
        (Path.unlink, "is missing"),
        (made_a_pipe, "not a file"),
        (linked_to_itself, "loop|missing"),
        (lambda picture: os.truncate(picture, 2**28 + 1), "expected at most 268,435,456"),
    ],
    ids=["outside", "missing", "pipe", "loop", "large"],
)
def test_a_picture_that_is_no_file_of_the_run_is_left_out_aloud(
    tmp_path: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    run_dir = a_run(tmp_path / "runs")
    before = finished(run_dir)
    spoil(next((run_dir / "images").iterdir()))
    said: list[str] = []
    [run] = read_runs([tmp_path], said.append)
    assert len(run.jobs) == before - 1
    [line] = said
    assert line.startswith("left out: seed ")
    assert re.search(problem, line)


def test_a_damaged_run_is_left_out_aloud_and_the_others_are_not(tmp_path: Path) -> None:
    good, bad, linked = (a_run(tmp_path) for _ in range(3))
    (bad / "run.json").write_text("{}")
    (linked / "trials.jsonl").unlink()
    (linked / "trials.jsonl").symlink_to(good / "trials.jsonl")
    said: list[str] = []
    assert [run.folder for run in read_runs([tmp_path], said.append)] == [good]
    assert len(said) == 2
    assert any("run.json is damaged" in line for line in said)
    assert any("trials.jsonl leads out of the run's folder" in line for line in said)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected the folder of a run, or a folder of runs"):
        read_runs([tmp_path / name], without_news)
