"""`--interactive`: a person at the terminal sees each new prompt before a round spends anything.

Questions go to stderr and answers come from stdin, so `--json` leaves stdout clean. What is dropped
of the brief stands in [-...-], what is added in {+...+}, as wdiff marks it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from promptprobe.agent.doors.display import LINE, plain
from promptprobe.agent.rewrite.guard import check_text
from promptprobe.agent.rewrite.review import Approve, Change, Review

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {"same": ("", "", ""), "dropped": ("[-", "-]", "red"), "added": ("{+", "+}", "green")}
"""What stands before and after a stretch of words, and its colour."""
HELP = "a: approve, e: edit, v: veto, all: approve this and all others of the round, q: stop here"


def at_terminal(console: Console) -> Approve:
    """An `approve` that asks whoever sits at stdin."""

    async def approve(review: Review) -> list[str | None]:
        with _interruptible():
            return _ask(console, review)

    return approve


def _ask(console: Console, review: Review) -> list[str | None]:
    """An answer for each prompt.

    Raises:
        KeyboardInterrupt: the person stops here.
        RuntimeError: nobody answers.
    """
    total = len(review.prompts)
    _say(console, f"round {review.round}: {total} new prompts for the brief {review.brief!r}")
    _say(console, HELP)
    answers: list[str | None] = []
    for number, one in enumerate(review.prompts, 1):
        _say(console, f"{number} of {total}: {one.prompt}")
        _show(console, one.changes)
        said, answer = _one(console, one.prompt)
        answers.append(answer)
        if said == "all":
            return [*answers, *(left.prompt for left in review.prompts[number:])]
    return answers


def _one(console: Console, prompt: str) -> tuple[str, str | None]:
    """What the person said of a prompt, and what becomes of it."""
    while True:
        said = _read(console, "[a/e/v/all/q]").lower()
        if said in ("a", "all"):
            return said, prompt
        if said == "v":
            return said, None
        if said == "q":
            raise KeyboardInterrupt
        if said != "e":
            _say(console, f"expected one of a, e, v, all and q, got {said!r}. {HELP}")
            continue
        try:
            return said, check_text(_read(console, "the prompt as it should be"), "a prompt")
        except ValueError as error:
            _say(console, str(error))


def _read(console: Console, question: str) -> str:
    console.print(f"{question}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    if not line:
        raise RuntimeError("--interactive needs somebody who answers, and stdin has ended")
    return line.strip()


def _show(console: Console, changes: tuple[Change, ...]) -> None:
    from rich.text import Text

    shown = Text("   ")
    for change in changes:
        before, after, colour = MARKS[change.kind]
        shown.append(f"{before}{plain(change.text, LINE)}{after} ", style=colour)
    console.print(shown, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(plain(text, 2 * LINE), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the wait for an answer; asyncio would only take note of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
