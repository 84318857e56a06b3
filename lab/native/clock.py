"""What it costs to read the clock, and what interrupts a loop that does nothing else (``native/{clock,noise}.c``)."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.errors import Unavailable, UsageError

__all__ = ["Gaps", "clock_cost", "clock_gaps"]


def clock_cost(reads: int = 100_000) -> tuple[float, int]:
    """Reads CLOCK_MONOTONIC `reads` times: (mean ns of one read, smallest non-zero step in ns)."""
    step = ffi.new("int64_t *")
    picoseconds = lib.lab_clock_cost(reads, step)
    return picoseconds / 1000, int(step[0])


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """``struct lab_noise``; ``counts`` are of the gaps from each of ``edges_ns`` up to the next, both shape (bins,)."""

    edges_ns: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    reads: int
    duration_ns: int
    longest_ns: int
    interruptions: int
    stolen_ns: int


def clock_gaps(duration_ns: int, threshold_ns: int) -> Gaps:
    """Does nothing but read CLOCK_MONOTONIC on this thread for so long; what took longer than the threshold was stolen.

    Raises UsageError for more than 10 s, Unavailable if the clock went back, or stood still.
    """
    counts = np.zeros(lib.LAB_NOISE_BINS, np.int64)
    noise = ffi.new("struct lab_noise *")
    rows = ffi.from_buffer("int64_t[]", counts, require_writable=True)
    result = lib.lab_noise_run(duration_ns, threshold_ns, rows, noise)
    if result == -errno.EINVAL:
        raise UsageError(f"noise over {duration_ns} ns: give 1 to {lib.LAB_MAX_NOISE_NS}")
    if result < 0:
        fix = "Boot with another clocksource (clocksource=hpet): no delay measured here can be trusted"
        raise Unavailable("CLOCK_MONOTONIC went back, or stood still", errno=int(-result), fix=fix)
    edges = np.array([lib.lab_noise_edge(bin_) for bin_ in range(len(counts))], np.int64)
    numbers = {name: int(getattr(noise, name)) for name, _field in ffi.typeof("struct lab_noise").fields}
    return Gaps(edges_ns=edges, counts=counts, **numbers)
