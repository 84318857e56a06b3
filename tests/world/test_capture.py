"""What a capture's file holds, for whoever reads it: every frame, both copies of it linked, and what was lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from lab.taps.frames import FrameFile

LAB = [sys.executable, "-m", "lab"]
FAMILIES = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}
IN, OUT = 1, 2
SENT_EACH, SIZE = 125_000, 22

#: Runs `lab rtt` while `lab capture` captures, with the arguments of both as JSON.
DURING = """
import json, signal, subprocess, sys
lab = [sys.executable, "-m", "lab"]
capture_words, rtt_words = map(json.loads, sys.argv[1:])
pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
with subprocess.Popen([*lab, "capture", *capture_words], stdout=nowhere, stderr=pipe, text=True) as capture:
    assert capture.stderr.readline().startswith("lab: capturing on lo")
    subprocess.run([*lab, "rtt", *rtt_words], check=True)
    capture.send_signal(signal.SIGINT)
    print(capture.communicate(timeout=60)[1], file=sys.stderr)
sys.exit(0 if capture.returncode == 130 else capture.returncode or 1)
"""

#: Sends argv[4] datagrams of argv[5] bytes from CPU argv[2] into the socket argv[1], when told to: all alike, or with
#: the numbers from argv[3] on.
SENDER = """
import os, socket, sys
fd, cpu, first, count, size, numbered = map(int, sys.argv[1:])
os.sched_setaffinity(0, {cpu})
end = socket.socket(fileno=fd)
sys.stdin.readline()
for number in range(first, first + count):
    end.send((number if numbered else 0).to_bytes(size, "big"))
"""


@pytest.fixture
def ends(world, family):
    """Two sockets of a world: what is sent from the first over its lo is for the second, which nobody reads."""
    kind, host = FAMILIES[family]
    with world.socket(kind, socket.SOCK_DGRAM) as near, world.socket(kind, socket.SOCK_DGRAM) as far:
        far.bind((host, 0))
        near.connect(far.getsockname())
        yield near, far


@pytest.fixture
def sender(ends):
    """Starts to send, pinned to a CPU: datagrams of SIZE bytes, all alike or numbered. Waits for a line first."""
    with contextlib.ExitStack() as running:

        def sender(cpu, first, count, *, size=SIZE, numbered=True):
            fd = ends[0].fileno()
            words = [str(int(word)) for word in (fd, cpu, first, count, size, numbered)]
            command = [sys.executable, "-c", SENDER, *words]
            return running.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd]))

        yield sender


def run_all(senders):
    """Has all send at once, and waits until all is sent."""
    for each in senders:
        each.stdin.close()
    assert [each.wait(120) for each in senders] == [0] * len(senders)


@pytest.fixture
def printed(tool):
    """What tshark prints of a file: a list of texts for each frame."""

    def printed(path, *fields):
        command = [tool("tshark"), "-n", "-r", path, "-T", "fields", *(f"-e{field}" for field in fields)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return [line.split("\t") for line in lines]

    return printed


def numbers(frames, rows):
    """The number at the end of each of some frames."""
    columns = frames.columns("offset", "captured")
    ends = (columns["offset"] + columns["captured"])[rows]
    return np.memmap(frames.path, np.uint8, "r")[ends[:, None] + np.arange(-4, 0)].view(">u4").ravel()


def ids_in_order(frames, direction):
    """Rows of a direction in the order of their packets' numbers, and these."""
    columns = frames.columns("direction", "packet_id")
    rows = np.flatnonzero(columns["direction"] == direction)
    ids = columns["packet_id"][rows]
    order = np.argsort(ids)
    return rows[order], ids[order]


# ---- the echoes of the issue ----


def test_both_copies_of_every_echo_are_linked(root, tmp_path, tool, missing, printed, family):
    """As root on the machine's own lo, which here is that of a namespace."""
    filter_ = "icmp" if family == 4 else "icmp6"
    arguments = (
        ["lo", "-f", filter_, "--both-copies", "-w", "x.pcapng"],
        ["lo", "--world", "host", "--count", "1000", "--warmup", "0", f"-{family}", "--json"],
    )
    command = [sys.executable, root / "tests" / "launch.py", "--", sys.executable, "-c", DURING]
    command += [json.dumps(words) for words in arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 1000

    path = tmp_path / "x.pcapng"
    rows = printed(path, "frame.packet_id", "frame.packet_flags_direction")
    assert len(rows) == 4000
    for direction in (IN, OUT):
        assert sorted(int(id_) for id_, way in rows if int(way, 16) == direction) == list(range(1, 2001))

    read = subprocess.run([*LAB, "read", path, "--transit", "--json"], capture_output=True, text=True, check=True)
    pairs = json.loads(read.stdout)["transits"]
    assert len(pairs) == 2000
    assert all(pair["transit_ns"] > 0 for pair in pairs)

    told = subprocess.run([tool("capinfos"), path], capture_output=True, text=True, check=True).stdout
    for name, value in (
        ("File timestamp precision", r"nanoseconds \(9\)"),
        ("Number of packets", "4000"),
        ("Strict time order", "True"),
        ("Name", "lo"),
        ("Filter string", filter_),
        ("Number of stat entries", "1"),
    ):
        assert re.search(rf"^ *{name}(:| =) *{value}$", told, re.MULTILINE), (name, told)


# ---- a million frames of two senders ----


@pytest.mark.parametrize("numbered", [False, True], ids=["all alike", "numbered"])
def test_copies_of_two_senders_are_linked_and_none_wrongly(world, sender, tmp_path, missing, numbered):
    """Of all that are alike, an order that is wrong would not be seen; so they are told apart by number once."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        missing("two senders need a CPU each")
    senders = [sender(cpu, index * SENT_EACH, SENT_EACH, numbered=numbered) for index, cpu in enumerate(cpus[:2])]
    with world.capture("lo", filter="udp", both_copies=True, file=tmp_path / "x.pcapng") as capture:
        run_all(senders)
    assert capture.lossless, capture.totals
    count = 2 * SENT_EACH
    assert (capture.totals.frames, capture.totals.linked, capture.totals.unlinked) == (2 * count, count, 0)
    (out, out_ids), (in_, in_ids) = (ids_in_order(capture.frames, direction) for direction in (OUT, IN))
    assert np.array_equal(out_ids, in_ids)
    assert np.array_equal(out_ids, np.arange(1, count + 1))
    if numbered:
        sent = numbers(capture.frames, out)
        assert np.array_equal(numbers(capture.frames, in_), sent)
        assert np.array_equal(np.sort(sent), np.arange(count))


# ---- another reader ----


def test_tshark_reads_what_is_written(world, printed, tmp_path, family):
    path = tmp_path / "x.pcapng"
    with world.capture(file=path, both_copies=True) as capture:
        for probe, link in (("icmp", "lo"), ("tcp-connect", "lo"), ("udp", "veth"), ("tcp", "veth")):
            world.rtt(link, probe=probe, family=family, count=50, warmup=0)
    assert capture.lossless
    columns = capture.frames.columns("time_ns", "interface", "length", "captured", "packet_id", "direction")
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    ours = [
        [f"{time_ns // 10**9}.{time_ns % 10**9:09}", capture.interfaces[interface], *map(str, lengths), id_, direction]
        for time_ns, interface, *lengths, id_, direction in rows
    ]
    names = ["time_epoch", "interface_name", "len", "cap_len", "packet_id", "packet_flags_direction"]
    theirs = [
        [*texts, int(id_ or 0), int(direction, 16)]
        for *texts, id_, direction in printed(path, *(f"frame.{name}" for name in names))
    ]
    assert theirs == ours
    assert len(ours) > 4 * 50 * 2
    assert {row[1] for row in ours} == {"near:lo", "near:veth", "far:veth"}
    assert {(row[1], row[-1]) for row in ours} >= {("near:lo", IN), ("near:lo", OUT), ("far:veth", OUT)}


def test_what_was_dropped_is_told_where_it_is_missing(world, sender, wait_until, printed, read_pcapng, tmp_path):
    """The capturer is stopped, while more than its rings hold goes by."""
    path, cpu, sent, later = tmp_path / "x.pcapng", min(os.sched_getaffinity(0)), 20_000, 100
    words = ["lo", "--world", str(world.pid), "-f", "udp", "--buffer", "8MiB", "-w", path, "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*LAB, "capture", *words], stdout=pipe, stderr=pipe, text=True) as capture:
        assert capture.stderr.readline().startswith("lab: capturing on ")
        capture.send_signal(signal.SIGSTOP)
        run_all([sender(cpu, 0, sent, size=1400)])
        capture.send_signal(signal.SIGCONT)
        wait_until(lambda: path.stat().st_size > 1 << 20, "the rings are read")
        run_all([sender(cpu, sent, later, size=1400)])
        capture.send_signal(signal.SIGINT)
        told = json.loads(capture.communicate(timeout=60)[0])
    assert 0 < told["dropped"] < sent
    assert told["frames"] + told["dropped"] == sent + later
    assert not told["lossless"]
    with FrameFile(path) as frames:
        lost = frames.columns("dropped")["dropped"]
        assert np.array_equal(np.diff(numbers(frames, slice(None)).astype(int)) - 1, lost[1:])
    assert lost.sum() == told["dropped"]
    assert [int(count or 0) for (count,) in printed(path, "frame.drop_count")] == lost.tolist()
    received, dropped = 4, 7  # codes of the statistics' options
    statistics = read_pcapng(path).statistics
    assert (statistics[received], statistics[dropped]) == (sent + later, told["dropped"])
