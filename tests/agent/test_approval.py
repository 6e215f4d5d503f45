"""A person approves, edits or vetoes each new prompt before a round spends anything."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from promptprobe.agent.context import Person
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.differences import changes
from promptprobe.agent.rewrite.proposers import CallersPrompts
from promptprobe.agent.rewrite.review import Approve, Review
from promptprobe.agent.runner import run_loop
from tests.agent.scripted import ScriptedTools, start

BRIEF = "a fox in the snow"
ROOT = Path(__file__).parents[2]
AT_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C typed there is a signal to this process
os.execv(sys.executable, [sys.executable, "-m", "promptprobe", *sys.argv[1:]])
"""
PROMPTS = ("a red fox in the snow", "a fox in deep snow, dusk", "a wolf in the snow")


def run(run_dir: Path, approve: Approve | None) -> OptimizationResult:
    tools = ScriptedTools(run_dir.parent / "log")
    return asyncio.run(run_loop(run_dir, tools, CallersPrompts(PROMPTS), person=Person(approve)))


def answering(*answers: str | None, seen: list[Review] | None = None) -> Approve:
    async def approve(review: Review) -> Sequence[str | None]:
        if seen is not None:
            seen.append(review)
        return answers

    return approve


async def nobody(review: Review) -> Sequence[str | None]:
    raise AssertionError(f"asked again of {review}")


async def gone(review: Review) -> Sequence[str | None]:
    raise ConnectionError("the person has left")


def probed(result: OptimizationResult) -> set[str]:
    return {trial.candidate.prompt for trial in result.trials}


def test_only_what_a_person_approved_or_wrote_is_tried(tmp_path: Path) -> None:
    seen: list[Review] = []
    edited = "a fox in deep snow at dawn"
    result = run(start(tmp_path, brief=BRIEF), answering(PROMPTS[0], edited, None, seen=seen))
    assert probed(result) == {BRIEF, PROMPTS[0], edited}
    (review,) = seen  # once: nothing is new in the second round
    assert [one.prompt for one in review.prompts] == list(PROMPTS)
    assert [(c.kind, c.text) for c in review.prompts[0].changes] == [
        ("same", "a"),
        ("added", " red"),
        ("same", " fox in the snow"),
    ]


def test_a_run_left_at_the_question_has_spent_nothing_and_asks_again(tmp_path: Path) -> None:
    run_dir = start(tmp_path, brief=BRIEF)
    with pytest.raises(ConnectionError, match="the person has left"):
        run(run_dir, gone)
    assert len(Ledger(run_dir).trials()) == 1  # the brief itself
    assert probed(run(run_dir, answering(PROMPTS[0], None, None))) == {BRIEF, PROMPTS[0]}


@pytest.mark.parametrize("lost", [False, True], ids=["checkpoint kept", "checkpoint lost"])
def test_an_answer_is_remembered(lost: bool, tmp_path: Path) -> None:
    run_dir = start(tmp_path, brief=BRIEF)
    first = run(run_dir, answering(None, "a fox, snow", None))
    ledger = run_dir / "trials.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    answered = next(at for at, line in enumerate(lines) if '"approved"' in line)
    ledger.write_text("".join(lines[: answered + 1]))
    if lost:
        (run_dir / "checkpoint.sqlite").unlink()
    again = run(run_dir, nobody)
    assert [t.candidate for t in again.trials] == [t.candidate for t in first.trials]


@pytest.mark.parametrize("answers", [("a",), ("a", "b", " "), ("a", "b", 7)])
def test_answers_that_cannot_be_meant_are_refused(answers: tuple[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one answer for each of 3|an approved prompt"):
        run(start(tmp_path, brief=BRIEF), answering(*answers))


def test_changes_are_told_word_by_word_and_sign_by_sign() -> None:
    assert [(c.kind, c.text) for c in changes("三只猫", "三只黑猫")] == [
        ("same", "三只"),
        ("added", "黑"),
        ("same", "猫"),
    ]
    assert {c.kind for c in changes("A Fox", "a  fox")} == {"same"}


def test_at_the_terminal(
    ddim_folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    offered = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    monkeypatch.setattr("sys.stdin", io.StringIO("what\ne\n\ne\na fox at dawn\n"))
    asked = ["optimize", BRIEF, "--interactive", *drawn, *offered, "--out", str(tmp_path)]
    assert main(asked) == 1
    told = capsys.readouterr().err
    assert "a {+red+} fox in the snow" in " ".join(told.split())
    assert "expected one of a, e, v, all and q, got 'what'" in told
    assert "is empty" in told
    assert "on stdin, which has ended" in told
    (run_dir,) = tmp_path.iterdir()
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    assert main(["optimize", "--resume", str(run_dir)]) == 130
    monkeypatch.setattr("sys.stdin", io.StringIO("v\nall\n"))
    assert main(["optimize", "--resume", str(run_dir), "--json"]) == 0
    tried = {trial["prompt"] for trial in json.loads(capsys.readouterr().out)["trials"]}
    assert tried == {BRIEF, *PROMPTS[1:]}


def shown(terminal: int) -> Iterator[str]:
    """What a program shows at its terminal, until it ends."""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so where the last process has left
            return
        if not part:
            return
        yield part.decode(errors="replace")


def test_ctrl_c_at_the_question_keeps_the_run(
    ddim_folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    asked = ["optimize", BRIEF, "--interactive", *drawn, "--prompt", PROMPTS[0]]
    command = [sys.executable, "-c", AT_A_TERMINAL, *asked, "--out", str(tmp_path)]
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=its_end, stdout=its_end, stderr=its_end, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(its_end)
    told = ""
    for part in shown(terminal):
        told += part
        if told.endswith("[a/e/v/all/q]: "):
            os.write(terminal, b"\x03")
    os.close(terminal)
    assert process.wait() == 130, told
    assert "interrupted" in told
    assert "Traceback" not in told
    (run_dir,) = tmp_path.iterdir()
    assert str(run_dir) in "".join(told.split())
    assert len(Ledger(run_dir).trials()) == 1  # the brief itself
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert main(["optimize", "--resume", str(run_dir)]) == 0
    assert {trial.candidate.prompt for trial in Ledger(run_dir).trials()} == {BRIEF, PROMPTS[0]}
