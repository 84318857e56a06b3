"""The lab's loop beside sockperf, qperf, icmplib and scapy: the same CPUs, wait mode and payload, in one private world.

    python tests/bench/peers.py [--rounds 7] [--probe udp --probe tcp --probe icmp]

Each round measures everything once, for about as long, in an order drawn anew; a ratio is of two figures of the same
round, and what is judged is the median of the rounds' ratios. The figure is the peer's own: sockperf's p50 against the
lab's p50, qperf's mean against the lab's mean. Exit 1 if a ratio exceeds its limit. Prints a Markdown table. What is
not installed is said, and left out: Debian's sockperf and qperf, icmplib and scapy by pip.

What is in their windows. All have send() and recv() of both ends, and the switches between them. sockperf reads the
time stamp counter twice; its UDP sockets are unconnected. qperf reads no clock: its mean is the time of its whole loop,
warm-up and all. The lab reads the clock five times, and where it sleeps, a timer keeps a lost message from hanging it;
its ends are threads of one process, theirs are processes of their own. icmplib stamps around sendto() and recvfrom().
Of scapy's sr1() the whole call is judged, which is what its user waits for; the row below has scapy's own stamps.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rivals import SECONDS, Missing, PythonPeer, Qperf, Sockperf

from lab import Condition, World
from lab.errors import Unavailable
from lab.probes import choose_cpus, send_stream
from lab.streams import Cpus
from lab.world import open_endpoints

MODES = (("block", "same-cpu"), ("block", "cross-cpu"), ("spin", "cross-cpu"))
ICMP_COUNT, SCAPY_COUNT = 3_000, 20


class Rival(Protocol):
    name: str
    figure: str  # "p50" or "mean"
    limit: float | None  # of lab / rival; None: shown only

    def measure(self, world: World, condition: Condition, cpus: Cpus) -> float: ...


RIVALS: dict[str, tuple[Rival, ...]] = {
    "udp": (Sockperf(), Qperf()),
    "tcp": (Sockperf(), Qperf()),
    "icmp": (
        PythonPeer("icmplib", "icmplib", 0.5, ICMP_COUNT),
        PythonPeer("scapy sr1", "scapy", 0.02, SCAPY_COUNT),
        PythonPeer("scapy sr1, its stamps", "scapy", None, SCAPY_COUNT),
    ),
}


def conditions(probes: list[str]) -> list[Condition]:
    return [
        Condition(probe=probe, family=family, wait=wait, placement=placement)
        for probe in probes
        for wait, placement in (MODES if probe != "icmp" else (("block", "inline"),))
        for family in (4, 6)
    ]


# ---- one round ----


class Lab:
    """The lab's own streams, each about as long as a run of the others."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counts: dict[Condition, int] = {}

    def measure(self, condition: Condition, cpus: Cpus) -> dict[str, float]:
        """p50 and mean of one stream, ns."""
        with open_endpoints(self._world, condition) as ends:
            if condition not in self._counts:
                pilot = send_stream(condition, ends, count=1_000, cpus=cpus)
                # Of its second, sockperf leaves out the first 400 ms and the last 50.
                self._counts[condition] = max(1_000, round(SECONDS * 0.6e9 / float(np.mean(pilot.rtt_ns))))
            count = self._counts[condition]
            stream = send_stream(condition, ends, count=count, warmup=count // 10, cpus=cpus)
        return {"p50": float(np.median(stream.rtt_ns)), "mean": float(np.mean(stream.rtt_ns))}


def plain(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio >= 0.1 else f"{ratio:.2g}"


@dataclass
class Row:
    """One rival under one condition: figures in ns, one of each a round."""

    condition: Condition
    rival: Rival
    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def over(self) -> bool:
        return self.rival.limit is not None and statistics.median(self.ratios) > self.rival.limit

    def __str__(self) -> str:
        c, ratios, limit = self.condition, self.ratios, self.rival.limit
        mode = f"{c.wait}, {c.placement}"
        ours, theirs = (f"{statistics.median(values) / 1000:.2f}" for values in (self.ours, self.theirs))
        spread = f"{plain(min(ratios))}…{plain(max(ratios))}"
        judged = "shown" if limit is None else f"≤ {limit:g}"
        cells = [c.probe, str(c.family), mode, self.rival.name, self.rival.figure, ours, theirs]
        return "| " + " | ".join([*cells, plain(statistics.median(ratios)), spread, judged]) + " |"


HEADER = """\
| probe | IP | wait, placement | peer | figure | lab, µs | peer, µs | lab / peer | least…greatest | limit |
|---|---|---|---|---|---|---|---|---|---|"""


class Bench:
    def __init__(self, world: World, probes: list[str], seed: int) -> None:
        self._world, self._lab, self._random = world, Lab(world), random.Random(seed)
        self._plan = conditions(probes)
        self.rows: dict[tuple[Condition, str], Row] = {}
        self.missing: dict[tuple[str, str], list[Condition]] = defaultdict(list)

    def round(self) -> None:
        for condition in self._random.sample(self._plan, len(self._plan)):
            try:
                cpus = choose_cpus(condition)
            except Unavailable as error:
                self._leave_out(condition, "lab", str(error))
                continue
            rivals = [rival for rival in RIVALS[condition.probe] if not self._left_out(condition, rival)]
            if rivals:
                self._measure(condition, cpus, rivals)

    def _measure(self, condition: Condition, cpus: Cpus, rivals: list[Rival]) -> None:
        ours: dict[str, float] = {}
        theirs: list[tuple[Rival, float]] = []
        for who in self._random.sample([None, *rivals], len(rivals) + 1):
            if who is None:
                ours = self._lab.measure(condition, cpus)
                continue
            try:
                theirs.append((who, who.measure(self._world, condition, cpus)))
            except Missing as missing:
                self._leave_out(condition, who.name, str(missing))
        for rival, figure in theirs:
            row = self.rows.setdefault((condition, rival.name), Row(condition, rival, [], []))
            row.ours.append(ours[rival.figure])
            row.theirs.append(figure)

    def _leave_out(self, condition: Condition, name: str, why: str) -> None:
        if condition not in self.missing[name, why]:
            self.missing[name, why].append(condition)

    def _left_out(self, condition: Condition, rival: Rival) -> bool:
        return any(condition in found for (name, _why), found in self.missing.items() if name == rival.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--probe", action="append", choices=list(RIVALS))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with World(["lo"]) as world:
        bench = Bench(world, arguments.probe or list(RIVALS), arguments.seed)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
            bench.round()
    print(HEADER)
    rows = [row for _key, row in sorted(bench.rows.items(), key=lambda item: str(item[1]))]
    for row in rows:
        print(row)
    print()
    for (name, why), found in bench.missing.items():
        print(f"not measured: {name}, {len(found)} conditions: {why}")
    over = [row for row in rows if row.over]
    print(f"{len(over)} of {len(rows)} ratios over their limits (medians of {arguments.rounds} rounds)")
    return 1 if over or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
