"""What the wire adds to a round trip, what it can carry, and how exactly it delays.

    python tests/bench/wire.py [--rounds 9] [--count 4000] [--frames 200000] [--delays 200]

In network namespaces of its own: near and far are joined by a veth pair, and by two more whose middle ends the wire
joins. The ends are played by one thread, on the last CPU; the wire runs on the one before. In every round each figure
is taken once, in turn. What is judged is the median over rounds, and the greatest of the rates, as other work on the
machine only takes from them. Exit 1 if a limit is missed. Needs two CPUs and a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pyroute2 import IPRoute

from lab import Condition
from lab.errors import errno_name
from lab.native.wire import Impairment
from lab.probes import Cpus, send_stream
from lab.wire import Wire
from lab.world import Endpoints, kernel

LAUNCHER = Path(__file__).parents[1] / "launch.py"
WITHIN = "--within"  # says that the namespaces are entered already
MIN_PPS, MAX_ADDED_US, MAX_LATE_RATIO, MAX_LATE_SPUN_US = 150_000, 20.0, 1.1, 20.0
DELAY_NS, SPIN_NS = 5_000_000, 200_000
WINDOW = 384  # frames under way at most: what a receive buffer of the usual limit holds
ETH_P_ALL, EXPERIMENT = 0x0003, 0x88B5
SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_QDISC_BYPASS = 263, 23, 20
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
PLAIN, WIRED = ("198.18.1.{}", "2001:2:0:1::{}"), ("198.18.2.{}", "2001:2:0:2::{}")


# ---- the ends ----


def build(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "ends.so"
    source = Path(__file__).with_name("ends.c")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-D_GNU_SOURCE", source, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.ends_flood.restype = loaded.ends_wait.restype = ctypes.c_int64
    return loaded


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Pins, and enters namespaces, without touching the main thread."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    thread.join()
    return result[0]


def new_namespace() -> int:
    kernel.unshare(kernel.CLONE_NEWNET)
    kernel.link_up("lo")
    return kernel.namespace()


def checksums_by_software(device: str) -> None:
    """Else the wire would forward TCP and UDP whose checksums nobody has filled in."""
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(value)))


def configure(device: str, addresses: tuple[str, str], number: int) -> None:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=device)[0]
        ip.addr("add", index=index, address=addresses[0].format(number), prefixlen=24)
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address=addresses[1].format(number), prefixlen=64, flags=0x02)  # no DAD
    checksums_by_software(device)


def make_links(near: int, far: int) -> None:
    """veth between near and far; wire0 in both, whose peers are middle0 and middle1 of the current namespace."""
    with IPRoute() as ip:
        for number, end in enumerate((near, far)):
            device = f"middle{number}"
            ip.link("add", ifname=device, kind="veth", peer={"ifname": "wire0", "net_ns_fd": end})
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
            ip.link("set", index=ip.link_lookup(ifname=device)[0], state="up")
    with kernel.inside(near), IPRoute() as ip:
        ip.link("add", ifname="veth", kind="veth", peer={"ifname": "veth", "net_ns_fd": far})
    for number, end in ((1, near), (2, far)):
        with kernel.inside(end):
            configure("veth", PLAIN, number)
            configure("wire0", WIRED, number)


def packet_socket(device: str, protocol: int) -> socket.socket:
    """Protocol 0 first: bound to one device, it never sees a frame of another."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind((device, protocol))
    return made


class Bench:
    """The namespaces, the CPUs and the C ends."""

    def __init__(self, ends: ctypes.CDLL) -> None:
        self.ends = ends
        allowed = sorted(os.sched_getaffinity(0))
        self.cpu, self.wire_cpu = allowed[-1], allowed[-2]
        self.near, self.far = in_thread(new_namespace), in_thread(new_namespace)
        in_thread(make_links, self.near, self.far)

    @contextlib.contextmanager
    def wire(self, delay_ns: int = 0, **more: Any) -> Iterator[Wire]:
        sides = [packet_socket(f"middle{number}", ETH_P_ALL) for number in (0, 1)]
        impairment = Impairment(delay_ns=delay_ns, limit=10_000)
        with Wire(sides[0], sides[1], (impairment, impairment), **more) as made:
            made.pin(self.wire_cpu)
            yield made

    def pair(self, family: int, addresses: tuple[str, str]) -> Endpoints:
        """Connected UDP sockets in near and far."""
        address = addresses[family == 6]
        ends = []
        for namespace, number in ((self.near, 1), (self.far, 2)):
            with kernel.inside(namespace):
                ends.append(socket.socket(FAMILIES[family], socket.SOCK_DGRAM))
            ends[-1].bind((address.format(number), 0))
        ends[0].connect(ends[1].getsockname())
        ends[1].connect(ends[0].getsockname())
        return Endpoints(ends[0], ends[1], "udp", family, address.format(2))

    def p50_ns(self, family: int, wait: str, addresses: tuple[str, str], count: int) -> float:
        condition = Condition(link="veth", probe="udp", family=family, wait=wait, timeout_ns=10**9)
        with self.pair(family, addresses) as ends:
            stream = send_stream(condition, ends, count=count, warmup=count // 10, cpus=Cpus(self.cpu, None))
        if stream.received < count:
            raise SystemExit(f"{count - stream.received} of {count} probes were lost")
        return float(np.median(stream.rtt_ns))

    def pps(self, wait: str, frames: int) -> float:
        """Frames received a second."""
        ends = []
        for namespace in (self.near, self.far):
            with kernel.inside(namespace):
                ends.append(packet_socket("wire0", EXPERIMENT))
        took_ns = ctypes.c_int64()
        with ends[0], ends[1], self.wire(wait=wait) as wire:
            arguments = (ends[0].fileno(), ends[1].fileno(), self.cpu, ctypes.c_int64(frames), ctypes.c_int64(WINDOW))
            received = in_thread(self.ends.ends_flood, *arguments, ctypes.byref(took_ns))
            if received < 0:
                raise SystemExit(f"the flood failed: {errno_name(-received)}")
            if received < frames:
                raise SystemExit(f"{frames - received} of {frames} frames were lost: {wire.counters()}")
        return received * 1e9 / took_ns.value

    def waited_late_ns(self, count: int, spin_ns: int) -> np.ndarray:
        """How late a plain thread sees a moment: the least that the machine allows just then."""
        late = np.zeros(count, np.int64)
        times = ctypes.c_int64(count), ctypes.c_int64(DELAY_NS), ctypes.c_int64(spin_ns)
        if in_thread(self.ends.ends_wait, self.wire_cpu, *times, ctypes.c_void_p(late.ctypes.data)) < 0:
            raise SystemExit("clock_nanosleep failed")
        return late

    def left_late_ns(self, count: int, spin_ns: int) -> np.ndarray:
        """tx − due of frames that are delayed one after another, each of which arrives no earlier than it should."""
        os.sched_setaffinity(0, {self.cpu})
        with self.wire(DELAY_NS, spin_ns=spin_ns) as wire, self.pair(4, WIRED) as ends:
            assert ends.far is not None
            for _ in range(count):
                sent_ns = time.monotonic_ns()
                ends.near.send(bytes(64))
                ends.far.recv(100)
                if time.monotonic_ns() - sent_ns < DELAY_NS:
                    raise SystemExit("a frame was delayed too little")
            events = wire.events().events
        probes = events[(events["length"] == 64 + 42) & (events["tx_ns"] > 0)]
        return np.asarray(probes["tx_ns"] - probes["due_ns"])


# ---- the table ----


def p99_us(late_ns: np.ndarray) -> float:
    return float(np.percentile(late_ns, 99)) / 1000


def one_round(bench: Bench, count: int, frames: int, delays: int) -> dict[str, float]:
    """Every figure once, by the name of its row."""
    found = {f"64-byte packets a second, {wait}": bench.pps(wait, frames) for wait in ("spin", "block")}
    for family in (4, 6):
        for wait, cpu in (("spin", bench.wire_cpu), ("block", bench.wire_cpu), ("block", bench.cpu)):
            name = f"UDP p50, IPv{family}, {wait}{', same CPU' * (cpu == bench.cpu)}"
            plain = bench.p50_ns(family, wait, PLAIN, count) / 1000
            with bench.wire(wait=wait) as wire:
                wire.pin(cpu)
                found[f"{name}: added, µs"] = bench.p50_ns(family, wait, WIRED, count) / 1000 - plain
            found[f"{name}: plain veth, µs"] = plain
    slept = found["late p99, clock_nanosleep, µs"] = p99_us(bench.waited_late_ns(delays, 0))
    blocked = found["late p99, block, µs"] = p99_us(bench.left_late_ns(delays, 0))
    found["late p99, block, to clock_nanosleep"] = blocked / slept
    found["late p99, a plain thread that spins at last, µs"] = p99_us(bench.waited_late_ns(delays, SPIN_NS))
    spun = bench.left_late_ns(delays, SPIN_NS)
    found["late p50, spinning at last, µs"] = float(np.median(spun)) / 1000
    found["late p99, spinning at last, µs"] = p99_us(spun)
    return found


#: The least that a rate must reach in one round, or the greatest that a median may be.
LIMITS = {
    "64-byte packets a second, spin": (MIN_PPS, None),
    "64-byte packets a second, block": (MIN_PPS, None),
    "UDP p50, IPv4, spin: added, µs": (None, MAX_ADDED_US),
    "UDP p50, IPv6, spin: added, µs": (None, MAX_ADDED_US),
    "late p99, block, to clock_nanosleep": (None, MAX_LATE_RATIO),
    "late p99, spinning at last, µs": (None, MAX_LATE_SPUN_US),
}
#: Judged by the round that was disturbed least, as rates are. What a shared machine takes from a thread that spins is
#: in the row of the plain thread.
BY_BEST_ROUND = {"late p99, spinning at last, µs"}


def report(rounds: list[dict[str, float]]) -> bool:
    """Prints a row a figure. Returns whether every limit is kept."""
    kept = True
    print(f"{'':48} {'median':>12} {'least':>12} {'greatest':>12}")
    for name in rounds[0]:
        taken = [each[name] for each in rounds]
        least, greatest = LIMITS.get(name, (None, None))
        median = statistics.median(taken)
        judged = min(taken) if name in BY_BEST_ROUND else median
        missed = (least is not None and max(taken) < least) or (greatest is not None and judged > greatest)
        best = ", best round" if least or name in BY_BEST_ROUND else ""
        bound = f"≥ {least:,}" if least else f"≤ {greatest:,}" if greatest else "shown"
        print(f"{name:48} {median:12,.2f} {min(taken):12,.2f} {max(taken):12,.2f}  {bound}{best}{', MISSED' * missed}")
        kept &= not missed
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--delays", type=int, default=200)
    parser.add_argument(WITHIN, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.within:
        os.execv(sys.executable, [sys.executable, str(LAUNCHER), "--", sys.executable, *sys.argv, WITHIN])
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("the wire and the ends need a CPU each")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(build(folder))
        sizes = arguments.count, arguments.frames, arguments.delays
        return not report([one_round(bench, *sizes) for _ in range(arguments.rounds)])


if __name__ == "__main__":
    sys.exit(main())
