"""What reaches a terminal: no control character of others, and completion of what is typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.agent.run_folder import FILE
from promptprobe.probe.model.checkpoint import CARD
from promptprobe.tools.sprites import PROBE

ROOT = Path(__file__).parents[3]
CLEAR = "\x1b[2J\x9b2J\u202e"
"""Clears the screen in two ways, and turns the direction of what follows."""


def hostile_briefs(folder: Path) -> list[str]:
    path = folder / "briefs.jsonl"
    path.write_text(json.dumps({"brief": "x" * 5000, "id": f"{CLEAR}id"}) + "\n")
    return ["optimize", "--briefs", str(path), "--out", str(folder / "out")]


def hostile_model(folder: Path) -> list[str]:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": f"{CLEAR}Pipeline"}))
    return ["optimize", "a cat", "--model", str(folder), "--out", str(folder / "out")]


def hostile_card(folder: Path) -> list[str]:
    probe = shutil.copytree(PROBE, folder / "probe")
    card = json.loads((probe / CARD).read_text())
    (probe / CARD).write_text(json.dumps(card | {f"{CLEAR}key": 1}))
    return ["probes", "verify", str(probe)]


def hostile_run(folder: Path) -> list[str]:
    (folder / FILE).write_text(json.dumps({f"{CLEAR}key": 1}))
    return ["optimize", "--resume", str(folder)]


def hostile_option(folder: Path) -> list[str]:
    return ["probe", "a cat", f"--{CLEAR}option"]


@pytest.mark.parametrize(
    "hostile", [hostile_briefs, hostile_model, hostile_card, hostile_run, hostile_option]
)
def test_text_of_others_reaches_the_terminal_without_its_control_characters(
    hostile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(hostile(tmp_path)) != 0
    captured = capsys.readouterr()
    assert any(f"2J\ufffd{word}" in captured.err for word in ("id]", "Pipeline", "key", "option"))
    assert not set(CLEAR) & {"\x1b", "\x9b", "\u202e"} & set(captured.out + captured.err)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("op", "optimize"), ("optimize --bu", "--budget"), ("optimize --budget he", "heavy")],
)
def test_the_shell_completes_commands_options_and_values(typed: str, offered: str) -> None:
    words = f"promptprobe {typed}"
    asked = {"_PROMPTPROBE_COMPLETE": "complete_bash", "COMP_WORDS": words}
    asked["COMP_CWORD"] = str(len(typed.split()))
    finished = subprocess.run(
        [sys.executable, "-m", "promptprobe"],
        capture_output=True,
        text=True,
        env={**os.environ, **asked, "PYTHONPATH": str(ROOT)},
    )
    assert finished.stdout.split() == [offered]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optimz", "'optimize'"),
        ("eval fidelty", "'fidelity'"),
        ("optimize cat --modle x", "'--model'"),
        ("optimize cat --rewrite of", "'off'"),
        ("optimize cat --budget lite", "'light'"),
        ("optimize cat --model sprite", "'sprites'"),
        ("optimize cat --scorer sprits", "'sprites'"),
        ("optimize cat --scorer clipp:folder", "'clip:ID'"),
        ("optimize cat --probe spritess", "'sprites'"),
        ("mcp --budget-cap medum", "'medium'"),
        ("tools --format antropic", "'anthropic'"),
        ("eval model --model sprites_flow", "'sprites-flow'"),
        ("eval replay --table x --policy adaptve", "'adaptive'"),
        ("eval overhead --shapes fluxx", "'flux'"),
    ],
)
def test_a_slip_of_the_finger_is_told_the_nearest_name(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed.split()) == 2
    said = capsys.readouterr().err
    assert f"(did you mean {meant}?)" in said and said.count("\n") == 1


@pytest.mark.parametrize("command", ["optimize", "probe"])
def test_a_brief_that_a_built_in_model_cannot_draw_is_refused_before_any_tensor_library_loads(
    command: str,
) -> None:
    code = (
        "import sys; from promptprobe.__main__ import main; "
        f"assert main(['{command}', 'a spaceship']) == 2; "
        "assert not {'torch', 'diffusers', 'transformers'} & sys.modules.keys()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr
    assert "cannot draw 'a spaceship'" in finished.stderr
