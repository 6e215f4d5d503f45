"""Work on the device ends between two steps when whoever asked for it has gone.

The wish is a context variable, so it reaches the thread that a task works in (asyncio.to_thread
copies the context), and nothing between the door and the denoiser has to pass it on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STOP: ContextVar[threading.Event | None] = ContextVar("promptprobe_stop", default=None)


class WorkCancelledError(Exception):
    """Nobody waits for this work any longer; raised in the thread that does it."""


@contextmanager
def cancellable() -> Iterator[None]:
    """Work that was begun in this block ends at its next step once the block is left by an error.

    A task that is cancelled leaves it so, while its thread still works.
    """
    stop = threading.Event()
    token = _STOP.set(stop)
    try:
        yield
    except BaseException:
        stop.set()
        raise
    finally:
        _STOP.reset(token)


def check_cancelled() -> None:
    """WorkCancelledError: this work has been given up."""
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise WorkCancelledError
