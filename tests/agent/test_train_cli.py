"""`promptprobe train`: killed at any moment it goes on, and ends with the same probe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.probe.prediction import load_probe
from promptprobe.tools.models import open_toolbox
from promptprobe.tools.records import Candidate, Generation

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
        sys.executable, "-m", "promptprobe", "train", "--model", "sprites", "--prompts",
        str(prompts), "--scorer", "clip:sprites", "--scorer", "sprites", "--out", str(out),
        "--seeds", "3", "--steps", str(STEPS), "--probed", "1,2", "--epochs", "3",
    ]  # fmt: skip


def killed_at(line: str, arguments: list[str]) -> None:
    """SIGKILL as soon as the command says so."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while line.encode() not in said:
            piece = process.stderr.read(1)
            assert piece, f"it ended without saying {line!r}: {said.decode()}"
            said += piece
        process.kill()


def test_killed_and_resumed_it_gives_the_same_probe_as_unbroken(
    prompts: Path, tmp_path: Path
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    done = subprocess.run(command(prompts, unbroken), capture_output=True, text=True, check=True)
    assert "12 prompts x 3 seeds = 36 candidates of 8 denoiser evaluations" in done.stderr
    assert f"probe in {unbroken / 'probe'}" in done.stdout
    killed_at("candidates of", command(prompts, broken))
    assert not list((broken / "shards").glob("*.safetensors"))
    killed_at("epoch 2 of", command(prompts, broken))
    assert not (broken / "probe").exists()
    subprocess.run(command(prompts, broken), capture_output=True, check=True)
    for name in ("card.json", "probe.safetensors"):
        assert (broken / "probe" / name).read_bytes() == (unbroken / "probe" / name).read_bytes()
    card = load_probe(broken / "probe").card
    assert [target.name for target in card.targets] == ["clip:sprites score", "sprites score"]
    assert [window.k for window in card.windows] == [1, 2]

    generation = Generation(steps=STEPS)
    toolbox = open_toolbox("sprites", generation, "sprites", broken / "probe")
    [view] = toolbox.probe("a moon", [Candidate(prompt="a moon", seed=1)], tmp_path / "latents")
    assert toolbox.notes == []
    assert view.prediction is not None and view.prediction.basis == "probe"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"--prompts": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ({"--scorer": "taste"}, "unknown scorer 'taste'"),
        ({"--model": "no such model here"}, "unknown model"),
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
    arguments = command(prompts, tmp_path / "out")[3:]
    for option, value in change.items():
        arguments[arguments.index(option) + 1] = value
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
