"""A bounded queue of calls: some work, some wait in order, and any further ones are told "busy".

The device itself serves batches in the order of the calls (tools/device.py). This queue limits how
many calls are in progress, so that memory and waiting times stay bounded.
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
        at_once: how many calls work at the same time.
        waiting: how many more may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(at_once)  # first come, first served
        self._most = at_once + waiting
        self._inside = 0

    def check(self) -> None:
        """Raise BusyError if the queue is full."""
        if self._inside >= self._most:
            raise BusyError(
                f"busy: {self._inside} calls are in progress or waiting, and no more are accepted; "
                "nothing was started. Call again in a minute with the same arguments"
            )

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take a place in the queue; the block runs when it is its turn.

        Raises:
            BusyError: the queue is full.
        """
        self.check()
        self._inside += 1
        try:
            async with self._slots:
                yield
        finally:
            self._inside -= 1
