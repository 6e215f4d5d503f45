"""Cancels work on the device between two steps when nobody waits for its result any longer.

The request is a context variable, so it reaches the thread that a task works in (asyncio.to_thread
copies the context), and nothing between the door and the denoiser has to pass it on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STOP: ContextVar[threading.Event | None] = ContextVar("promptprobe_stop", default=None)


class WorkCancelledError(Exception):
    """Raised in the worker thread when nobody waits for its work any longer."""


@contextmanager
def cancellable() -> Iterator[None]:
    """Stop the work started in this block, at its next step, if an error leaves the block.

    A cancelled task leaves it with CancelledError while its thread is still working.
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
    """Raise WorkCancelledError if this work was cancelled."""
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise WorkCancelledError
