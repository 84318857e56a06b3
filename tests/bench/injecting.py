"""Injection on lo: the lab beside tcpreplay, a bare sendmmsg loop and scapy; its pacing; and its answers.

    python tests/bench/injecting.py [--seconds 1] [--rounds 5] [--only speed|pacing|answers]

In a network namespace of its own, whose lo delivers IPv4 frames as well. In every round each contender meets each task
once, in an order drawn anew; a ratio is of two figures of one round, and the median of the rounds is judged.

speed: UDP frames of 64 bytes, the same for all, as fast as they go; by each sender's own clock, from its first call to
its last. As many as take the fastest of one thread some --seconds. All of them must have been delivered, by the
counters of the socket that they are for, and by a tap: the lab's own, or for the others one just like it.

pacing: 10,000 packets/s for ten seconds, beside loops in C that do nothing but sleep, and but read the clock, at the
same times, which tells how free the CPU was; some 40 s a round, of which the quietest is judged. A capture tells
whether packets drift.

answers: echo requests, from the call until the answers are at hand.

Exit 1 if a ratio or the pacing is not as demanded, or if a packet or an answer was lost. Needs root, and a C compiler;
tcpreplay is skipped if it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import answering
import pacing
from capturing import enter_namespace, spread
from packets import datagram, frame
from receiving import Listener, Tap
from scapy.utils import wrpcap

import lab

HERE = Path(__file__).resolve().parent
FLOWS, FRAMES = 64, 6_400  # of the file
FAST, SLOW = 400_000, 3_000  # packets that C and scapy send in a second, about


class Sent(NamedTuple):
    """By its own account. tapped: those that came in, if it has a tap of its own."""

    sent: int
    seconds: float
    tapped: int | None = None


@dataclass(frozen=True)
class Inputs:
    """What all contenders send. file: the frames of FLOWS flows, FRAMES in all; sender: the program in C."""

    family: int
    seconds: float
    file: Path
    sender: Path

    @property
    def turns(self) -> int:
        """How often the file is sent."""
        return max(1, round(self.seconds * FAST / FRAMES))

    @property
    def count(self) -> int:
        return self.turns * FRAMES


# ---- contenders ----


def by_lab(packets: Any, **options: Any) -> Sent:
    done = lab.inject(packets, "lo", **options)
    return Sent(done.sent, done.duration_ns / 1e9, done.delivered)


def the_file(inputs: Inputs) -> Sent:
    return by_lab(inputs.file, loop=inputs.turns)


def the_file_on_two_threads(inputs: Inputs) -> Sent:
    return by_lab(inputs.file, loop=inputs.turns, threads=2)


def one_frame(inputs: Inputs) -> Sent:
    return by_lab(frame(inputs.family), loop=inputs.count)


def varying(inputs: Inputs) -> Sent:
    numbers = {4: {"IP.id": "counter", "payload[0:8]": "counter"}, 6: {"IPv6.fl": "counter", "payload[0:2]": "counter"}}
    template = lab.Template(frame(inputs.family), {"UDP.sport": range(1024, 65536), **numbers[inputs.family]})
    return by_lab(template, count=inputs.count)


def one_packet(inputs: Inputs) -> Sent:
    return by_lab(datagram(inputs.family), loop=inputs.count, path="l3")


def by_tcpreplay(inputs: Inputs) -> Sent:
    """As fast as it can: without reading the file while it sends, and without counting flows.

    From a second on it prints its time in hundredths; its rate is exact.
    """
    options = ["--topspeed", "--preload-pcap", "--no-flow-stats", "--quiet", f"--loop={inputs.turns}"]
    said = output(["tcpreplay", *options, "--intf1=lo", str(inputs.file)])
    found = re.search(r"Actual: (\d+) packets .*\nRated: .* ([\d.]+) pps", said)
    if found is None:
        raise SystemExit(f"tcpreplay said:\n{said}")
    return Sent(int(found[1]), int(found[1]) / float(found[2]))


def by_bare_loop(inputs: Inputs) -> Sent:
    packet = bytes(datagram(inputs.family))
    sent, seconds = output([str(inputs.sender), str(inputs.family), str(inputs.count)], input=packet).split()
    return Sent(int(sent), float(seconds))


def by_scapy(inputs: Inputs) -> Sent:
    count = max(1, round(inputs.seconds * SLOW))
    said = json.loads(output([sys.executable, str(HERE / "scapys.py"), "send", str(inputs.family), str(count)]))
    return Sent(said["sent"], said["seconds"])


def output(command: list[str], **options: Any) -> str:
    """What a program prints. Ends the bench if it fails."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=120, **options)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout.decode()}{done.stderr.decode()}")
    return str(done.stdout.decode())


Contender = Callable[[Inputs], Sent]
#: The lab brings a tap of its own.
LAB: dict[str, Contender] = {
    "lab": the_file,
    "lab, 2 threads": the_file_on_two_threads,
    "lab, one frame": one_frame,
    "lab, template": varying,
    "lab, layer 3": one_packet,
}
OTHERS: dict[str, Contender] = {
    "tcpreplay --topspeed": by_tcpreplay,
    "sendmmsg, layer 3": by_bare_loop,
    "scapy send()": by_scapy,
}
CONTENDERS = LAB | OTHERS
#: Ratios of packets/s, and the least that is demanded of them.
GOALS = [
    ("lab", "tcpreplay --topspeed", 1.2),
    ("lab, 2 threads", "tcpreplay --topspeed", 2.2),
    ("lab, template", "lab, one frame", 0.9),
    ("lab, layer 3", "sendmmsg, layer 3", 0.97),
    ("lab, layer 3", "scapy send()", 60.0),
]


# ---- speed ----


class Run(NamedTuple):
    """One contender's. received: by the socket's counters; tapped: by the tap."""

    sent: int
    seconds: float
    received: int
    tapped: int | None

    @property
    def rate(self) -> float:
        """Packets delivered a second."""
        return self.received / self.seconds


def run(name: str, inputs: Inputs) -> Run:
    with Listener(inputs.family) as listener:
        if name in LAB:
            sent, seconds, tapped = LAB[name](inputs)
        else:
            with Tap(inputs.family) as tap:
                sent, seconds, _none = OTHERS[name](inputs)
                tapped = tap.delivered()
        return Run(sent, seconds, listener.delivered(), tapped)


Round = dict[tuple[int, str], Run]


def one_round(both: dict[int, Inputs]) -> Round:
    found: Round = {}
    for family, inputs in random.sample(list(both.items()), len(both)):
        for name in random.sample(list(CONTENDERS), len(CONTENDERS)):
            if CONTENDERS[name] is by_tcpreplay and not shutil.which("tcpreplay"):
                continue
            found[family, name] = run(name, inputs)
            print(f"IPv{family} {name}: {found[family, name]}", file=sys.stderr, flush=True)
    return found


def ratios(rounds: list[Round], family: int, one: str, other: str) -> list[float]:
    """Of a pair, in each round; none if there is no such contender."""
    return [each[family, one].rate / each[family, other].rate for each in rounds if (family, other) in each]


def table(rounds: list[Round]) -> None:
    print("| packets | IPv4, /s | IPv6, /s |\n|---|---|---|")
    for name in CONTENDERS:
        rates = [[each[family, name].rate for each in rounds if (family, name) in each] for family in (4, 6)]
        cells = [spread(values, ",.0f") if values else "not installed" for values in rates]
        print("| " + " | ".join([name, *cells]) + " |")
    print("\n| ratio of packets/s | IPv4 | IPv6 | demanded |\n|---|---|---|---|")
    for one, other, least in GOALS:
        found = [ratios(rounds, family, one, other) for family in (4, 6)]
        cells = [spread(values, ".3g") if values else "" for values in found]
        print("| " + " | ".join([f"{one} ÷ {other}", *cells, f"≥ {least:g}"]) + " |")


def faults(rounds: list[Round]) -> list[str]:
    """What is not as it should be, a line each."""
    found = [
        f"IPv{family}, {name}: not all that was sent was delivered: {each}"
        for found in rounds
        for (family, name), each in found.items()
        if not each.sent == each.received == each.tapped
    ]
    for one, other, least in GOALS:
        for family in (4, 6):
            values = ratios(rounds, family, one, other)
            if values and statistics.median(values) < least:
                found.append(f"IPv{family}: {one} ÷ {other}: {statistics.median(values):.3g}, not {least:g}")
    return found


def speed(rounds: int, seconds: float, folder: Path) -> list[str]:
    sender, both = build("sender", folder), {}
    for family in (4, 6):
        path = folder / f"{family}.pcap"
        wrpcap(str(path), [frame(family, flow) for flow in range(FLOWS)] * (FRAMES // FLOWS))
        both[family] = Inputs(family, seconds, path, sender)
    done = [one_round(both) for _ in range(rounds)]
    table(done)
    return faults(done)


# ---- all of it ----


def build(name: str, folder: Path) -> Path:
    """A program in C, of the file of that name."""
    program = folder / name
    subprocess.run(["cc", "-O3", "-Wall", "-Wextra", "-D_GNU_SOURCE", HERE / f"{name}.c", "-o", program], check=True)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="of each run of the first part, about")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=("speed", "pacing", "answers"))
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("run it as root: tcpreplay and scapy take sockets of their own")
    parts = arguments.only or ("speed", "pacing", "answers")
    found = []
    enter_namespace()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "speed" in parts:
            found += speed(arguments.rounds, arguments.seconds, folder)
        if "pacing" in parts:
            found += pacing.measure(arguments.rounds, build("waker", folder))
        if "answers" in parts:
            found += answering.measure(arguments.rounds)
    print(f"\nRounds: {arguments.rounds}.", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
