"""p50 of the lab's loop over p50 of a bare C loop: same sockets, CPUs and wait mode, in turn, the median of pairs.
Below them the floor: the same message through memory that two CPUs share, where no kernel takes part.

    python tests/bench/loop_overhead.py [--pairs 31] [--count 4000]

The bare loop's sockets have no timeouts, so a lost message would hang it; ours must not hang, and pays for that with a
timer where it sleeps. Exit 1 if a ratio exceeds the limit with placement inline, which is what `lab rtt` does. With two
threads the scheduler alone moves the figures from run to run by more than the limit, so those are shown, not judged.
Prints a Markdown table. Needs a C compiler, and for what lies across CPUs two of them.
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from lab import Condition, World
from lab.errors import errno_name
from lab.probes import choose_cpus, send_stream
from lab.streams import Cpus
from lab.world import Endpoints, open_endpoints

LIMIT = 1.03
HEADER = """\
| probe | IP | wait | placement | lab p50, µs | bare p50, µs | lab / bare | limit |
|---|---|---|---|---|---|---|---|"""
MODES = [("block", "inline"), ("spin", "inline"), ("block", "same-cpu"), ("block", "cross-cpu"), ("spin", "cross-cpu")]
SHM = Condition(link="shm", family=None, probe="shm", wait="spin", placement="cross-cpu")


def build(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "bare.so"
    source = Path(__file__).with_name("bare.c")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def in_thread(function, *arguments) -> int:
    """The bare loop pins its thread, so it gets one of its own."""
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    thread.join()
    return result[0]


def bare_p50(bare: ctypes.CDLL, condition: Condition, ends: Endpoints, cpus: Cpus, count: int) -> float:
    rtt_ns = np.zeros(count, np.int64)
    spin = condition.wait == "spin"
    rows, n, size = ctypes.c_void_p(rtt_ns.ctypes.data), ctypes.c_long(count), condition.size
    if ends.far is None:
        target = ipaddress.ip_address(ends.target).packed
        code = in_thread(
            bare.bare_echo, ends.near.fileno(), condition.family, target, ends.icmp_id, cpus.near, size, spin, n, rows
        )
    else:
        far_cpu = -1 if cpus.far is None else cpus.far
        code = in_thread(
            bare.bare_reflect, ends.near.fileno(), ends.far.fileno(), cpus.near, far_cpu, size, spin, n, rows
        )
    if code:
        raise SystemExit(f"the bare loop failed: {errno_name(-code)}")
    return float(np.median(rtt_ns[count // 10 :]))


def without_timeouts(ends: Endpoints) -> None:
    """As a bare program has them: the lab's loop leaves receive timeouts on, whose timers would burden the bare one."""
    for end in (ends.near, ends.far):
        if end is not None:
            end.setblocking(True)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                end.setsockopt(socket.SOL_SOCKET, option, struct.pack("qq", 0, 0))


def ratio(bare: ctypes.CDLL, world: World, condition: Condition, pairs: int, count: int) -> tuple[float, float, float]:
    """Median over pairs of (lab p50 / bare p50), and both medians in µs."""
    cpus = choose_cpus(condition)
    ours, theirs = [], []
    with open_endpoints(world, condition) as ends:
        for pair in range(pairs):
            for who in ("lab", "bare") if pair % 2 else ("bare", "lab"):
                if who == "lab":
                    stream = send_stream(condition, ends, count=count, warmup=count // 10, cpus=cpus)
                    ours.append(float(np.median(stream.rtt_ns)))
                else:
                    without_timeouts(ends)
                    theirs.append(bare_p50(bare, condition, ends, cpus, count))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), statistics.median(ours) / 1000, statistics.median(theirs) / 1000


def floor(world: World, runs: int, count: int) -> float:
    """Median over runs of p50 through shared memory, µs."""
    with open_endpoints(world, SHM) as ends:
        streams = [send_stream(SHM, ends, count=count, warmup=count // 10) for _ in range(runs)]
    return statistics.median(float(np.median(stream.rtt_ns)) for stream in streams) / 1000


def conditions(link: str) -> list[Condition]:
    return [
        Condition(link=link, probe=probe, family=family, wait=wait, placement=placement)
        for probe in ("icmp", "udp", "tcp")
        for family in (4, 6)
        for wait, placement in MODES
        if probe != "icmp" or placement == "inline"
    ]


def row(condition: Condition, *cells: str) -> str:
    family = str(condition.family or "")
    return "| " + " | ".join([condition.probe, family, condition.wait, condition.placement, *cells]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--link", default="lo")
    arguments = parser.parse_args()
    if arguments.pairs < 9:
        parser.error("a median of fewer than nine pairs says little")
    worst = 0.0
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder, World([arguments.link, "shm"]) as world:
        bare = build(folder)
        for condition in conditions(arguments.link):
            found, ours, theirs = ratio(bare, world, condition, arguments.pairs, arguments.count)
            judged = condition.placement == "inline"
            worst = max(worst, found) if judged else worst
            limit = f"≤ {LIMIT}" if judged else "shown"
            print(row(condition, f"{ours:.2f}", f"{theirs:.2f}", f"{found:.3f}", limit), flush=True)
        if "shm" in world.links:
            print(row(SHM, f"{floor(world, arguments.pairs, arguments.count):.2f}", "", "", "the floor"))
    print(f"\nworst judged ratio {worst:.3f}, limit {LIMIT} ({arguments.pairs} pairs of {arguments.count:,} probes)")
    return worst > LIMIT


if __name__ == "__main__":
    sys.exit(main())
