"""Seconds, memory, and processes of their own: what all measurements of time share."""

import multiprocessing
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# seconds are of their machine: nothing to compare
TIMED = dict(tolerance=0.0, cheap=lambda cell: False, audited=False, on_device=False)


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Seconds of so many calls together, and what the last of them returned."""
    started = time.perf_counter()
    for _ in range(repeats):
        found = work()
    return time.perf_counter() - started, found


def peak() -> float:
    """Largest memory of this process so far, GiB.

    On Linux the number of `getrusage` would also be that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns in a process of its own, whose peak memory is its own too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)
