"""The device: who has it, how much fits into its memory at once, and whether one image fits at all.

One piece of work has it at a time in this process, in the order of asking. Runs in several threads
or tasks share models, and the libraries that load them patch globals meanwhile (torch's default
dtype, how modules register their parameters). So whatever opens a model or computes with one takes
a turn. A process has one queue, for several GPUs too: give each of those a process of its own.

Work comes in batches that fit the memory: one that does not is halved and tried again, and between
two batches others may have the device. accelerate knows what each backend says when memory runs
out. Its `find_executable_batch_size` is not used: it begins all the work anew with the smaller
size, and here finished batches are kept. Batches grow for as long as they fit, since nobody knows
beforehand what a device bears.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")
GIGABYTE = 2**30


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

    def __exit__(self, *_: object) -> None:
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


def check_memory(pipeline: Any, width: int, height: int, device: str) -> None:
    """ValueError, with both figures: one image cannot be decoded in the memory that there is.

    On a machine without a GPU too large a picture is no error that can be caught: the system kills
    the process. What is counted is only what must be there, so what passes may still not fit; where
    that is an error, `Batches` tells it in words.

    width, height: pixels.
    """
    there, needed = _there(device), least_to_decode(pipeline.vae, width, height)
    if there is not None and needed > there:
        raise ValueError(
            f"one image of {width} x {height} pixels takes at least {needed / GIGABYTE:.1f} GB to "
            f"decode, and {there / GIGABYTE:.1f} GB are there: give a smaller height and width, or "
            "pass the pipeline after pipeline.vae.enable_tiling()"
        )


def least_to_decode(vae: Any, width: int, height: int) -> int:
    """Bytes of what the decoder's last convolution reads, and of what that was made from.

    None of it is there at once where the VAE works in tiles.
    """
    from torch import nn

    if getattr(vae, "use_tiling", False):
        return 0
    kinds = (nn.Conv2d, nn.Conv3d)
    last = [module for module in vae.decoder.modules() if isinstance(module, kinds)][-1]
    return 2 * last.in_channels * width * height * last.weight.element_size()


def _there(device: str) -> int | None:
    """Bytes that this process could have: all of a GPU's, what is free of the machine's."""
    import psutil
    import torch

    if device == "cpu":
        return int(psutil.virtual_memory().available)
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[1])
    return None
