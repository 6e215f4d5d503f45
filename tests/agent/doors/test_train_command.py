"""`promptprobe train`: killed at any moment it goes on, and ends with the same probe."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe import Budget, optimize_prompt
from promptprobe.__main__ import main
from promptprobe.agent.result import read_result
from promptprobe.probe.model.card import Card
from promptprobe.probe.model.checkpoint import load_probe
from promptprobe.probe.training.dataset import split
from promptprobe.probe.training.shards import read_collection, read_shards
from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.records import Candidate, Generation
from promptprobe.tools.scorers.scorer import open_scorer
from tests.processes import begun

THINGS = ("a red cat", "a blue car", "two fish", "a moon", "a key above a star", "a tree")
STEPS = 4


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    splits = ("train", "train", "validation")
    rows = [
        {"prompt": f"{frame} {thing}", "split": splits[number % 3]}
        for frame in ("a photo of", "a picture of")
        for number, thing in enumerate(THINGS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(prompts: Path, out: Path) -> list[str]:
    return [
        "train", "--model", "sprites", "--prompts",
        str(prompts), "--scorer", "clip:sprites", "--scorer", "sprites", "--out", str(out),
        "--seeds", "3", "--steps", str(STEPS), "--probed", "1,2", "--epochs", "3",
        "--also", "steps=6",
    ]  # fmt: skip


def killed_at(line: str, arguments: list[str], further: int = 0) -> None:
    """SIGKILL as soon as the command says so, or so many letters of its progress later."""
    with begun(arguments) as child:
        said = b""
        while line.encode() not in said:
            piece = child.stderr.read(1)
            assert piece, f"it ended without saying {line!r}: {said.decode()}"
            said += piece
        for _ in range(further):
            child.stderr.read(1)
        child.process.kill()
        assert child.wait() == -signal.SIGKILL


def made(out: Path) -> dict[str, bytes]:
    """The probe, and what was collected, with and without other settings."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for folder in (out / "probe", out / "shards", out / "also")
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "claims"
    }
    assert {"probe/card.json", "shards/shard-00000.safetensors"} <= found.keys()
    return found


def test_killed_and_resumed_it_gives_the_same_probe_as_unbroken(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    assert main(command(prompts, unbroken)) == 0
    done = capsys.readouterr()
    assert "12 prompts x 3 seeds = 36 candidates of 8 denoiser evaluations" in done.err
    assert "candidates each with steps 6 (12 denoiser evaluations); by the first" in done.err
    assert "fewer than 20 seldom tell which is better; give about 134 prompts" in done.err
    assert "1 prompt is too few to tell after 1 to 2 steps: previews are used" in done.out
    assert f"probe in {unbroken}/probe" in done.out
    # Any moment of the collecting will do: no shard, some, or all are there by then.
    killed_at("collect:", command(prompts, broken), further=random.randrange(220))
    killed_at("epoch 2 of", command(prompts, broken))
    assert not (broken / "probe").exists()
    killed_at("candidates with steps 6", command(prompts, broken))
    assert load_probe(broken / "probe").card.checks == ()
    assert main(command(prompts, broken)) == 0
    assert made(broken) == made(unbroken)
    card = load_probe(broken / "probe").card
    assert [target.name for target in card.targets] == ["clip:sprites score", "sprites score"]
    assert [window.k for window in card.windows] == [1, 2]
    assert_measured(broken, card, done.out)

    generation = Generation(steps=STEPS)
    toolbox = open_toolbox("sprites", generation, "sprites", broken / "probe")
    [view] = toolbox.probe("a moon", [Candidate(prompt="a moon", seed=1)], tmp_path / "latents")
    assert toolbox.notes == []  # no two scores of this target differ, so nothing was compared
    assert view.prediction is not None and view.prediction.basis == "probe"
    [note] = open_toolbox("sprites", generation, "clip:sprites", broken / "probe").notes
    assert "the probe was not found better than the preview after 1, 2 steps" in note

    again = tmp_path / "again"
    shutil.copytree(broken / "shards", again / "shards")
    arguments = command(prompts, again)
    also = arguments.index("--also")
    del arguments[also : also + 2]
    assert main([*arguments, "--start", str(broken / "probe")]) == 0
    assert load_probe(again / "probe").card.start_sha256 == card.weights_sha256
    assert main([*arguments, "--start", "nowhere"]) == 2


def assert_measured(out: Path, card: Card, said: str) -> None:
    """The other setting was measured on the calibration half, and the ranges say what was found."""
    [found] = card.checks
    home, also = read_shards(out / "shards"), read_shards(out / "also" / "steps-6")
    calibration = split(home, card.targets[0].name).calibration
    assert {(row.prompt, row.seed) for row in also.rows} == {
        (home.rows[i].prompt, home.rows[i].seed) for group in calibration for i in group
    }
    assert read_collection(out / "also" / "steps-6").windows == (2, 3)
    assert (found.setting, found.value, found.candidates) == ("steps", 6, len(also))
    assert card.ranges.steps == (STEPS, 6 if found.holds else STEPS)
    assert card.ranges.guidance == (card.made_with.guidance,) * 2
    assert f"with steps 6: {'holds' if found.holds else 'does not hold'}, rank within" in said


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"--prompts": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"--scorer": "taste"}, "unknown scorer 'taste'"),
        ({"--model": "no such model here"}, "unknown model"),
        ({"--also": "steps=1"}, "--also steps=1: expected at least 2 steps"),
        ({"--also": "height=30"}, "--also height=30: "),
        ({"--also": "taste=3"}, "expected a setting to validate for, one of steps, guidance,"),
        ({"--probed": "4"}, "expected from 1 to 3 steps to learn from, got [4]"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    prompts: Path,
    tmp_path: Path,
    change: dict[str, str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = command(prompts, tmp_path / "out")
    for option, value in change.items():
        arguments[arguments.index(option) + 1] = value
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to train on, one to select by, one to calibrate on, and one of other steps."""
    folder = tmp_path_factory.mktemp("runs")
    for brief, steps in (("a red cat", 4), ("a star", 4), ("a mushroom", 4), ("a tree", 5)):
        optimize_prompt(
            brief,
            generation=Generation(steps=steps),
            scorer="clip:sprites",
            rewrite="off",
            budget=Budget(renders=4, prompts=1, seeds=3),
            out=folder,
        )
    return folder


def from_runs(runs: Path, out: Path, *further: str) -> list[str]:
    return [
        "train", "--model", "sprites", "--from-runs", str(runs), "--scorer", "clip:sprites",
        "--out", str(out), "--steps", str(STEPS), "--probed", "1,2", "--epochs", "1", *further,
    ]  # fmt: skip


def test_finished_pictures_of_past_runs_are_labels_for_a_few_steps_each(
    runs: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(from_runs(runs, tmp_path)) == 0
    said = capsys.readouterr().err
    assert "12 candidates of 3 past runs, of 4 denoiser evaluations (one a run of 8," in said
    [other] = [line for line in said.splitlines() if line.startswith("left out")]
    assert str(runs) in other
    assert other.endswith("it was made with steps 5, but the training has 4")

    past = {
        (trial.candidate.prompt, trial.candidate.seed): trial.image
        for run_dir in runs.iterdir()
        for trial in read_result(run_dir).trials
        if trial.image is not None and read_result(run_dir).generation.steps == STEPS
    }
    rows = {(row.prompt, row.seed): row for row in read_shards(tmp_path / "shards").rows}
    assert rows.keys() == past.keys()
    judge = open_scorer("clip:sprites")
    for (prompt, seed), row in rows.items():
        with Image.open(past[prompt, seed]) as image:
            [score] = judge(prompt, [image])
        assert row.scores == {"clip:sprites score": pytest.approx(score.value, abs=1e-5)}
        assert row.scene == prompt
    assert load_probe(tmp_path / "probe").card.candidates == 4

    assert main(from_runs(runs, tmp_path, "--prompts", str(prompts), "--seeds", "1")) == 0
    said = capsys.readouterr().err
    assert "12 prompts x 1 seeds = 12 candidates of 8 denoiser evaluations and 12 candid" in said
    assert "12 candidates collected; training" in said
    assert len(read_shards(tmp_path / "shards")) == 24


def test_with_no_run_that_fits_and_no_prompts_there_is_nothing_to_learn_from(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*from_runs(runs, tmp_path / "out"), "--guidance", "3"]) == 2
    said = capsys.readouterr().err
    assert said.count("made with guidance 2.0, but the training has 3.0") == 3
    assert "no past run fits, and there are no prompts: give prompts, or other runs" in said
    assert not (tmp_path / "out").exists()


def test_prompts_or_runs_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model", "sprites", "--scorer", "sprites", "--out", str(tmp_path)]) == 2
    assert "expected --prompts FILE, --from-runs DIR, or both" in capsys.readouterr().err


JUDGES = """
def nothing(brief, image):
    return float("nan")

def wide(brief, image):
    return float(image.width) if image.width == 224 else float("nan")  # only of noise
"""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--seeds", "1"], "there would be no prompt with two seeds or more to train on"),
        (["--prompts", "few.txt"], "to decide when to stop, so nothing could be learned"),
        (["--prompts", "few.txt"], "got 1 prompt with 2 seeds: give more"),
        (["--prompts", "twice.txt"], "got 2 prompts with 2 to 4 seeds: give more"),
        (["--scorer", "python:own.py:nothing"], "gave no score for an image of noise"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_anything_is_drawn(
    changed: list[str],
    says: str,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(JUDGES)
    Path("few.txt").write_text("a red cat\n")
    Path("twice.txt").write_text("a red cat\na red cat\na blue car\n")
    given = ["--model", "sprites", "--prompts", str(prompts), "--scorer", "sprites", "--seeds", "2"]
    assert main(["train", *given, "--out", "out", *changed]) == 2
    *others, said = capsys.readouterr().err.splitlines()
    assert says in said and not others
    assert not Path("out").exists()


def test_without_the_library_of_its_shards_nothing_is_opened_or_drawn(
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    given = ["--model", "no/such/model", "--prompts", str(prompts), "--scorer", "sprites"]
    assert main(["train", *given, "--out", str(tmp_path / "out")]) == 1
    said = "promptprobe: train needs pyarrow, not installed: pip install 'promptprobe[train]'"
    assert capsys.readouterr().err.splitlines() == [said]


def test_a_scorer_that_scores_no_picture_is_named_with_its_reason(
    prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(JUDGES)
    given = ["--model", "sprites", "--prompts", str(prompts), "--scorer", "python:own.py:wide"]
    assert main(["train", *given, "--out", "out", "--seeds", "2", "--steps", "2"]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert "24 of 24 candidates have no python:own.py:wide score (" in said
    assert "expected a finite number, got nan" in said
