"""What a machine does besides, on the CPUs of a study: how much time it takes from whoever runs there, and for what.

A thread on each CPU does nothing but read the clock. A gap between two reads that is longer than a read can take was
stolen: by an interrupt, another process, or the hypervisor. So do hwlat and osnoise in the kernel, and sysjitter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.errors import Unavailable
from lab.host import power
from lab.native.clock import Gaps, clock_gaps

__all__ = ["Background", "Noise", "noise_floor"]

#: How long a study watches its CPUs, before and after.
DURATION_NS = 50_000_000
#: A longer gap is stolen time. A read takes 20 to 50 ns, an interrupt 1 µs and more.
THRESHOLD_NS = 1_000
_QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What was seen on one CPU.

    gap_ns: p50, p99 and p999 of the gaps between reads, each to within a quarter from below (the bin it lies in), and
    the exact max. histogram: (the shortest gap of a bin in ns, how many gaps), empty bins left out. interruptions,
    stolen_ns: gaps above ``THRESHOLD_NS``, and their sum. interrupts, softirqs: by name, those that came meanwhile.
    steal_ns: taken by the hypervisor, by the kernel's account, which counts in steps of 1 to 10 ms. None where the
    kernel does not tell.
    """

    cpu: int
    duration_ns: int
    reads: int
    interruptions: int
    stolen_ns: int
    gap_ns: dict[str, int]
    histogram: tuple[tuple[int, int], ...]
    interrupts: dict[str, int] | None
    softirqs: dict[str, int] | None
    steal_ns: int | None

    @property
    def stolen_fraction(self) -> float:
        """Of the time that it was watched."""
        return self.stolen_ns / self.duration_ns

    def to_json(self) -> dict[str, Any]:
        """All of it, and the fraction."""
        return {**asdict(self), "stolen_fraction": self.stolen_fraction}


def noise_floor(cpus: Iterable[int], duration_ns: int = DURATION_NS) -> tuple[Noise, ...]:
    """Watches the CPUs for so long, all at once, as a stream uses them; in their order.

    Raises Unavailable for a CPU that this process may not use, UsageError for more than 10 s.
    """
    cpus = tuple(cpus)
    before = _Counters.read()
    watches = [_Watch(cpu, duration_ns) for cpu in cpus]
    for watch in watches:
        watch.start()
    gaps = [watch.result() for watch in watches]
    after = _Counters.read()
    return tuple(_noise(cpu, seen, before, after) for cpu, seen in zip(cpus, gaps, strict=True))


class _Watch(threading.Thread):
    """The loop on one CPU, in a thread of its own: the caller's keeps its affinity."""

    def __init__(self, cpu: int, duration_ns: int) -> None:
        super().__init__(name=f"lab noise {cpu}")
        self._cpu, self._duration_ns = cpu, duration_ns
        self._gaps: Gaps | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            os.sched_setaffinity(0, {self._cpu})  # 0: this thread
            self._gaps = clock_gaps(self._duration_ns, THRESHOLD_NS)
        except Exception as error:  # handed to the caller's thread, which raises it
            self._error = error

    def result(self) -> Gaps:
        self.join()
        if isinstance(self._error, OSError) and not isinstance(self._error, Unavailable):
            fix = "Allow it with taskset, or name another"
            raise Unavailable(f"cannot run on CPU {self._cpu}", errno=self._error.errno, fix=fix) from self._error
        if self._error is not None:
            raise self._error
        assert self._gaps is not None  # noqa: S101 - it is that or an error
        return self._gaps


def _noise(cpu: int, gaps: Gaps, before: _Counters, after: _Counters) -> Noise:
    reached = np.cumsum(gaps.counts)
    quantiles = {
        name: int(gaps.edges_ns[np.searchsorted(reached, fraction * gaps.reads)])
        for name, fraction in _QUANTILES.items()
    }
    filled = np.flatnonzero(gaps.counts)
    return Noise(
        cpu=cpu,
        duration_ns=gaps.duration_ns,
        reads=gaps.reads,
        interruptions=gaps.interruptions,
        stolen_ns=gaps.stolen_ns,
        gap_ns={**quantiles, "max": gaps.longest_ns},
        histogram=tuple(zip(gaps.edges_ns[filled].tolist(), gaps.counts[filled].tolist(), strict=True)),
        interrupts=_difference(before.interrupts.get(cpu), after.interrupts.get(cpu)),
        softirqs=_difference(before.softirqs.get(cpu), after.softirqs.get(cpu)),
        steal_ns=after.steal_ns[cpu] - before.steal_ns[cpu] if cpu in before.steal_ns else None,
    )


def _difference(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, int] | None:
    if before is None or after is None:
        return None
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}


@dataclass(frozen=True)
class _Counters:
    """What the kernel has counted since the machine was started, by CPU (proc(5))."""

    interrupts: dict[int, dict[str, int]]
    softirqs: dict[int, dict[str, int]]
    steal_ns: dict[int, int]

    @classmethod
    def read(cls, root: Path = Path("/proc")) -> _Counters:
        """As far as it may be read."""
        return cls(_by_cpu(root / "interrupts"), _by_cpu(root / "softirqs"), _steal(root / "stat"))


def _by_cpu(path: Path) -> dict[int, dict[str, int]]:
    """A table with a column a CPU, and a row a name; rows that are not by CPU (ERR, MIS) are shorter."""
    try:
        heading, *lines = path.read_text().splitlines()
    except OSError:  # it is hidden in some containers
        return {}
    cpus = [int(name.removeprefix("CPU")) for name in heading.split()]
    found: dict[int, dict[str, int]] = {cpu: {} for cpu in cpus}
    for line in lines:
        name, *cells = line.split()
        counts, device = cells[: len(cpus)], cells[-1:]
        if len(counts) < len(cpus):
            continue
        name = name.rstrip(":")
        label = f"{name} {device[0]}" if name.isdigit() and len(cells) > len(cpus) else name
        for cpu, count in zip(cpus, counts, strict=True):
            found[cpu][label] = int(count)
    return found


def _steal(path: Path) -> dict[int, int]:
    """The eighth number of each cpuN line, in ns."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith("cpu")]
    return {int(name[3:]): int(numbers[7]) * tick_ns for name, *numbers in lines if name != "cpu"}


class Background:
    """What a study's CPUs go through besides: looked at when this is made, and again by ``look_again``."""

    def __init__(self, cpus: Iterable[int], duration_ns: int = DURATION_NS) -> None:
        self._cpus, self._duration_ns = tuple(cpus), duration_ns
        self._before = self._look()
        self._after: dict[str, Any] | None = None

    def _look(self) -> dict[str, Any]:
        noise = noise_floor(self._cpus, self._duration_ns)
        return {"noise": [each.to_json() for each in noise], "power": power(self._cpus)}

    def look_again(self) -> None:
        """After the last run."""
        self._after = self._look()

    def to_json(self) -> dict[str, Any]:
        """For study.json: ``noise`` and ``power``, each with what was before, and after (null: not yet)."""
        return {
            name: {"before": self._before[name], "after": self._after and self._after[name]} for name in self._before
        }
