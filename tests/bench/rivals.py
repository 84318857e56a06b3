"""The programs that `peers.py` measures beside the lab: how each is run, and which of its figures is read.

Each runs in the same private world, pinned to the CPUs that the lab uses there, with the same payload. All figures are
round trips in ns. A program that is not installed, or can't measure what it is asked for, is ``Missing``; one that
fails at what it can do ends the bench.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab import Condition, World
from lab.streams import Cpus

ADDRESSES = {4: "127.0.0.1", 6: "::1"}
PORTS = itertools.count(20_000)  # a new one each time: connections to the last one linger in TIME_WAIT
SECONDS = 1  # of a run; the shortest that both sockperf and qperf know
READY_S, LIMIT_S, TRIES = 10.0, 60.0, 3
NS = {"ns": 1, "us": 1_000, "ms": 1_000_000}
PYTHON_PEERS = Path(__file__).with_name("echoes.py")


class Missing(Exception):  # noqa: N818
    """This rival can't be had, or not for this condition; says why."""


def pinned(cpu: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(cpu), *command]


def listens(world: World, transport: str, port: int) -> bool:
    """Whether somebody in the world's namespace has bound the port (and, for TCP, listens: state 0A)."""
    for table in (transport, f"{transport}6"):
        for line in Path(f"/proc/{world.pid}/net/{table}").read_text().splitlines()[1:]:
            _number, local, _remote, state, *_rest = line.split()
            if local.endswith(f":{port:04X}") and (transport == "udp" or state == "0A"):
                return True
    return False


@contextlib.contextmanager
def server(world: World, transport: str, port: int, command: list[str]) -> Iterator[None]:
    """Runs a server, from when it listens on its port. Missing if it knows no such address; else it must listen."""
    with world.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            deadline = time.monotonic() + READY_S
            while not listens(world, transport, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    said, _none = process.communicate()
                    if "Invalid address" in said:
                        raise Missing("knows no IPv6")
                    raise SystemExit(f"{command} did not listen:\n{said}")
                time.sleep(0.01)
            yield
        finally:
            process.kill()


def output(world: World, command: list[str]) -> str:
    """What a client prints. Ends the bench if it fails."""
    with world.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said, _none = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{said}")
    return str(said)


def number(pattern: str, said: str) -> re.Match[str]:
    found = re.search(pattern, said)
    if found is None:
        raise SystemExit(f"nothing like {pattern!r} in:\n{said}")
    return found


# ---- C programs: two processes, which is a pair of ends on one CPU or on two ----


class Sockperf:
    """`sockperf pp --full-rtt`, its p50. Blocked in recvfrom(), or with --nonblocked asking it again and again."""

    name, figure, limit = "sockperf pp", "p50", 1.02

    def measure(self, world: World, condition: Condition, cpus: Cpus) -> float:
        if not shutil.which("sockperf"):
            raise Missing("not installed")
        if cpus.far is None:
            raise Missing("it has two ends")
        port = next(PORTS)
        options = ["-i", ADDRESSES[condition.family or 4], "-p", str(port)]
        options += ["--tcp"] if condition.probe == "tcp" else []
        options += ["--nonblocked"] if condition.wait == "spin" else []
        asked = ["--full-rtt", "-m", str(condition.size), "-t", str(SECONDS)]
        with server(world, condition.probe, port, pinned(cpus.far, "sockperf", "sr", *options)):
            for _ in range(TRIES):
                said = output(world, pinned(cpus.near, "sockperf", "pp", *options, *asked))
                if "No valid observations" not in said:  # as when a process got no CPU for long
                    break
        return float(number(r"percentile 50\.000 =\s*([\d.]+)", said)[1]) * NS["us"]


class Qperf:
    """`qperf tcp_lat`, `udp_lat`: its mean, which is of one way: half of the time that a message and its reply take."""

    name, figure, limit = "qperf", "mean", 1.02

    def measure(self, world: World, condition: Condition, cpus: Cpus) -> float:
        if not shutil.which("qperf"):
            raise Missing("not installed")
        if condition.wait != "block" or cpus.far is None:
            raise Missing("it has two ends, and they block")
        port, test = next(PORTS), f"{condition.probe}_lat"
        listen = ["-lp", str(port)]
        asked = ["-t", str(SECONDS), "-m", str(condition.size), "--precision", "6"]
        with server(world, "tcp", port, pinned(cpus.far, "qperf", *listen)):
            said = output(world, pinned(cpus.near, "qperf", *listen, *asked, ADDRESSES[condition.family or 4], test))
        found = number(r"latency\s*=\s*([\d.]+) (\w+)", said)
        return 2 * float(found[1]) * NS[found[2]]


# ---- Python packages: the kernel replies ----


class PythonPeer:
    """A package that `echoes.py` measures, in a process of its own inside the world."""

    figure = "p50"

    def __init__(self, name: str, package: str, limit: float | None, count: int) -> None:
        self.name, self.package, self.limit, self.count = name, package, limit, count

    def measure(self, world: World, condition: Condition, cpus: Cpus) -> float:
        if importlib.util.find_spec(self.package) is None:
            raise Missing("not installed")
        if world.rights != "root":
            raise Missing("it opens raw sockets, which a program inside a world may do for root alone")
        address, size = ADDRESSES[condition.family or 4], str(condition.size)
        command = [sys.executable, str(PYTHON_PEERS), self.name, address, size, str(self.count)]
        return statistics.median(json.loads(output(world, pinned(cpus.near, *command)).splitlines()[-1]))
