"""Captures that go on: looked at meanwhile, ended by themselves, their interface gone, their disk full."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lab
from lab.taps.frames import FrameFile

DESCRIPTORS = Path("/proc/self/fd")
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Talk:
    """Numbered datagrams from one socket of a world to another, over lo."""

    def __init__(self, world, family, size=64):
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self.receiver = world.socket(kind, socket.SOCK_DGRAM)
        self.receiver.bind((LOOPBACK[family], 0))
        self.sender = world.socket(kind, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname())
        self.size, self.sent = size, 0

    def send(self, count):
        for number in range(self.sent, self.sent + count):
            self.sender.send(number.to_bytes(4, "big") + bytes(self.size - 4))
        self.sent += count

    def close(self):
        self.sender.close()
        self.receiver.close()


@pytest.fixture
def talk(world, family):
    made = Talk(world, family)
    yield made
    made.close()


def numbers(frames):
    """The numbers of the datagrams in a capture, in its order."""
    columns = frames.columns("offset", "payload_offset")
    bytes_of = (bytes(frames.frame_bytes(row)) for row in range(len(frames)))
    return [
        int.from_bytes(data[at : at + 4], "big")
        for data, at in zip(bytes_of, columns["payload_offset"].tolist(), strict=True)
    ]


# ---- what is seen, and when ----


def test_a_start_means_started_and_a_stop_means_drained(world, talk):
    for _ in range(20):
        first = talk.sent
        with world.capture("lo", filter="udp") as capture:
            talk.send(50)
        assert numbers(capture.frames) == list(range(first, first + 50))
        assert capture.lossless
        assert capture.totals.frames == 50


def test_frames_can_be_looked_at_while_they_come(world, talk):
    with world.capture("lo", filter="udp") as capture:
        assert len(capture) == 0
        for _ in range(10):
            talk.send(100)
            assert len(capture) == talk.sent
            assert capture[-1].wirelen == len(bytes(capture[-1]))
        view = capture[10:20]
        talk.send(1)
        assert len(view) == 10
        assert "it goes on" in repr(capture)
    assert len(capture) == talk.sent
    assert "it goes on" not in repr(capture)


def test_it_ends_by_its_count(world, talk):
    with world.capture("lo", filter="udp", count=30) as capture:
        talk.send(100)
        assert capture.wait(30)
        assert not capture.running
    assert numbers(capture.frames) == list(range(30))
    assert capture.lossless


def test_it_ends_by_its_duration_and_keeps_nothing_younger(world, talk):
    with world.capture("lo", filter="udp", duration="200ms") as capture:
        talk.send(10)
        assert capture.wait(30)
        talk.send(10)
    assert numbers(capture.frames) == list(range(10))
    assert capture.lossless


def test_a_wait_ends_when_its_time_is_over(world):
    with world.capture("lo", filter="udp") as capture:
        assert not capture.wait(0.05)
        assert capture.running


def test_it_goes_when_nobody_refers_to_it(world, wait_until):
    before = len(list(DESCRIPTORS.iterdir())), threading.active_count()
    capture = world.capture("lo")
    assert len(list(DESCRIPTORS.iterdir())) > before[0]
    del capture
    wait_until(
        lambda: (len(list(DESCRIPTORS.iterdir())), threading.active_count()) == before,
        "descriptors and threads are gone",
    )


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_leaves_it_alone(world, talk, wait_until):
    with world.capture("lo", filter="udp") as capture:
        if not (child := os.fork()):
            try:
                capture.stop()
            finally:
                os._exit(0)
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child has ended")
        talk.send(10)
    assert numbers(capture.frames) == list(range(10))


def test_several_interfaces_in_one_file_in_order(family):
    with lab.World(["lo", "veth"]) as world, world.capture(filter="icmp or icmp6") as capture:
        world.rtt("veth", family=family, count=500, warmup=0)
        world.rtt("lo", family=family, count=500, warmup=0)
    columns = capture.frames.columns("time_ns", "interface", "direction", "icmp_type")
    assert capture.interfaces == ("near:lo", "near:veth", "far:veth")
    assert (np.diff(columns["time_ns"]) >= 0).all()
    echo = np.isin(columns["icmp_type"], (0, 8) if family == 4 else (128, 129))
    counts = np.bincount(columns["interface"][echo], minlength=3).tolist()
    assert counts == [1000, 1000, 1000]
    assert capture.lossless


# ---- directions ----


@pytest.mark.parametrize(("direction", "seen"), [("in", {1}), ("out", {2}), ("inout", {1})])
def test_one_copy_on_lo(world, talk, direction, seen):
    with world.capture("lo", filter="udp", direction=direction) as capture:
        talk.send(100)
    assert set(capture.frames.columns("direction")["direction"].tolist()) == seen
    assert numbers(capture.frames) == list(range(100))


def test_both_copies_are_linked(world, talk):
    with world.capture("lo", filter="udp", both_copies=True) as capture:
        talk.send(1000)
    columns = capture.frames.columns("direction", "packet_id")
    told = np.array(numbers(capture.frames))
    for direction in (1, 2):
        assert (told[columns["direction"] == direction] == np.arange(1000)).all()
    ids = {direction: columns["packet_id"][columns["direction"] == direction] for direction in (1, 2)}
    assert (ids[1] == ids[2]).all()
    assert len(set(ids[1].tolist())) == 1000
    assert (capture.totals.linked, capture.totals.unlinked) == (1000, 0)
    assert len(capture.transit()) == 1000


# ---- trouble ----


def test_an_interface_that_goes_down_and_up_again(tool):
    tool("ip")
    with lab.World(["veth"]) as other, other.capture("veth", filter="icmp") as capture:
        device = other.links["veth"].devices["near"]
        other.rtt("veth", family=4, count=10, warmup=0)
        for state in ("down", "up"):
            assert other.popen(["ip", "link", "set", device, state]).wait() == 0
        other.rtt("veth", family=4, count=10, warmup=0)
    near = capture.counts.interfaces[0]
    assert near.down == 1
    assert near.gone == 0
    assert near.frames == 40


def test_an_interface_that_is_deleted(tool):
    tool("ip")
    with lab.World(["veth"]) as world:
        device = world.links["veth"].devices["near"]
        with world.capture(f"near:{device}", filter="icmp") as capture:
            world.rtt("veth", family=4, count=10, warmup=0)
            assert world.popen(["ip", "link", "delete", device]).wait() == 0
            assert capture.wait(30)
            capture.stop()
    assert capture.totals.error == f"{device} was deleted while it was captured"
    assert not capture.lossless
    assert len(capture) == 20


#: Captures to argv[1] more than what may be written, then tells what came of it.
FULL = """
import resource, socket, sys
import lab
world = lab.World(["lo"])
receiver = world.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender = world.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(receiver.getsockname())
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
capture = world.capture("lo", filter="udp", file=sys.argv[1] or None)
sent = 0
while capture.running:
    sender.send(bytes(1000))
    sent += 1
capture.stop()
told = capture.totals
print(told.frames, told.unwritten, len(capture), told.lossless, sep=",")
print(told.error)
assert len(capture[-1]) == 1042
"""


@pytest.mark.parametrize("limit", [100_000, 10_000_000])
def test_a_disk_that_fills_up(tmp_path, world, limit):
    path = tmp_path / "full.pcapng"
    done = subprocess.run(
        [sys.executable, "-c", FULL, path, str(limit)], capture_output=True, text=True, timeout=60, check=True
    )
    told, error = done.stdout.splitlines()
    frames, unwritten, readable, lossless = told.split(",")
    assert error == f"cannot write {path}: File too large"
    assert lossless == "False"
    assert int(frames) == int(readable) > 0
    assert int(unwritten) > 0
    with FrameFile(path) as file:
        assert len(file) == int(frames)
        assert file.fault is None
    assert path.stat().st_size <= limit


def test_a_disk_that_fills_up_under_a_file_without_a_name(world):
    done = subprocess.run(
        [sys.executable, "-c", FULL, "", "1000000"], capture_output=True, text=True, timeout=60, check=True
    )
    told, error = done.stdout.splitlines()
    frames, unwritten, readable, lossless = told.split(",")
    assert error == "cannot write the capture: File too large"
    assert lossless == "False"
    assert int(frames) == int(readable) > 0
    assert int(unwritten) > 0
