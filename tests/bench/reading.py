"""How fast capture files become columns, beside tshark and scapy.

    python tests/bench/reading.py [--frames 5000000] [--repeats 5]

A pcapng file of UDP frames with 64 bytes of data, half of them over IPv6, in the page cache. The columns are those that
tshark is asked to print. tshark and scapy read the first frames of it only, long enough for their start not to count;
all read in turns, and a ratio is the median of its turns. `all` and `verified` are every column there is, and with
checksums, into memory that is used again, as files larger than memory are read. Exit 1 if a limit is missed. Needs
tshark.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scapy import all as scapy

from lab.taps.frames import FRAME, FrameFile

#: Our columns, and tshark's fields that hold the same.
COLUMNS = (
    "time_ns", "length", "has", "family", "source", "destination", "protocol", "ttl", "source_port", "destination_port",
    "payload_length",
)  # fmt: skip
FIELDS = (
    "frame.time_epoch", "frame.len", "ip.src", "ip.dst", "ip.proto", "ip.ttl", "ipv6.src", "ipv6.dst", "ipv6.nxt",
    "ipv6.hlim", "udp.srcport", "udp.dstport", "udp.length",
)  # fmt: skip
EVERY = tuple(name for name in FRAME.names or () if name not in ("reserved", "checksum"))
TSHARK_FRAMES, SCAPY_FRAMES = 200_000, 10_000
MIN_RATE, MIN_TSHARK, MIN_SCAPY = 5e6, 100, 1000
START_NS = 1_795_405_850_789_045_123


def block(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)


def packet_block(data: bytes) -> np.void:
    """An enhanced packet block, whose time is still to be set, with the flags of a frame that came in."""
    head = struct.pack("<5I", 0, 0, 0, len(data), len(data))
    options = struct.pack("<HHIHH", 2, 4, 1, 0, 0)
    made = block(6, head + data + bytes(-len(data) % 4) + options)
    layout = np.dtype([("head", "V12"), ("high", "<u4"), ("low", "<u4"), ("rest", f"V{len(made) - 20}")])
    return np.frombuffer(made, layout)[0]


def write(path: Path, frames: int) -> Path:
    """Pairs of an IPv4 and an IPv6 frame, a microsecond apart."""
    udp = scapy.UDP(sport=40000, dport=9) / bytes(64)
    networks = (scapy.IP(src="127.0.0.1", dst="127.0.0.1"), scapy.IPv6(src="::1", dst="::1"))
    made = [packet_block(bytes(scapy.Ether(src="0:0:0:0:0:0", dst="0:0:0:0:0:0") / ip / udp)) for ip in networks]
    resolution = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    with path.open("wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack("<HHI", 1, 0, 262_144) + resolution))
        pairs = np.zeros(10_000, [("four", made[0].dtype), ("six", made[1].dtype)])
        pairs["four"], pairs["six"] = made
        for first in range(0, frames, 2 * len(pairs)):
            numbers = np.arange(first, min(first + 2 * len(pairs), frames), 2)
            some = pairs[: len(numbers)]
            for offset, name in enumerate(("four", "six")):
                times_ns = START_NS + 1000 * (numbers + offset)
                some[name]["high"], some[name]["low"] = times_ns >> 32, times_ns & 0xFFFFFFFF
            some.tofile(file)
    return path


def by_columns(path: Path) -> int:
    with FrameFile(path) as file:
        return len(file.columns(*COLUMNS)["time_ns"])


def by_batches(path: Path, *names: str) -> int:
    with FrameFile(path) as file:
        return sum(len(batch["time_ns"]) for batch in file.batches(*names))


def by_tshark(path: Path) -> int:
    fields = [each for field in FIELDS for each in ("-e", field)]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *fields]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        return sum(1 for _line in running.stdout)


def by_scapy(path: Path) -> int:
    return len(scapy.rdpcap(str(path)))


def rate(read: Callable[[], int], frames: int) -> float:
    """Frames a second."""
    begun_ns = time.perf_counter_ns()
    if read() != frames:
        raise SystemExit(f"not all of {frames:,} frames were read")
    return frames * 1e9 / (time.perf_counter_ns() - begun_ns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    frames = arguments.frames // 2 * 2
    with tempfile.TemporaryDirectory() as folder:
        counts = {"whole": frames, "tshark": TSHARK_FRAMES, "scapy": SCAPY_FRAMES}
        paths = {name: write(Path(folder, f"{name}.pcapng"), count) for name, count in counts.items()}
        readers: dict[str, tuple[Callable[[], int], int]] = {
            "columns": (lambda: by_columns(paths["whole"]), frames),
            "batches": (lambda: by_batches(paths["whole"], *COLUMNS), frames),
            "all": (lambda: by_batches(paths["whole"], *EVERY), frames),
            "verified": (lambda: by_batches(paths["whole"], *EVERY, "checksum"), frames),
            "tshark": (lambda: by_tshark(paths["tshark"]), TSHARK_FRAMES),
            "rdpcap": (lambda: by_scapy(paths["scapy"]), SCAPY_FRAMES),
        }
        turns = [{name: rate(*reader) for name, reader in readers.items()} for _ in range(arguments.repeats)]
    rows = [(name, statistics.median(turn[name] for turn in turns)) for name in readers]
    print("| | frames/s | columns are so many times as fast |\n|---|---|---|")
    for name, median in rows:
        print(f"| {name} | {median:,.0f} | {statistics.median(t['columns'] / t[name] for t in turns):,.2f} |")
    times = {name: statistics.median(turn["columns"] / turn[name] for turn in turns) for name in ("tshark", "rdpcap")}
    return int(dict(rows)["columns"] < MIN_RATE or times["tshark"] < MIN_TSHARK or times["rdpcap"] < MIN_SCAPY)


if __name__ == "__main__":
    sys.exit(main())
