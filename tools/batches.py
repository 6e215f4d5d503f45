"""Work in batches that fit the memory: a batch that does not fit is halved and tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")


class Batches:
    """Splits work, and remembers the size that fitted."""

    def __init__(self, size: int) -> None:
        self.size = size
        """Items in a batch at most; it only ever falls."""

    def map(self, run: Callable[[Sequence[Item]], list[Done]], items: Sequence[Item]) -> list[Done]:
        """`run` over batches of items, results in order.

        Raises:
            MemoryError: not even one item fits.
        """
        done: list[Done] = []
        while len(done) < len(items):
            batch = items[len(done) : len(done) + self.size]
            try:
                done += run(batch)
                continue
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise MemoryError(
                        "one image alone does not fit into memory: use a smaller height and width, "
                        'dtype "float16" on a GPU, or a device with more memory'
                    ) from error
            # Only now, past the handler, are the failed batch's tensors free.
            self.size = len(batch) // 2
            _empty_cache()
        return done


def _out_of_memory(error: BaseException) -> bool:
    """The allocator of the CPU raises a plain RuntimeError, so its words decide."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "out of memory"))


def _empty_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
