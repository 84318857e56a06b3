"""What a reader of a study must know of the machine: kernel, CPU, clocks. Reads /proc and /sys, never writes."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

__all__ = ["clock_bracket", "clocksource", "host"]

_CPU = Path("/sys/devices/system/cpu")


def _read(path: Path) -> str | None:
    """The file's text, or None where the kernel does not have it."""
    return path.read_text(errors="replace").strip() if path.is_file() else None


def clocksource() -> str | None:
    """What CLOCK_MONOTONIC is read from, such as ``tsc``."""
    return _read(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"))


def _cpu_model() -> str | None:
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.machine()


def host() -> dict[str, Any]:
    """Kernel, CPU, clocksource, idle states, governor and mitigations of this machine, for a study's metadata."""
    vulnerabilities = _CPU / "vulnerabilities"
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_allowed": sorted(os.sched_getaffinity(0)),
        "clocksource": clocksource(),
        "cpuidle": _read(_CPU / "cpuidle/current_driver"),
        "governor": _read(_CPU / "cpu0/cpufreq/scaling_governor"),
        "mitigations": {f.name: _read(f) for f in sorted(vulnerabilities.iterdir())}
        if vulnerabilities.is_dir()
        else {},
        "python": platform.python_version(),
    }


def clock_bracket(tries: int = 16) -> dict[str, int]:
    """CLOCK_REALTIME at a moment of CLOCK_MONOTONIC, both in ns, and how far apart the enclosing reads were.

    The narrowest of `tries`. Two of these, before and after, show whether the wall clock was stepped.
    """
    best: tuple[int, int, int] | None = None
    for _ in range(tries):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        width = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - before
        if best is None or width < best[0]:
            best = (width, before + width // 2, real)
    if best is None:
        raise ValueError("tries must be at least 1")
    width, monotonic, real = best
    return {"monotonic_ns": monotonic, "realtime_ns": real, "width_ns": width}
