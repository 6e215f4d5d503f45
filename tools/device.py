"""Who has the device: one piece of work at a time in this process, in the order of asking.

Runs in several threads or tasks share models, and the libraries that load them patch globals
meanwhile (torch's default dtype, how modules register their parameters). So whatever opens a model
or computes with one takes a turn. A process has one queue, for several GPUs too: give each of those
a process of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A lock that serves in the order of asking and that its holder may take again."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        """Who waits, and a gate that the one before opens."""
        self._holder: int | None = None
        self._depth = 0

    def __enter__(self) -> Turns:
        me = threading.get_ident()
        with self._guard:
            if self._holder in (None, me):
                self._holder = me
                self._depth += 1
                return self
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append((me, gate))
        try:
            gate.acquire()
        except BaseException:  # Ctrl-C
            self._give_up(me, gate)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            self._depth -= 1
            if self._depth == 0:
                self._next()

    def _next(self) -> None:
        """Hand over to whoever has waited longest; nobody can come in between."""
        if not self._waiting:
            self._holder = None
            return
        self._holder, gate = self._waiting.popleft()
        self._depth = 1
        gate.release()

    def _give_up(self, me: int, gate: threading.Lock) -> None:
        with self._guard:
            if (me, gate) in self._waiting:
                self._waiting.remove((me, gate))
            else:  # it was handed over in this moment
                self._depth = 0
                self._next()


DEVICE = Turns()
"""The one queue of this process: `with DEVICE:`."""
