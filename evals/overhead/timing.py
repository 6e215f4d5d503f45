"""Time and peak memory of things that are compared.

Time is taken in turns: every round runs all of them, each round another one first, so that a
machine's moods and the warmth of its caches fall on all alike, and ratios are taken within a
round. Peaks are taken apart from that, for a heap without leftovers is a slow one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

TimedRun = Callable[[], object]


def in_turns(runs: Mapping[str, TimedRun], rounds: int, device: str) -> Iterator[dict[str, float]]:
    """The seconds of each, one round after another."""
    names = list(runs)
    for index in range(rounds):
        first = index % len(names)
        yield {name: seconds(runs[name], device) for name in names[first:] + names[:first]}


def seconds(run: TimedRun, device: str) -> float:
    """Seconds of one run, until the GPU is done where there is one."""
    synchronize = _synchronizer(device)
    synchronize()
    begun = time.perf_counter()
    made = run()
    synchronize()
    taken = time.perf_counter() - begun
    del made  # freeing it is no part of the run
    return taken


def peak_bytes(run: TimedRun, device: str, repeats: int = 1) -> int | None:
    """At most in use during a run, weights and all: by the process, or by torch on the GPU.

    The median of some runs, for a C library's heap is not the same twice. None where this machine
    does not tell.
    """
    follow = _cuda_peak if device.startswith("cuda") else _process_peak
    peaks = [follow(run) for _ in range(repeats)]
    known = [peak for peak in peaks if peak is not None]
    return int(median(known)) if known else None


def _cuda_peak(run: TimedRun) -> int:
    import torch

    torch.cuda.reset_peak_memory_stats()
    run()
    return int(torch.cuda.max_memory_allocated())


def _process_peak(run: TimedRun) -> int | None:
    gc.collect()
    try:
        # What earlier runs freed and the C library kept would hide what this one needs.
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")  # proc(5): the peak begins anew from what is in use
    except (OSError, AttributeError, TypeError):
        run()
        return None
    run()
    lines = STATUS.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def spread(values: list[float]) -> dict[str, float]:
    """The median between the quartiles: a machine that stalls now and then spoils a mean."""
    low, value, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"value": round(value, 5), "low": round(low, 5), "high": round(high, 5)}


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    import diffusers
    import torch

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": _cpu(),
        "cores": len(allowed) if allowed else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
    }


def _cpu() -> str:
    """By its own name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _synchronizer(device: str) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None
