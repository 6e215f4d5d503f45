"""Files that a kill leaves whole: replaced in one step, or appended to line by line.

Every floor writes its files this way, so it is the lowest that has the code.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which then takes its place; nothing is left of a failure.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        OSError: it is none, but a FIFO for example, which would be waited for; or it is not there.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file")
    return found.st_size


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file. OSError: it cannot be written, because the disk is full perhaps."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


class JsonLines:
    """A JSONL file. Each append is on the disk when it returns; a torn last line is dropped."""

    def __init__(self, path: Path) -> None:
        """Read what is there; the file is mended at the first append, so reading changes nothing.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        self.found: list[bytes] = data[:whole].split(b"\n")[:-1]
        """The lines that were there, without their ends."""
        self._torn_at = whole if whole < len(data) else None

    def append(self, lines: Iterable[str]) -> None:
        """Write lines in one go and wait until they are on the disk.

        Raises:
            OSError: they are not, because the disk is full for example. What was written of them
                is cut off before the next lines.
        """
        data = "".join(f"{line}\n" for line in lines).encode()
        if self._torn_at is not None:
            os.truncate(self.path, self._torn_at)
            self._torn_at = None
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._torn_at = before if self.path.exists() else None
            raise
