"""Processes of their own, for tests of kills, of interrupts and of work that several share.

A new Python takes seconds to import torch, diffusers and transformers. These are forked from a
server that has imported them once and has done nothing else, so they know nothing of this process
but what they are given.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import IO, Any

from promptprobe.__main__ import main
from promptprobe.evals.survival.survival import PRELOADED

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.agent.scripted", *PRELOADED])
Command = Callable[[list[str]], int]


@dataclass(frozen=True)
class Child:
    """A process that runs, and what it writes."""

    process: BaseProcess
    stdout: IO[bytes]
    stderr: IO[bytes]

    def wait(self) -> int:
        """The exit code, below zero: by which signal it was ended."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)


def called(function: Callable[..., object], *arguments: Any) -> int:
    """The exit code of a process that calls a function of a module."""
    process = FORKS.Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@contextmanager
def begun(arguments: list[str], command: Command = main, **environment: str) -> Iterator[Child]:
    """A process that runs a command of promptprobe; it is killed at the end of the block.

    Args:
        arguments: what stands behind `promptprobe`.
        command: what runs them, a function of a module.
        environment: further variables.
    """
    ends = [FORKS.Pipe(duplex=False) for _ in range(2)]
    written = tuple(end for _, end in ends)
    process = FORKS.Process(target=_run, args=(command, arguments, environment, written))
    process.start()
    for end in written:
        end.close()
    (stdout, _), (stderr, _) = ends
    try:
        with _opened(stdout) as out, _opened(stderr) as err:
            yield Child(process, out, err)
    finally:
        process.kill()
        process.join()


@contextmanager
def _opened(end: Connection) -> Iterator[IO[bytes]]:
    with end, open(end.fileno(), "rb", closefd=False) as stream:
        yield stream


def _run(
    command: Command,
    arguments: list[str],
    environment: Mapping[str, str],
    written: tuple[Connection, Connection],
) -> None:
    os.environ.update(environment)
    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(written[number - 1].fileno(), number)
        setattr(sys, name, os.fdopen(number, "w", closefd=False))
    # As at a terminal: it is ignored where tests run in the background of a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(command(arguments))
