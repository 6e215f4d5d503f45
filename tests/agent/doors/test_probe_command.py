"""`promptprobe probe` as its user meets it: ranked candidates, heat maps, nothing left behind."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from promptprobe.__main__ import main
from promptprobe.agent.doors.commands import app, probe_request
from promptprobe.agent.doors.replies import ProbeReply
from promptprobe.tools.records import Generation
from tests.processes import begun

ROOT = Path(__file__).parents[3]
BRIEF = "a red cat left of a blue car"


def interrupted_at_the_first_picture(arguments: list[str]) -> int:
    def interrupt(event: str, given: tuple[object, ...]) -> None:
        if event == "open" and Path(str(given[0])).match("heatmaps/*.png"):
            signal.raise_signal(signal.SIGINT)

    sys.addaudithook(interrupt)
    return main(arguments)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process makes its temporary folders."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny(ddim_folder: Path, clip_folder: Path) -> list[str]:
    """A tiny random model and scorer, and few steps."""
    return ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]


def test_every_option_reaches_the_request() -> None:
    arguments = [
        *("a cat", "--prompt", "one", "--prompt", "two", "--seeds", "3", "--seed", "7"),
        *("--model", "folder", "--scorer", "clip:x", "--steps", "9", "--guidance", "2.5"),
        *("--height", "64", "--width", "72", "--negative-prompt", "blur"),
        *("--dtype", "bfloat16", "--device", "cpu", "--probe", "mine/probe"),
    ]
    generation = Generation(
        steps=9, guidance=2.5, height=64, width=72,
        negative_prompt="blur", dtype="bfloat16", device="cpu",
    )  # fmt: skip
    command = get_command(app).commands["probe"]  # type: ignore[attr-defined]
    assert dict(probe_request(command.make_context("probe", arguments).params)) == {
        "brief": "a cat",
        "prompts": ("a cat", "one", "two"),
        "seeds": (7, 8, 9),
        "model": "folder",
        "scorer": "clip:x",
        "probe": "mine/probe",
        "generation": generation,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'BRIEF'"),
        ([""], "brief: String should have at least 1 character"),
        (["x" * 100_000], "of 100,000 characters"),
        (["a", "--seeds", "0"], "'--seeds': Input should be greater than or equal to 1 (got '0')"),
        (["a", "--seeds", "many"], "'--seeds': Input should be a valid integer"),
        (["a", "--seed", "-1"], "seeds.0: Input should be greater than or equal to 0 (got -1)"),
        (["a", "--seeds", "64", *("--prompt p --prompt q " * 2).split()], "256 candidates a call"),
        (["a", "--prompt", " "], "prompts.1: String should have at least 1 character"),
        (["a", "--steps", "0"], "generation.steps: Input should be greater"),
        (["a", "--llm", "x"], "No such option: --llm"),
        (["a", "--model", str(ROOT / "docs")], "no model_index.json"),
        (["a spaceship"], "cannot draw 'a spaceship'"),
    ],
)
def test_bad_usage_ends_with_2_and_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_an_unwritable_folder_is_found_before_anything_is_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["probe", BRIEF, "--heatmaps", str(tmp_path / "file")]) == 1
    assert "heatmaps must be a writable folder" in capsys.readouterr().err


def test_json_ranks_the_candidates_and_names_their_heat_maps(
    tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "maps"
    arguments = ["probe", f"{BRIEF}, zorbing", "--seeds", "3", "--seed", "5"]
    assert main([*arguments, "--json", "--heatmaps", str(folder)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    reply = ProbeReply.model_validate(found)
    assert (reply.model, reply.basis, reply.generation.guidance) == ("sprites", "probe", 2.0)
    assert any("does not know: zorbing" in warning for warning in reply.warnings)
    assert {row.seed for row in reply.candidates} == {5, 6, 7}
    scores = [row.predicted or 0 for row in reply.candidates]
    assert scores == sorted(scores, reverse=True)
    for rank, row in enumerate(found["candidates"], 1):
        assert 0 <= row["low"] <= row["predicted"] <= row["high"] <= 1
        words = ["red", "cat", "left", "blue", "car", "zorbing"]
        assert [word["word"] for word in row["words"]] == words
        assert all(0 <= word["focus"] <= 1 for word in row["words"])
        assert row["heatmap"] == str(folder / f"{rank}-seed-{row['seed']}.png")
        assert row["nfe"] == 10
    names = {Path(row["heatmap"]).name for row in found["candidates"]}
    assert {path.name for path in folder.iterdir()} == {*names, "index.png"}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 256
    assert list(scratch.iterdir()) == []


def test_the_table_shows_each_wording_with_its_words(
    tiny: list[str], scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", BRIEF, *tiny, "--seeds", "2", "--prompt", "a [red] dog\x85"]) == 0
    out = capsys.readouterr().out
    assert out.index("predicted") < out.index("red:0.")
    assert "[red]" in out
    assert "\x85" not in out
    assert "dog:0." in out
    assert "an early preview judged by the scorer, uncalibrated" in out
    assert list(scratch.iterdir()) == []


def test_an_interrupted_probe_leaves_nothing_behind(tiny: list[str], tmp_path: Path) -> None:
    scratch, maps = tmp_path / "scratch", tmp_path / "maps"
    scratch.mkdir()
    arguments = ["probe", BRIEF, *tiny, "--heatmaps", str(maps), "--json"]
    with begun(arguments, interrupted_at_the_first_picture, TMPDIR=str(scratch)) as child:
        assert child.wait() == 130, child.stderr.read().decode()
        assert child.stdout.read() == b""
        said = child.stderr.read().decode()
    assert said.splitlines()[-1].endswith("interrupted. Nothing is kept")
    assert "Traceback" not in said
    # onnxruntime leaves a .ses; diffusers imports it where it is installed.
    assert [path for path in scratch.iterdir() if path.name != ".ses"] == []
    assert list(maps.iterdir()) == []


def test_syntax_of_other_programs_is_named_once_for_each_wording(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    weighted, plain = "a (red:1.2) cat", "a red cat"
    prompts = ["--prompt", plain, "--prompt", "a cat <lora:ink:0.8>"]
    assert main(["probe", weighted, *prompts, *tiny, "--seeds", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    foreign = [one.partition(" is syntax of other programs")[0] for one in said]
    assert foreign == ["'(red:1.2)'", "'<lora:ink:0.8>'"]
