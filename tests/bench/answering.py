"""How long echo requests take to be answered, all of them: lab.sr beside scapy's sr, a part of `injecting.py`."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from capturing import spread
from packets import echo_request

import lab

COUNT, SCAPY_COUNT = 10_000, 2_000
LAB_TEMPLATE, LAB_PACKETS, SCAPY = "lab.sr of a template", "lab.sr of scapy packets", "scapy's sr"
#: Ratios of packets/s to scapy's, and the least that is demanded of them.
GOALS = {LAB_TEMPLATE: 50.0, LAB_PACKETS: 3.0}
LAYERS = {4: "ICMP", 6: "ICMPv6EchoRequest"}


class Asked(NamedTuple):
    sent: int
    answered: int
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second, from the call until all answers are at hand."""
        return self.sent / self.seconds


def a_template(family: int) -> Asked:
    return by_lab(lab.Template(echo_request(family), {f"{LAYERS[family]}.seq": range(COUNT)}))


def scapy_packets(family: int) -> Asked:
    """Which scapy turns into bytes when they are sent, by either."""
    return by_lab([echo_request(family, seq) for seq in range(COUNT)])


def by_lab(packets: Any) -> Asked:
    begun_s = time.perf_counter()
    answered, unanswered = lab.sr(packets, "lo")
    seconds = time.perf_counter() - begun_s
    return Asked(len(answered) + len(unanswered), len(answered), seconds)


def by_scapy(family: int) -> Asked:
    command = [sys.executable, str(Path(__file__).with_name("scapys.py")), "sr", str(family), str(SCAPY_COUNT)]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout)
    return Asked(said["sent"], said["answered"], said["seconds"])


CONTENDERS: dict[str, Callable[[int], Asked]] = {
    LAB_TEMPLATE: a_template,
    LAB_PACKETS: scapy_packets,
    SCAPY: by_scapy,
}


def measure(rounds: int) -> list[str]:
    """Prints a table; returns what is not as it should be, a line each."""
    lab.sr(echo_request(4), "lo")  # imports
    done: dict[tuple[int, str], list[Asked]] = defaultdict(list)
    for _ in range(rounds):
        for family in random.sample((4, 6), 2):
            for name, contender in random.sample(list(CONTENDERS.items()), len(CONTENDERS)):
                done[family, name].append(contender(family))
                print(f"IPv{family} {name}: {done[family, name][-1]}", file=sys.stderr, flush=True)
    found = [
        f"IPv{family}, {name}: not all were answered: {each}"
        for (family, name), runs in done.items()
        for each in runs
        if name != SCAPY and not COUNT == each.sent == each.answered
    ]
    print("\n| echo requests answered | IP | /s | ÷ scapy's sr | demanded |\n|---|---|---|---|---|")
    for family in (4, 6):
        for name in CONTENDERS:
            runs = done[family, name]
            ratios = [ours.rate / theirs.rate for ours, theirs in zip(runs, done[family, SCAPY], strict=True)]
            cells = [name, str(family), spread([each.rate for each in runs], ",.0f")]
            cells += ["", ""] if name == SCAPY else [spread(ratios, ".3g"), f"≥ {GOALS[name]:g}"]
            print("| " + " | ".join(cells) + " |")
            if name != SCAPY and statistics.median(ratios) < GOALS[name]:
                found.append(f"IPv{family}: {name} ÷ {SCAPY}: {statistics.median(ratios):.3g}, not {GOALS[name]:g}")
    return found
