"""How exactly packets leave when they are due: a part of `injecting.py`.

10,000 packets/s for ten seconds. Beside it two loops in C with the same schedule, `waker.c`: clock_nanosleep alone, and
one that only reads the clock. What that one is late by, something else had the CPU, as the host of a virtual machine
takes it now and then: the pacing is judged by the quietest round. At the end a capture tells of packets of their
own whether they drift; it takes a CPU, too.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from packets import datagram
from receiving import Listener

import lab

RATE, SECONDS = 10_000, 10
COUNT, PERIOD_NS = RATE * SECONDS, 10**9 // RATE
MOST_LATE_NS = 20_000  # p99
PERCENTILES = (50, 90, 99)
EDGE = RATE // 2  # packets at either end whose median place tells of drift


class Lateness(NamedTuple):
    """In ns."""

    p50: float
    p90: float
    p99: float
    max: float


class Paced(NamedTuple):
    """What the lab sent."""

    late: Lateness
    sent: int
    delivered: int | None


def by_lab(family: int) -> Paced:
    with Listener(family):
        done = lab.inject(datagram(family), "lo", rate=RATE, loop=COUNT)
    error = done.pacing_error_ns
    assert error is not None
    return Paced(Lateness(error["p50"], error["p90"], error["p99"], error["max"]), done.sent, done.delivered)


def drift_ns(family: int) -> float:
    """By how much the last packets came later than the first, against the schedule. All must have come."""
    with Listener(family), lab.capture("lo", filter="udp") as capture:
        lab.inject(datagram(family), "lo", rate=RATE, loop=COUNT)
    times_ns = np.sort(capture.frames.columns("time_ns")["time_ns"])
    assert len(times_ns) == COUNT
    off_ns = times_ns - times_ns[0] - PERIOD_NS * np.arange(COUNT)
    return float(np.median(off_ns[-EDGE:]) - np.median(off_ns[:EDGE]))


def by_waking(waker: Path, how: str) -> Lateness:
    command = [str(waker), how, str(PERIOD_NS), str(COUNT)]
    late_ns = np.frombuffer(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout, np.int64)
    return Lateness(*np.percentile(late_ns, PERCENTILES), late_ns.max())


def measure(rounds: int, waker: Path) -> list[str]:
    """Prints a table; returns what is not as it should be, a line each."""
    paced: dict[int, list[Paced]] = {4: [], 6: []}
    waked: dict[str, list[Lateness]] = {"sleep": [], "spin": []}
    for _ in range(rounds):
        for what in random.sample([*paced, *waked], len(paced) + len(waked)):
            if isinstance(what, int):
                paced[what].append(by_lab(what))
            else:
                waked[what].append(by_waking(waker, what))
            print(f"{what}: {[*paced.get(what, ()), *waked.get(what, ())][-1]}", file=sys.stderr, flush=True)
    lines = {
        **{f"lab, IPv{family}": [each.late for each in runs] for family, runs in paced.items()},
        "clock_nanosleep alone": waked["sleep"],
        "reading the clock alone": waked["spin"],
    }
    print(f"\n| {RATE:,}/s for {SECONDS} s, late by µs | p50 | p90 | p99 | max |\n|---|---|---|---|---|")
    for name, runs in lines.items():
        cells = [f"{statistics.median(column) / 1000:.2f}" for column in zip(*runs, strict=True)]
        print("| " + " | ".join([name, *cells]) + " |")
    drifts = {family: drift_ns(family) for family in paced}
    told = ", ".join(f"{drift / 1000:.2f} (IPv{family})" for family, drift in drifts.items())
    print(f"\ndrift over {SECONDS} s, µs: {told}; p99 of the quietest round: ", end="")
    print(", ".join(f"{quietest_ns(runs) / 1000:.2f} (IPv{family})" for family, runs in paced.items()))
    return [fault for family, runs in paced.items() for fault in faults(family, runs, drifts[family])]


def quietest_ns(runs: list[Paced]) -> float:
    return min(each.late.p99 for each in runs)


def faults(family: int, runs: list[Paced], drift: float) -> list[str]:
    found = [
        f"IPv{family}: {COUNT:,} packets were due: {each}" for each in runs if not COUNT == each.sent == each.delivered
    ]
    if (late := quietest_ns(runs)) > MOST_LATE_NS:
        found.append(f"IPv{family}: p99 of the pacing error is {late / 1000:.1f} µs, not {MOST_LATE_NS / 1000:g}")
    if abs(drift) > MOST_LATE_NS:
        found.append(f"IPv{family}: the last packets were {drift / 1000:.1f} µs more late, or less, than the first")
    return found
