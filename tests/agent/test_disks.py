"""Disks and folders that fail: a run says so on one line, keeps all it has, and goes on later."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promptprobe.agent import run_folder
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.runner import run_loop
from tests.agent.scripted import ScriptedTools, offline, start
from tests.processes import called

FULL = 7
"""Exit code of a run whose error is the disk's."""


def finish(run_dir: Path, log: Path, listen: Any = None) -> OptimizationResult:
    return asyncio.run(run_loop(run_dir, ScriptedTools(log), offline(), listen))


def stopped(folder: Path) -> tuple[Path, Path]:
    """A run that an error ended in its second round."""
    run_dir, log = start(folder), folder / "log"

    def stop(event: Any) -> None:
        if event.kind == "kept" and event.round == 1:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        finish(run_dir, log, stop)
    return run_dir, log


def run_on_a_small_disk(run_dir: Path, log: Path, most: int) -> None:
    """A run in this process, none of whose files may become longer; its exit code is FULL."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        finish(run_dir, log)
    except OSError as error:
        os._exit(FULL if "\n" not in str(error) else 1)


@pytest.mark.parametrize("most", [3_000, 15_000])
def test_a_full_disk_is_an_error_of_the_disk_and_damages_nothing(tmp_path: Path, most: int) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"
    assert called(run_on_a_small_disk, run_dir, log, most) == FULL
    result = finish(run_dir, log)
    assert result.stop_reason == "budget spent"
    assert not any("damaged" in warning for warning in result.warnings)
    done = Counter(log.read_text().splitlines())
    assert sum(done.values()) - len(done) <= ScriptedTools.batch_size


def test_a_checkpoint_that_cannot_be_decoded_costs_nothing_but_itself(tmp_path: Path) -> None:
    run_dir, log = stopped(tmp_path)
    with sqlite3.connect(run_dir / "checkpoint.sqlite") as database:
        database.execute("update checkpoints set checkpoint = x'c1ff00'")
    database.close()
    result = finish(run_dir, log)
    assert any("checkpoint.sqlite cannot be read" in warning for warning in result.warnings)
    assert max(Counter(log.read_text().splitlines()).values()) == 1


def test_where_the_disk_refuses_locks_the_checkpoint_is_in_memory_and_the_result_says_so(
    tmp_path: Path,
) -> None:
    run_dir, log = stopped(tmp_path)
    holds = sqlite3.connect(run_dir / "checkpoint.sqlite", isolation_level=None)
    holds.execute("begin exclusive")
    try:
        result = finish(run_dir, log)
    finally:
        holds.close()
    assert any("it is kept in memory" in warning for warning in result.warnings)
    assert max(Counter(log.read_text().splitlines()).values()) == 1


def test_a_disk_without_locks_is_named_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    run_dir = start(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse)
    result = finish(run_dir, tmp_path / "log")
    assert any("has no locks" in warning for warning in result.warnings)


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    run_dir = start(tmp_path)
    with (
        run_folder.locked(run_dir),
        pytest.raises(run_folder.FolderInUseError, match=f"in use by process {os.getpid()} on "),
    ):
        finish(run_dir, tmp_path / "log")
    assert finish(run_dir, tmp_path / "log").stop_reason == "budget spent"
