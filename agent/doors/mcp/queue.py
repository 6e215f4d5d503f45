"""Who is served: so many calls at once; some more wait in the order of asking; others hear "busy".

The device itself serves batch by batch in the order of asking (tools/device.py); this bounds how
much is under way, so that memory and waiting stay bounded however many call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BusyError(Exception):
    """The queue is full: come back later."""


class Queue:
    """A bounded, fair queue.

    Args:
        at_once: how many work at the same time.
        waiting: how many more may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(at_once)  # serves in the order of asking
        self._most = at_once + waiting
        self._inside = 0

    def check(self) -> None:
        """BusyError: there is no place."""
        if self._inside >= self._most:
            raise BusyError(
                f"busy: {self._inside} calls are under way or waiting, and no more are taken; "
                "nothing was started. Call again in a minute, with the same arguments"
            )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place from now on, and a turn once the block is entered. BusyError: there is none."""
        self.check()
        self._inside += 1
        try:
            async with self._slots:
                yield
        finally:
            self._inside -= 1
