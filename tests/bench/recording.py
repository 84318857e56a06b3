"""What the loop does beside waiting: how long a million probes take, and what recording one costs.

    python tests/bench/recording.py [--count 1000000] [--repeats 301]

A million closed-loop ICMP echoes on lo, from before their records are allocated until they are a Stream, over a million
times their mean round trip. What lies between a probe's rx and the next one's tx, less one clock read, is everything
that the loop does outside a round trip: matching, recording, numbering the next. `recording.c` takes recording out of
that, in a loop whose send and receive return at once. Exit 1 if a limit is exceeded. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab import Condition, World
from lab.native.clock import clock_cost
from lab.probes import choose_cpus, send_stream
from lab.world import open_endpoints

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "native"
MAX_RATIO, MAX_RECORDING_NS = 1.10, 25.0
ROWS = 2_000  # of a repeat: some 0.2 ms, which is seldom interrupted


def build(folder: str) -> Path:
    program = Path(folder) / "recording"
    sources = [path for path in sorted(NATIVE.glob("*.c")) if path.name != "prelude.c"]
    flags = ["-O3", "-DNDEBUG", "-std=gnu11", "-D_GNU_SOURCE", "-pthread"]
    flags += [f"-Wl,--wrap={name}" for name in ("sendto", "recv", "recvmsg")]
    subprocess.run(["cc", *flags, f"-I{NATIVE}", HERE / "recording.c", *sources, "-o", program, "-lm"], check=True)
    return program


def recording(program: Path, family: int, repeats: int, cpu: int) -> tuple[float, float]:
    """ns that recording a probe costs, and ns of a clock read: medians of repeats."""
    command = ["taskset", "-c", str(cpu), str(program), str(family), str(ROWS), str(repeats)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = np.array([line.split() for line in lines], float)
    return float(np.median(found[:, 0] - found[:, 1])), float(np.median(found[:, 2]))


class Whole(NamedTuple):
    """One long stream."""

    ratio: float  # the time that it took, to count × mean
    mean_ns: float
    between_ns: float  # from one probe's rx to the next one's tx, less a clock read: the median


def whole(family: int, count: int) -> Whole:
    condition = Condition(family=family)
    with World(["lo"]) as world, open_endpoints(world, condition) as ends:
        begun_ns = time.perf_counter_ns()
        stream = send_stream(condition, ends, count=count)
        took_ns = time.perf_counter_ns() - begun_ns
    if stream.received < count:
        raise SystemExit(f"{count - stream.received} of {count} probes were lost")
    mean_ns = float(np.mean(stream.rtt_ns))
    between_ns = stream.records["tx_ns"][1:] - stream.records["rx_ns"][:-1]
    read_ns = statistics.median(clock_cost(10_000)[0] for _ in range(31))
    return Whole(took_ns / (count * mean_ns), mean_ns, float(np.median(between_ns)) - read_ns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=301)
    arguments = parser.parse_args()
    cpu = choose_cpus(Condition()).near
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        costs = [recording(program, family, arguments.repeats, cpu) for family in (4, 6)]
    streams = [whole(family, arguments.count) for family in (4, 6)]
    many = f"{arguments.count:,}"
    rows = [
        (f"time of {many} echoes / ({many} × their mean)", ".3f", [s.ratio for s in streams], MAX_RATIO),
        ("recording a probe, ns beyond its clock reads", ".1f", [cost for cost, _read in costs], MAX_RECORDING_NS),
        ("all between two probes, ns beyond the clock read", ".1f", [s.between_ns for s in streams], None),
        ("a clock read, ns", ".1f", [read for _cost, read in costs], None),
        ("mean round trip, ns", ".0f", [s.mean_ns for s in streams], None),
    ]
    print("| | IPv4 | IPv6 | limit |\n|---|---|---|---|")
    for name, form, (four, six), limit in rows:
        print(f"| {name} | {four:{form}} | {six:{form}} | {'' if limit is None else f'≤ {limit:g}'} |")
    return int(any(limit is not None and max(values) > limit for _name, _form, values, limit in rows))


if __name__ == "__main__":
    sys.exit(main())
