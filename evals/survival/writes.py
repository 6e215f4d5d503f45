"""Counts the calls by which a run writes, in a child process that kills itself at one of them.

A kill matters around changes on the disk: before and after files are opened for writing, flushed,
renamed and deleted, and before and after SQLite commits. Only these child processes use this; the
product does not know about it.
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
"""Functions of the module os."""


class Writes:
    """Counts moments, two for each call, and kills its own process at one of them."""

    def __init__(self, die_at: int | None = None) -> None:
        self.count = 0
        self._die_at = die_at
        self._numbers = itertools.count(1)

    def moment(self) -> None:
        """Count a moment, and kill the process with SIGKILL if it is the chosen one."""
        self.count = next(self._numbers)
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function with a moment before it and one after it."""

        def call(*args: Any, **options: Any) -> Any:
            self.moment()
            result = function(*args, **options)
            self.moment()
            return result

        return call


def watch(die_at: int | None = None) -> Writes:
    """Wrap the calls for the rest of this process.

    Args:
        die_at: the moment, from 1, at which the process kills itself; None only counts.
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
