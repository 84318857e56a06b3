"""Capture of a flood on lo: the lab beside tcpdump, dumpcap and scapy.

    python tests/bench/capturing.py [--seconds 10] [--rounds 3] [--folder .] [--only "4 64 1"]

In a network namespace of its own, `flood.c` sends UDP frames through lo as fast as this machine delivers them, from a
thread on one CPU or on two; the capturer gets what they leave it of these CPUs. In every round each capturer meets each
flood once, in an order drawn anew; a ratio is of two figures of one round, and the median of the rounds is judged.

delivered: by lo's own counters. lost: what was delivered, and is not in the file, which the lab's reader counts; of
both copies twice as much. CPU: of all threads of the capturer, from before the flood until it sleeps again. What the
kernel does for each tap when a frame passes is charged to the sender, and what it does later to bring written pages to
the disk, to nobody; the lab writes past these. memory: the most that the process had; the rings are a part of it.

Exit 1 if the lab lost a frame or left copies unlinked, if it kept fewer a second than tcpdump or dumpcap, if a frame
took more than 1.1 times tcpdump's CPU time, or if its memory grew with the length of the capture. Needs root, two CPUs,
a C compiler, and room for a capture in the folder: 15 GB for 10 seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lab.taps.frames import FrameFile
from lab.world import kernel

HERE = Path(__file__).resolve().parent
#: The lab's rings hold as much: 64 MiB a CPU.
LARGE_MIB = 64 * (os.cpu_count() or 1)
MAX_CPU, MIN_RATE = 1.1, 1.0
#: What the lab's process may have at most, and by how much it may grow: rings, pieces to be written, and Python.
MAX_MIB, MAX_GROWTH_MIB = 2 * LARGE_MIB + 64, 8
READY_S, IDLE_S, LIMIT_S = 30.0, 1.2, 120.0  # tcpdump gets its last frames from the kernel after a second


class Flood(NamedTuple):
    family: int
    size: int  # bytes of a frame
    senders: int

    def run(self, program: Path, seconds: float) -> tuple[int, int, float]:
        """Frames sent, frames delivered, and seconds."""
        cpus = sorted(os.sched_getaffinity(0))[: self.senders]
        command = [str(word) for word in (program, self.family, self.size, seconds, *cpus)]
        before = delivered()
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + LIMIT_S).stdout
        sent, took_s = said.split()
        return int(sent), delivered() - before, float(took_s)


FLOODS = [Flood(family, size, senders) for size in (64, 1400) for family in (4, 6) for senders in (1, 2)]


@dataclass(frozen=True)
class Capturer:
    """How one is run. ready: what it prints once it captures. copies: of each packet that it keeps."""

    name: str
    command: tuple[str, ...]
    ready: str
    copies: int = 1
    keeps_file: bool = True


PYTHON = (sys.executable, str(HERE / "takers.py"))
TCPDUMP, DUMPCAP = (("tcpdump", "-n", "-i", "lo", "-Z", "root", "-w", "{}"), ("dumpcap", "-q", "-i", "lo", "-w", "{}"))
CAPTURERS = [
    Capturer("lab", (*PYTHON, "lab", "{}"), "began"),
    Capturer("lab, both copies", (*PYTHON, "lab-both", "{}"), "began", copies=2),
    Capturer("tcpdump", TCPDUMP, "listening on"),
    Capturer(f"tcpdump -B {LARGE_MIB} MiB", (*TCPDUMP, "-B", str(LARGE_MIB * 1024)), "listening on"),
    Capturer("dumpcap", DUMPCAP, "File: "),
    Capturer(f"dumpcap -B {LARGE_MIB} MiB", (*DUMPCAP, "-B", str(LARGE_MIB)), "File: "),
    Capturer("scapy AsyncSniffer", (*PYTHON, "scapy", "{}"), "began", keeps_file=False),
]
RIVALS = [capturer.name for capturer in CAPTURERS[2:6]]


# ---- what the kernel tells ----


def delivered() -> int:
    """Frames that lo has received."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return int(next(line for line in lines if line.lstrip().startswith("lo:")).partition(":")[2].split()[1])


def cpu_ns(pid: int) -> int:
    """CPU time of all threads that a process has."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def memory_mib(pid: int, what: str) -> float:
    """VmRSS, or VmHWM, the most that it ever was."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


# ---- one capture of one flood ----


@dataclass(frozen=True)
class Taken:
    """What came of it. expected: the frames that there were to keep. said: by the capturer itself."""

    sent: int
    delivered: int
    seconds: float
    expected: int
    kept: int
    cpu_ns: int
    peak_mib: float
    growth_mib: float
    said: dict[str, Any]

    @property
    def lost(self) -> int:
        return self.expected - self.kept

    @property
    def whole(self) -> bool:
        """Of the lab: whether nothing was lost, as it says too, and where there are two copies all are linked."""
        packets = self.expected - self.delivered  # of which it had two
        return not self.lost and self.said["lossless"] and self.said["linked"] == packets and not self.said["unlinked"]

    @property
    def rate(self) -> float:
        """Frames kept a second."""
        return self.kept / self.seconds

    @property
    def cpu_per_frame_ns(self) -> float:
        return self.cpu_ns / max(1, self.kept)


@contextlib.contextmanager
def running(capturer: Capturer, path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """From when it captures."""
    command = [word.format(path) for word in capturer.command]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            deadline_s = time.monotonic() + READY_S
            while capturer.ready not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit(f"{command} did not begin:\n{log.read_text()}")
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def wait_until_idle(pid: int) -> None:
    """Until it has taken all that it was late with."""
    deadline_s = time.monotonic() + LIMIT_S
    before = -1
    while (now := cpu_ns(pid)) - before > 0.02e9 * IDLE_S:
        if time.monotonic() > deadline_s:
            raise SystemExit("a capturer was still at work long after the flood")
        before = now
        time.sleep(IDLE_S)


def take(capturer: Capturer, flood: Flood, program: Path, seconds: float, folder: Path) -> Taken:
    path, log = folder / "taken", folder / "log"
    try:
        with running(capturer, path, log) as process:
            cpu_before, memory_before = cpu_ns(process.pid), memory_mib(process.pid, "VmRSS")
            sent, came, took_s = flood.run(program, seconds)
            wait_until_idle(process.pid)
            cpu, peak = cpu_ns(process.pid) - cpu_before, memory_mib(process.pid, "VmHWM")
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT_S)
        last = log.read_text().splitlines()[-1]
        said = json.loads(last) if last.startswith("{") else {}
        kept = count(path) if capturer.keeps_file else said["frames"]
    finally:
        path.unlink(missing_ok=True)
    expected = came if capturer.copies == 1 else sent + came
    return Taken(sent, came, took_s, expected, kept, cpu, peak, peak - memory_before, said)


def count(path: Path) -> int:
    with FrameFile(path) as frames:
        found = sum(len(batch["length"]) for batch in frames.batches("length"))
        if frames.fault:
            raise SystemExit(f"{path}: {frames.fault}")
    return found


# ---- all of them ----


Round = dict[tuple[Flood, str], Taken]


def one_round(floods: list[Flood], program: Path, seconds: float, folder: Path) -> Round:
    found: Round = {}
    for flood in random.sample(floods, len(floods)):
        for capturer in random.sample(CAPTURERS, len(CAPTURERS)):
            if not shutil.which(capturer.command[0]):
                continue
            found[flood, capturer.name] = taken = take(capturer, flood, program, seconds, folder)
            print(f"{flood} {capturer.name}: {taken}", file=sys.stderr, flush=True)
    return found


def spread(values: list[float], form: str) -> str:
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} ({min(values):{form}}…{max(values):{form}})"


HEADER = """\
| IP | bytes | senders | capturer | delivered/s | lost of a thousand | kept/s | CPU, ns a frame | memory, MiB | \
kept/s, lab ÷ it | CPU a frame, lab ÷ it |
|---|---|---|---|---|---|---|---|---|---|---|"""


def table(rounds: list[Round]) -> None:
    print(HEADER)
    names = [capturer.name for capturer in CAPTURERS]
    for flood, name in sorted(rounds[0], key=lambda key: (key[0].size, key[0], names.index(key[1]))):
        taken = [found[flood, name] for found in rounds]
        ours = [found[flood, "lab"] for found in rounds]
        rates = [a.rate / b.rate for a, b in zip(ours, taken, strict=True) if b.kept]
        costs = [a.cpu_per_frame_ns / b.cpu_per_frame_ns for a, b in zip(ours, taken, strict=True)]
        cells = [
            str(flood.family), f"{flood.size:,}", str(flood.senders), name,
            f"{statistics.median(each.delivered / each.seconds for each in taken):,.0f}",
            spread([1000 * each.lost / each.expected for each in taken], ".3g"),
            f"{statistics.median(each.rate for each in taken):,.0f}",
            spread([each.cpu_per_frame_ns for each in taken], ",.0f"),
            f"{max(each.peak_mib for each in taken):.0f}",
            "" if name.startswith("lab") else spread(rates, ",.3g"),
            "" if name.startswith("lab") else spread(costs, ".3g"),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


def faults(rounds: list[Round]) -> list[str]:
    """What is not as it should be, a line each."""
    found = []
    for flood in dict.fromkeys(flood for flood, _name in rounds[0]):
        for name in ("lab", "lab, both copies"):
            taken = [each[flood, name] for each in rounds]
            found += [f"{flood}, {name}: {t.lost:,} lost, {t.said}" for t in taken if not t.whole]
            memory = [(t.peak_mib, t.growth_mib) for t in taken]
            if any(peak > MAX_MIB or growth > MAX_GROWTH_MIB for peak, growth in memory):
                found.append(f"{flood}, {name}: its memory, most and growth, MiB: {memory}")
        for rival in RIVALS:
            pairs = [(each[flood, "lab"], each[flood, rival]) for each in rounds if (flood, rival) in each]
            if pairs and (ratio := statistics.median(a.rate / b.rate for a, b in pairs)) < MIN_RATE:
                found.append(f"{flood}: kept a second, lab ÷ {rival}: {ratio:.3f}")
            ratio = statistics.median(a.cpu_per_frame_ns / b.cpu_per_frame_ns for a, b in pairs) if pairs else 0
            if rival.startswith("tcpdump") and ratio > MAX_CPU:
                found.append(f"{flood}: CPU a frame, lab ÷ {rival}: {ratio:.3f}")
    return found


def build(folder: Path) -> Path:
    program = folder / "flood"
    command = ["cc", "-O3", "-D_GNU_SOURCE", "-pthread", HERE / "flood.c", "-o", program]
    subprocess.run(command, check=True)
    return program


def enter_namespace() -> None:
    """One of our own, where IPv4 frames that are put on lo go further than the taps."""
    kernel.unshare(kernel.CLONE_NEWNET)
    kernel.link_up("lo")
    for name in ("route_localnet", "accept_local"):
        Path(f"/proc/sys/net/ipv4/conf/lo/{name}").write_text("1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk that is to be written")
    parser.add_argument("--only", action="append", help='floods: "family bytes senders"')
    arguments = parser.parse_args()
    if os.geteuid() or len(os.sched_getaffinity(0)) < 2:
        parser.error("tcpdump gives up rights that only root has, and two senders need a CPU each")
    floods = [Flood(*map(int, each.split())) for each in arguments.only or ()] or FLOODS
    enter_namespace()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        program = build(Path(name))
        rounds = [one_round(floods, program, arguments.seconds, Path(name)) for _ in range(arguments.rounds)]
    table(rounds)
    print(f"\nRounds of {arguments.seconds:g} s: {arguments.rounds}.")
    found = faults(rounds)
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
