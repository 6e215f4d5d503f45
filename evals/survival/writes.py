"""The calls by which a run writes, counted in a child process, which ends itself at one of them.

A kill matters where it parts what is on the disk: before and after files are opened for writing,
flushed, renamed and deleted, and before and after SQLite commits. Only such a child wears this;
the product knows nothing of it.
"""

from __future__ import annotations

import io
import itertools
import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

NAMES = ("fsync", "mkdir", "remove", "rename", "replace", "rmdir", "truncate", "unlink")
"""Of the module os."""


class Writes:
    """Counts moments, two a call, and kills the own process at one of them."""

    def __init__(self, die_at: int | None = None) -> None:
        self.count = 0
        self._die_at = die_at
        self._numbers = itertools.count(1)

    def moment(self) -> None:
        """One more moment; SIGKILL if it is the one."""
        self.count = next(self._numbers)
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a moment before and one after it."""

        def call(*args: Any, **options: Any) -> Any:
            self.moment()
            found = function(*args, **options)
            self.moment()
            return found

        return call


def watch(die_at: int | None = None) -> Writes:
    """Wrap the calls for the rest of this process.

    Args:
        die_at: the moment, from 1, at which it kills itself; None: it only counts.
    """
    writes = Writes(die_at)
    for name in NAMES:
        setattr(os, name, writes.around(getattr(os, name)))
    opened = io.open

    def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        call = writes.around(opened) if set(mode) & set("wax+") else opened
        return call(file, mode, *args, **options)

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            writes.around(super().commit)()

    connected = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        return connected(*args, factory=Connection, **options)

    for module, name, wrapped in ((io, "open", open_file), (sqlite3, "connect", connect)):
        setattr(module, name, wrapped)
    return writes
