"""`--interactive`: a person at the terminal sees each new prompt before a round spends anything.

Questions go to stderr and answers come from stdin, so `--json` leaves stdout clean. Words dropped
from the brief are marked [-...-] and added ones {+...+}, as in wdiff.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from promptprobe.agent.doors.display import LINE, plain
from promptprobe.agent.rewrite.differences import Change
from promptprobe.agent.rewrite.guard import check_text
from promptprobe.agent.rewrite.review import Approve, Review

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {"same": ("", "", ""), "dropped": ("[-", "-]", "red"), "added": ("{+", "+}", "green")}
"""The marks before and after a stretch of words, and its colour."""
HELP = "a: approve, e: edit, v: veto, all: approve this and the rest of the round, q: stop here"


def at_terminal(console: Console) -> Approve:
    """An `approve` that asks the person at the terminal."""

    async def approve(review: Review) -> list[str | None]:
        with _interruptible():
            return _ask(console, review)

    return approve


def _ask(console: Console, review: Review) -> list[str | None]:
    """An answer for each prompt.

    Raises:
        KeyboardInterrupt: the person chose to stop.
        RuntimeError: stdin has ended.
    """
    total = len(review.prompts)
    _say(console, f"round {review.round}: {total} new prompts for the brief {review.brief!r}")
    _say(console, HELP)
    answers: list[str | None] = []
    for number, one in enumerate(review.prompts, 1):
        _say(console, f"{number} of {total}: {one.prompt}")
        _show(console, one.changes)
        reply, answer = _one(console, one.prompt)
        answers.append(answer)
        if reply == "all":
            return [*answers, *(left.prompt for left in review.prompts[number:])]
    return answers


def _one(console: Console, prompt: str) -> tuple[str, str | None]:
    """The person's reply about a prompt, and the resulting prompt or None."""
    while True:
        reply = _read(console, "[a/e/v/all/q]").lower()
        if reply in ("a", "all"):
            return reply, prompt
        if reply == "v":
            return reply, None
        if reply == "q":
            raise KeyboardInterrupt
        if reply != "e":
            _say(console, f"expected one of a, e, v, all and q, got {reply!r}. {HELP}")
            continue
        try:
            return reply, check_text(_read(console, "the prompt as it should be"), "a prompt")
        except ValueError as error:
            _say(console, str(error))


def _read(console: Console, question: str) -> str:
    console.print(f"{question}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    if not line:
        raise RuntimeError("--interactive needs answers on stdin, which has ended")
    return line.strip()


def _show(console: Console, changes: tuple[Change, ...]) -> None:
    from rich.text import Text

    shown = Text("   ")
    for change in changes:
        before, after, colour = MARKS[change.kind]
        shown.append(f"{before}{plain(change.text.strip(), LINE)}{after} ", style=colour)
    console.print(shown, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(plain(text, 2 * LINE), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the wait for an answer; asyncio's own handler would only set a flag."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
