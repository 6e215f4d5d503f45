"""Time and peak memory of runs that are compared.

Times are interleaved: every round runs all of them, each round starting with another, so that
fluctuations of the machine and warm caches affect all alike; ratios are taken within a round. Peak
memory is measured separately, because trimming the heap before a run slows it down.
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
    """The seconds of each run, round by round."""
    names = list(runs)
    for index in range(rounds):
        first = index % len(names)
        yield {name: seconds(runs[name], device) for name in names[first:] + names[:first]}


def seconds(run: TimedRun, device: str) -> float:
    """Seconds of one run, including the GPU's work."""
    synchronize = _synchronizer(device)
    synchronize()
    start = time.perf_counter()
    result = run()
    synchronize()
    elapsed = time.perf_counter() - start
    del result  # freeing it is not part of the run
    return elapsed


def peak_bytes(run: TimedRun, device: str, repeats: int = 1) -> int | None:
    """Peak memory in use during a run, including weights: the process's, or torch's on the GPU.

    The median of several runs, because a C library's heap varies. None if this machine does not
    report it.
    """
    measure = _cuda_peak if device.startswith("cuda") else _process_peak
    peaks = [measure(run) for _ in range(repeats)]
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
        # Memory that earlier runs freed but the C library kept would hide what this one needs.
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")  # proc(5): resets the peak to the memory in use
    except (OSError, AttributeError, TypeError):
        run()
        return None
    run()
    lines = STATUS.read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


def spread(values: list[float]) -> dict[str, float]:
    """The median and quartiles, which are robust against occasional stalls."""
    low, value, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"value": round(value, 5), "low": round(low, 5), "high": round(high, 5)}


def machine(device: str) -> dict[str, Any]:
    """The hardware and versions that the figures depend on."""
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
    """The CPU's model name if Linux reports it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _synchronizer(device: str) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None
