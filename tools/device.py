"""Turns on the device, batch sizes that fit into its memory, and whether one image fits at all.

In this process one piece of work has the device at a time, first come, first served. Runs in
several threads or tasks share models, and the libraries that load them patch globals meanwhile
(torch's default dtype, how modules register their parameters). So whatever opens a model or
computes with one takes a turn. A process has one queue even with several GPUs: run one process per
GPU.

Work is split into batches that fit into memory: one that does not is halved and tried again, and
between two batches others may have the device. accelerate knows the out-of-memory errors of each
backend. Its `find_executable_batch_size` is not used because it restarts all work with the smaller
size, while here finished batches are kept. Batches grow as long as they fit, since nobody knows
beforehand how much a device can hold.

When a turn ends, so do the helpers of its thread, see `release_threads`.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")
GIGABYTE = 2**30
PAUSE_SOFT = 1
"""omp_pause_soft of OpenMP 5.0: what was paused starts again when it is needed."""


def release_threads() -> None:
    """End the threads with which this one computes on a CPU; its next computation starts new ones.

    GNU OpenMP, which torch uses on Linux, keeps helpers for each thread that has ever computed.
    If all of them together outnumber the cores, they sleep between any two operations instead of
    spinning, and a small model takes twice as long. Does nothing with any other OpenMP.
    """
    if "torch" in sys.modules:
        for library in _gnu_openmp():
            library.omp_pause_resource_all(PAUSE_SOFT)


@cache
def _gnu_openmp() -> tuple[ctypes.CDLL, ...]:
    """The copies of GNU OpenMP that this process has loaded."""
    import_module("torch")  # another thread may still be importing it
    maps = Path("/proc/self/maps")  # Linux
    lines = maps.read_text().splitlines() if maps.is_file() else []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line}
    libraries = [ctypes.CDLL(path) for path in sorted(paths) if Path(path).is_file()]
    return tuple(one for one in libraries if hasattr(one, "omp_pause_resource_all"))


class Turns:
    """A fair, reentrant lock."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        """Waiting threads, each with a gate that the previous holder opens."""
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
        try:
            if self._depth == 1:
                release_threads()
        finally:  # Ctrl-C may come in between
            with self._guard:
                self._depth -= 1
                if self._depth == 0:
                    self._next()

    def _next(self) -> None:
        """Hand over to the thread that has waited longest; no other can get in between."""
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
            else:  # it was handed over just now
                self._depth = 0
                self._next()


DEVICE = Turns()
"""The one queue of this process: `with DEVICE:`."""


class Batches:
    """Splits work into batches, and remembers the size that fits."""

    def __init__(self, size: int, most: int | None = None) -> None:
        self.size = size
        """Items per batch; doubled after each full batch that fits, up to `most`."""
        self._most = most or size

    def map(
        self,
        run: Callable[[Sequence[Item]], list[Done]],
        items: Sequence[Item],
        tell: Callable[[str], object],
    ) -> list[Done]:
        """The results of `run` for each item, in order; see `each`."""
        return [done for batch in self.each(run, items, tell) for done in batch]

    def each(
        self,
        run: Callable[[Sequence[Item]], Done],
        items: Sequence[Item],
        tell: Callable[[str], object],
    ) -> Iterator[Done]:
        """Yield the result of `run` for each batch, in order; `tell` is called at each halving.

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
            # Only after the handler has ended are the failed batch's tensors free.
            self.size = self._most = len(batch) // 2
            tell(
                f"{len(batch)} images at once did not fit into memory: {self.size} at once "
                "from now on"
            )
            clear_device_cache()


def check_memory(pipeline: Any, width: int, height: int, device: str) -> None:
    """Raise ValueError if there is not enough memory to decode a single image.

    On a machine without a GPU, running out of memory cannot be caught: the system kills the
    process. This check is a lower bound, so an image that passes may still not fit; `Batches`
    reports that if it can be caught.

    Args:
        pipeline: the model.
        width, height: in pixels.
        device: where it runs.
    """
    there, needed = _there(device), least_to_decode(pipeline.vae, width, height)
    if there is not None and needed > there:
        raise ValueError(
            f"one image of {width} x {height} pixels takes at least {needed / GIGABYTE:.1f} GB to "
            f"decode, but there are only {there / GIGABYTE:.1f} GB: give a smaller height and "
            "width, or pass the pipeline after pipeline.vae.enable_tiling()"
        )


def least_to_decode(vae: Any, width: int, height: int) -> int:
    """Bytes of the input of the decoder's last convolution and of the tensor it was computed from.

    0 if the VAE works in tiles.
    """
    from torch import nn

    if getattr(vae, "use_tiling", False):
        return 0
    kinds = (nn.Conv2d, nn.Conv3d)
    last = [module for module in vae.decoder.modules() if isinstance(module, kinds)][-1]
    return 2 * last.in_channels * width * height * last.weight.element_size()


def _there(device: str) -> int | None:
    """Bytes that this process could use: a GPU's total, or the machine's available memory."""
    import psutil
    import torch

    if device == "cpu":
        return int(psutil.virtual_memory().available)
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[1])
    return None
