"""Work in batches that fit the memory: a batch that does not fit is halved and tried again.

accelerate knows what each backend says when memory runs out. Its `find_executable_batch_size` is
not used: it begins all the work anew with the smaller size, and here finished batches are kept.
Batches grow for as long as they fit, since nobody knows beforehand what a device bears.
Between two batches others may have the device (device.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from promptprobe.tools.device import DEVICE

Item = TypeVar("Item")
Done = TypeVar("Done")


class Batches:
    """Splits work, and remembers the size that fitted."""

    def __init__(self, size: int, most: int | None = None) -> None:
        self.size = size
        """Items in a batch: twice as many after each full one that fitted, up to `most`."""
        self._most = most or size

    def map(
        self,
        run: Callable[[Sequence[Item]], list[Done]],
        items: Sequence[Item],
        tell: Callable[[str], object],
    ) -> list[Done]:
        """What `run` finds of each item, in order; see `each`."""
        return [done for batch in self.each(run, items, tell) for done in batch]

    def each(
        self,
        run: Callable[[Sequence[Item]], Done],
        items: Sequence[Item],
        tell: Callable[[str], object],
    ) -> Iterator[Done]:
        """`run` of each batch of items in order; `tell` hears of each halving.

        Raises:
            MemoryError: not even one item fits.
        """
        from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

        at = 0
        while at < len(items):
            batch = items[at : at + self.size]
            try:
                with DEVICE:
                    done = run(batch)
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                    raise
                if len(batch) == 1:
                    raise MemoryError(
                        "one image alone does not fit into memory: use a smaller height and width, "
                        'dtype "float16" on a GPU, or a device with more memory'
                    ) from error
            else:
                at += len(batch)
                if len(batch) == self.size:
                    self.size = min(2 * self.size, self._most)
                yield done
                continue
            # Only now, past the handler, are the failed batch's tensors free.
            self.size = self._most = len(batch) // 2
            tell(
                f"{len(batch)} images at once did not fit into memory: {self.size} at once from now"
            )
            clear_device_cache()
