"""A command's progress: a bar in a terminal; in a pipe, one line every ten seconds.

In a pipe only warnings are printed besides, so that logs stay short and yet show long waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from promptprobe.agent.doors.display import LINE, Meter, describe, plain
from promptprobe.agent.events import (
    CandidatesProbed,
    CandidatesRendered,
    CandidatesScored,
    CandidatesSelected,
    Event,
    Finished,
    OnEvent,
    PromptsProposed,
    Warned,
)

if TYPE_CHECKING:
    from rich.console import Console

OPENING = "opening the model"
SILENCE = 10.0
"""Seconds between two lines if no bar can be drawn."""
FREQUENT = (CandidatesProbed, CandidatesSelected, CandidatesRendered, CandidatesScored)
"""Events that only move the bar."""
Tell = Callable[[str], object]


@contextmanager
def live(console: Console, title: str = "", bar: bool = True) -> Iterator[OnEvent]:
    """Show a run's events: a bar if the terminal can draw one, and a line for what is notable.

    Args:
        console: usually stderr.
        title: prefix of all lines.
        bar: False if a person is asked on the same terminal.

    Yields:
        The function to pass as `on_event`.
    """
    if console.is_terminal:
        with _drawn(console, title, bar) as show:
            yield show
        return
    meter = Meter()
    with spoken(console, f"{title}{OPENING}") as tell:

        def show_event(event: Event) -> None:
            meter.update(event)
            if isinstance(event, Warned):
                say(console, describe(event))
            else:
                tell(f"{title}{describe(event)} ({meter.done} of {meter.total} evaluations)")

        yield show_event


@contextmanager
def waiting(console: Console, begin: str = OPENING) -> Iterator[Tell]:
    """Show work in progress whose duration is unknown.

    Yields:
        The function to call with the current status.
    """
    if console.is_terminal:
        with console.status(begin) as status:
            yield status.update
    else:
        with spoken(console, begin) as tell:
            yield tell


@contextmanager
def spoken(console: Console, begin: str, silence: float = SILENCE) -> Iterator[Tell]:
    """Print the latest status every `silence` seconds."""
    latest, began, over = begin, time.monotonic(), threading.Event()

    def tell(text: str) -> None:
        nonlocal latest
        latest = text

    def speak() -> None:
        while not over.wait(silence):
            say(console, f"{time.monotonic() - began:.0f} s: {latest}")

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        over.set()
        thread.join()


def say(console: Console, text: str) -> None:
    """Print one line, without control characters or markup."""
    console.print(plain(text, LINE), markup=False, highlight=False, soft_wrap=True)


def _is_shown_elsewhere(event: Event) -> bool:
    """Whether the bar, the round's line or the verdict shows the same."""
    brief_alone = isinstance(event, PromptsProposed) and event.round == 0
    return brief_alone or isinstance(event, (*FREQUENT, Finished))


@contextmanager
def _drawn(console: Console, title: str, bar: bool) -> Iterator[OnEvent]:
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[spent]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not bar) as progress:
        task = progress.add_task(title or OPENING, total=None, spent="")
        meter = Meter()

        def show(event: Event) -> None:
            meter.update(event)
            if not _is_shown_elsewhere(event):
                say(console, describe(event))
            progress.update(
                task,
                description=f"{title}{plain(describe(event), 40)}",
                completed=meter.done,
                total=meter.total,
                spent=f"{event.spent.nfe} NFE",
            )

        yield show
