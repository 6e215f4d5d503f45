"""A run's folder: `runs/<id>/` with run.json, which holds the run's settings.

run.json is written once, before anything is spent; resuming reads it, and refuses arguments that
say otherwise.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from promptprobe.agent.doors.schemas import OptimizeRequest, explain
from promptprobe.probe.files import replacing
from promptprobe.tools.endpoint.endpoint import LLM
from promptprobe.tools.records import IN_MEMORY, Budget, Text
from promptprobe.tools.scorers.table import JOINT, parts_of

FILE, CHECKPOINT = "run.json", "checkpoint.sqlite"
IMAGES, LATENTS, PREVIEWS = "images", "latents", "previews"
SHEET, REPORT = "contact_sheet.png", "report.html"
LOCK, HOLDER = "lock", "lock.json"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors from a file system that has no locks."""
CALLABLE = "callable "
"""Prefix in the name of a scorer that is a Python object."""
MOST_BYTES = 2**28
"""Size limit for a file of a run."""
PACKAGES = ("promptprobe", "torch", "diffusers", "transformers", "langgraph", "openai")


class FolderInUseError(OSError):
    """Another process works in this folder."""


class RunSettings(OptimizeRequest):
    """A run's settings, with the model's defaults filled in."""

    pipeline: str = Field(default="", description="class name of the model's diffusers pipeline")
    budget: Budget
    scorer: Text = Field(description="what selected: the model's own scorer if none was named")
    endpoint: LLM | None = Field(
        default=None, description="the LLM, if more than its name was given"
    )
    interactive: bool = Field(
        default=False, description="a person is asked before a round spends anything"
    )
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def objects(self) -> tuple[str, ...]:
        """Which of model, scorer and judge were Python objects, whose names open nothing."""
        by_object = {
            "model": self.model == IN_MEMORY,
            "scorer": any(one.startswith(CALLABLE) for one in parts_of(self.scorer)),
            "judge": any(judge.startswith(CALLABLE) for judge in self.judge),
        }
        return tuple(name for name, given in by_object.items() if given)


def spoken(judge: str) -> str:
    """A judge's name as people and trials see it: a function by its own name."""
    return JOINT.join(part.removeprefix(CALLABLE) for part in parts_of(judge))


def check_folder(folder: Path, name: str = "out") -> None:
    """Create the folder given as argument `name`, and check that it can be written.

    Raises:
        OSError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{name} must be a writable folder, got {str(folder)!r}: {error}. "
            "Give another, or change its permissions"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Lock the folder of a run or a batch, so that only one process at a time works in it.

    The lock is the operating system's: it ends with the process, however that ends.

    Yields:
        "", or a notice that nothing is locked because the file system has no locks.

    Raises:
        FolderInUseError: another process holds it; the message names process, machine and time.
    """
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is in use by {_holder(folder)}: wait until it ends, or end it"
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        yield f"the disk of {folder} has no locks ({error}): do not use it from a second process"
        return
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
        yield ""
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Who holds a folder, as far as its lock file says."""
    try:
        with (folder / HOLDER).open("rb") as file:
            found = json.loads(file.read(1000))
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def create(out: Path, settings: RunSettings) -> Path:
    """A new folder with its run.json."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        run_dir = out / f"{stamp}-{settings.key[:6]}{f'-{number}' if number else ''}"
        try:
            run_dir.mkdir()
        except FileExistsError:
            continue
        (run_dir / IMAGES).mkdir()
        with replacing(run_dir / FILE) as partial:
            partial.write_text(settings.model_dump_json(indent=2), encoding="utf-8")
        return run_dir
    raise FileExistsError(f"{out} already has 1000 runs from this second; give another out=...")


def runs_in(folder: Path) -> list[Path]:
    """The run folders at or below a folder. Raises ValueError if there are none."""
    found = sorted(path.parent for path in folder.rglob(FILE))
    if not found:
        raise ValueError(
            f"expected the folder of a run, or a folder of runs, got {str(folder)!r} without any "
            f"{FILE}. Give the --out of `promptprobe optimize`"
        )
    return found


def read(run_dir: Path) -> RunSettings:
    """The settings of the run in this folder.

    Raises:
        ValueError: this is not a run folder, or its run.json is damaged.
    """
    path = run_dir / FILE
    try:
        return RunSettings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(
            f"expected the folder of a run, with {FILE} in it, got {str(run_dir)!r}. "
            "Give the run_dir that a run printed."
        ) from error
    except ValidationError as error:
        raise ValueError(f"{path} is damaged or of another version: {explain(error)}") from error


def own_file(path: Path, run_dir: Path) -> Path:
    """The file at a path. Raises ValueError if it is missing, outside of the run, or too large."""
    real = path.resolve()
    if not real.is_relative_to(run_dir):
        raise ValueError(f"{path} leads out of the run's folder")
    if not real.is_file():
        raise ValueError(f"{path} is missing or not a file")
    if (size := real.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, expected at most {MOST_BYTES:,}")
    return real


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect how an image looks."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
