"""`promptprobe optimize` as its user meets it: clean stdout, clear errors, runs that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from promptprobe.__main__ import main
from promptprobe.agent.doors.commands import app, optimize_request
from promptprobe.agent.doors.display import plain
from promptprobe.agent.run_folder import SHEET
from promptprobe.tools.records import CallArguments, Generation
from tests.processes import begun

ROOT = Path(__file__).parents[3]
BRIEF = "a red cat and a blue car"


@pytest.fixture(scope="module")
def options(ddim_folder: Path, clip_folder: Path) -> list[str]:
    """A tiny random model and scorer, and few steps."""
    return ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]


# Usage


def test_every_option_reaches_the_request() -> None:
    arguments = [
        *("a cat", "--model", "folder", "--llm", "gpt", "--prompt", "one", "--prompt", "two"),
        *("--rewrite", "off", "--keep", "<lora:x>", "--scorer", "clip:x", "--budget", "heavy"),
        *("--probe", "mine/probe", "--judge", "ocr", "--judge", "pickscore", "--target", "0.9"),
        *("--seed", "7", "--steps", "9", "--guidance", "2.5", "--height", "64", "--width", "72"),
        *("--negative-prompt", "blur", "--dtype", "bfloat16", "--device", "cpu"),
        *("--scheduler", "DDIMScheduler", "--lora", "x:0.5", "--lora", "y", "--offload"),
        *("--extra", "guidance_rescale=0.7", "--extra", "clip_skip=2"),
    ]
    command = get_command(app).commands["optimize"]  # type: ignore[attr-defined]
    request = optimize_request(command.make_context("optimize", arguments).params, "a cat")
    expected: dict[str, Any] = {
        "brief": "a cat",
        "model": "folder",
        "llm": "gpt",
        "prompts": ("one", "two"),
    }
    expected |= {"rewrite": "off", "keep": ("<lora:x>",), "scorer": "clip:x", "budget": "heavy"}
    expected |= {"probe": "mine/probe", "judge": ("ocr", "pickscore"), "target": 0.9}
    generation = Generation(
        steps=9, guidance=2.5, height=64, width=72,
        negative_prompt="blur", dtype="bfloat16", device="cpu",
        scheduler="DDIMScheduler", lora=("x:0.5", "y"), offload=True,
        extra=CallArguments(guidance_rescale=0.7, clip_skip=2),
    )  # fmt: skip
    assert dict(request) == {**expected, "seed": 7, "generation": generation}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of BRIEF, --briefs FILE and --resume RUN"),
        ([""], "brief: String should have at least 1 character"),
        ([" \n"], "brief: String should have at least 1 character"),
        (["x" * 100_000], "of 100,000 characters"),
        (["\x1b[31mred"], "control characters"),
        (
            ["a", "--budget", "huge"],
            "budget: expected light, medium, heavy, or denoising in renders' worth",
        ),
        (["a", "--colour", "red"], "No such option: --colour"),
        (["a", "--bugdet", "light"], "did you mean '--budget'?"),
        (["a", "--seed", "-1"], "seed: Input should be greater than or equal to 0"),
        (["a", "--steps", "0"], "generation.steps: Input should be greater"),
        (["a", "--extra", "clip_skip"], "--extra: expected NAME=VALUE, such as clip_skip=2"),
        (["a", "--extra", "clip_skip=two"], "generation.extra.clip_skip: Input should be a valid"),
        (
            ["a", "--extra", "output_type=latent"],
            "extra: expected guidance_rescale, clip_skip, eta, max_sequence_length, got 'output_t",
        ),
        (["a", "--resume", "runs/x"], "one of BRIEF, --briefs FILE and --resume RUN"),
        (["--briefs", "file"], "--briefs needs --out"),
        (["--briefs", "file", "--out", "x", "--prompt", "p"], "--prompt is a rewrite of one brief"),
        (["--resume", "no/such/run"], "expected the folder of a run"),
        (["a", "--model", str(ROOT / "docs")], "no model_index.json"),
        (["a", "--model", str(ROOT / "docs"), "--judge", "pickscor"], "did you mean 'pickscore'?"),
        (["a", "--keep", "b"], "keep must be text of the brief"),
    ],
)
def test_bad_usage_ends_with_2_and_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_a_missing_briefs_file_ends_with_2_and_an_unwritable_folder_with_1(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.txt"
    assert main(["optimize", "--briefs", str(missing), "--out", str(tmp_path / "o")]) == 2
    assert "none.txt cannot be read" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.touch()
    assert main(["optimize", BRIEF, *options, "--out", str(blocked)]) == 1
    assert "No run was started" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["paint"], 2), (["--help"], 0)])
def test_the_command_lists_its_commands(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert "optimize" in captured.out + captured.err


@pytest.mark.parametrize(
    "command", ["optimize", "probe", "train", "probes", "pairs", "eval", "mcp", "tools"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Usage: promptprobe {command}" in capsys.readouterr().out


def test_help_shows_brackets_and_no_python(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "--help"]) == 0
    said = capsys.readouterr().out
    assert "[klein]" in said and "None" not in said


def test_text_of_others_is_shown_without_its_control_characters() -> None:
    assert plain("a\x1b[2Jb\u202ec") == "a\ufffd[2Jb\ufffdc"
    assert plain("x" * 500, 10) == "x" * 9 + "\N{HORIZONTAL ELLIPSIS}"


# Runs, on a tiny random model


def test_json_is_one_object_whose_images_exist(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["optimize", BRIEF, *options, "--prompt", "a blue car and a red cat"]
    assert main([*arguments, "--out", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    found: dict[str, Any] = json.loads(captured.out)
    trial = {"prompt", "seed", "score", "judged", "predicted", "image"}
    assert found["brief"] == BRIEF == found["initial"]["prompt"]
    assert trial <= set(found["best"])
    assert {"nfe", "seconds", "llm_calls"} <= set(found["spent"])
    assert {"stop_reason", "run_dir"} <= set(found)
    assert {row["prompt"] for row in found["trials"]} == {BRIEF, "a blue car and a red cat"}
    images = [row["image"] for row in found["trials"] if row["image"]]
    assert {found["best"]["image"], found["initial"]["image"]} <= set(images)
    for image in images:
        with Image.open(image) as opened:
            opened.verify()
    assert captured.err == "", "quiet in a pipe"


def test_the_run_ends_with_scores_spend_and_where_the_pictures_are(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", BRIEF, *options, "--rewrite", "off", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    (run,) = tmp_path.iterdir()
    with Image.open(run / SHEET) as sheet:
        assert sheet.width > 800
    for said in (
        f"best prompt    {BRIEF}",
        "denoiser evaluations",
        ", which selected)",
        str(run / SHEET),
    ):
        assert said in out


def test_an_interrupted_run_is_kept_and_goes_on(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with begun(["optimize", BRIEF, *options, "--out", str(tmp_path)]) as child:
        while not list(tmp_path.glob("*/trials.jsonl")):
            child.process.join(0.02)
            assert child.process.is_alive()
        child.interrupt()
        assert child.wait() == 130
        rest = child.stderr.read().decode()
    (run,) = tmp_path.iterdir()
    assert rest.splitlines()[-1].endswith(f"promptprobe optimize --resume {run}")
    assert "Traceback" not in rest

    assert main(["optimize", "--resume", str(run), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run_dir"] == str(run)


def test_a_run_that_goes_on_is_not_asked_for_something_else_in_silence(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*options, "--budget", "1", "--rewrite", "off", "--extra", "eta=0.5"]
    assert main(["optimize", BRIEF, *asked, "--out", str(tmp_path), "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["run_dir"]
    again = ["optimize", "--resume", run, "--json"]
    assert main([*again, *asked]) == 0
    capsys.readouterr()
    for other, said in (
        (["--budget", "heavy"], "its budget is {'renders': 1.0}, got 'heavy'"),
        (["--max-seconds", "9"], "got {'renders': 4.0, 'seconds': 9.0}"),
        (["--steps", "6"], "its steps is 5, got 6"),
        (["--extra", "eta=0.2"], "its extra is {'eta': 0.5}, got {'eta': 0.2}"),
        (["--prompt", "a red fox"], "its prompts is None, got ('a red fox',)"),
        (["--rewrite", "enrich"], "its rewrite is 'off', got 'enrich'"),
        (["--model", "sprites"], "got 'sprites'"),
        (["--lora", "ink.safetensors:0.5"], "its lora is (), got ('ink.safetensors:0.5',)"),
        (["--interactive"], "its interactive is False, got True"),
    ):
        assert main([*again, *other]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "a run goes on as it was asked for" in captured.err
        assert said in captured.err
