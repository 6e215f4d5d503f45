"""Files that a kill leaves intact: they are replaced in one step, or appended to line by line.

Every layer of the package writes its files this way, so the code is in the lowest one.
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
    """Yield a temporary path to write to, then move it to `path`; a failure leaves no file behind.

    Raises:
        OSError: the file cannot be written.
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
        OSError: it does not exist, or is not a regular file (reading a FIFO would block).
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a regular file")
    return status.st_size


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file. OSError: it cannot be written, for example on a full disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


class JsonLines:
    """A JSONL file. Each append is on the disk when it returns; a torn last line is dropped."""

    def __init__(self, path: Path) -> None:
        """Read the file. A torn last line is cut off at the first append; reading changes nothing.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        self.found: list[bytes] = data[:whole].split(b"\n")[:-1]
        """The complete lines that the file had when it was opened, without their newlines."""
        self._torn_at = whole if whole < len(data) else None

    def append(self, lines: Iterable[str]) -> None:
        """Write lines in one go and wait until they are on the disk.

        Raises:
            OSError: they cannot be written, for example on a full disk. The next append first cuts
                off any part that was.
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
