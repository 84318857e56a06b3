"""What a reader of a study must know of the machine: kernel, CPU, clocks. Reads /proc and /sys, never writes."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["clock_bracket", "clocksource", "host", "power"]

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


def power(cpus: Iterable[int], root: Path = Path("/")) -> dict[str, Any]:
    """How the machine trades speed for power, and how often it has slowed us down since it was started.

    governors: by CPU. idle_us: by CPU, the idle states that it may use, and how many µs each takes to wake from.
    thermal_throttles: by those CPUs and their packages. cgroup_throttles: of the control groups that this process is
    in, where they have a limit of CPU time. Null where the kernel doesn't tell. root: where /proc and /sys lie.
    """
    folders = {str(cpu): root / f"sys/devices/system/cpu/cpu{cpu}" for cpu in cpus}
    governors = {cpu: _read(folder / "cpufreq/scaling_governor") for cpu, folder in folders.items()}
    thermal = [file for folder in folders.values() for file in sorted(folder.glob("thermal_throttle/*_throttle_count"))]
    limits = list(_cgroup_throttles(root))
    return {
        "governors": {cpu: governor for cpu, governor in governors.items() if governor},
        "idle_us": {cpu: states for cpu, folder in folders.items() if (states := _idle_states(folder))},
        "thermal_throttles": sum(int(file.read_text()) for file in thermal) if thermal else None,
        "cgroup_throttles": sum(limits) if limits else None,
    }


def _idle_states(folder: Path) -> dict[str, int]:
    """Name → exit latency in µs of the idle states of one CPU that are not disabled."""
    found = {}
    for state in sorted(folder.glob("cpuidle/state[0-9]*")):
        name, latency = _read(state / "name"), _read(state / "latency")
        if name and latency and _read(state / "disable") == "0":
            found[name] = int(latency)
    return found


def _cgroup_throttles(root: Path) -> Iterator[int]:
    """``nr_throttled`` of each of our control groups for CPU time, up to the outermost (cgroups(7), both versions)."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        home = root / "sys/fs/cgroup" / controllers
        group = home / path.strip("/")
        for folder in (group, *group.parents):
            for entry in (_read(folder / "cpu.stat") or "").splitlines():
                name, _, value = entry.partition(" ")
                if name == "nr_throttled":
                    yield int(value)
            if folder == home:
                break


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
