"""Studies and captures made by hand, known answers; and wires between socket pairs: no world, no privilege."""

from __future__ import annotations

import socket
import struct
import time

import numpy as np
import pytest

import lab
from lab.native.wire import Impairment
from lab.records import LATE, LOST, RECEIVED, RECORD, WIRE_FLAGS
from lab.studies import Study
from lab.tables import counts
from lab.taps.frames import FRAME, HAS
from lab.wire import Wire


@pytest.fixture
def records():
    """Builds the records of a run from its delays in ns; None is a lost probe, a negative delay a late one."""

    def build(rtts, start_ns=1_000_000_000):
        made = np.zeros(len(rtts), RECORD)
        for i, rtt in enumerate(rtts):
            made[i]["due_ns"] = made[i]["tx_ns"] = start_ns + i * 1_000_000
            made[i]["tx_done_ns"] = made[i]["tx_ns"] + 100
            made[i]["status"] = LOST if rtt is None else LATE if rtt < 0 else RECEIVED
            if rtt is not None:
                made[i]["rx_ns"] = made[i]["tx_ns"] + abs(rtt)
                made[i]["reply_ttl"] = 64
        return made

    return build


@pytest.fixture
def study(tmp_path, records):
    """Builds a study from {(link, family, probe): [delays of round 1, of round 2, …]}."""

    def build(runs, *, complete=True, name="study", **more):
        document = {"version": "0", "experiment": {}, "seed": 1, "host": {}, "skipped": [], "warnings": [], **more}
        made = Study.create(tmp_path / name, document)
        for (link, family, probe), rounds in runs.items():
            shm = {"wait": "spin", "placement": "cross-cpu"} if link == "shm" else {}
            condition = lab.Condition(link=link, family=family, probe=probe, **shm)
            for number, rtts in enumerate(rounds, 1):
                rows = records(rtts)
                made.add_run(condition, rows, {"round": number, **counts(rows)})
        made.finish() if complete else made.save()
        return made

    return build


class Line:
    """A wire between two socket pairs, which keep the bounds of frames. What goes in at one end leaves at the other."""

    def __init__(self, out=Impairment(), back=Impairment(), **more):  # noqa: B008 - it is frozen
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        (self.near, near), (self.far, far) = pairs
        for end in (self.near, self.far, near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.near.settimeout(20)
        self.far.settimeout(20)
        self.wire = Wire(near, far, (out, back), **more)

    def close(self):
        self.wire.close()
        self.near.close()
        self.far.close()

    @staticmethod
    def frame(number, length=64):
        """An Ethernet frame of a type set aside for experiments (IEEE 802), numbered."""
        return struct.pack("!12xHI", 0x88B5, number).ljust(length, b"\x5a")

    @staticmethod
    def number_of(frame):
        return struct.unpack_from("!I", frame, 14)[0]

    @staticmethod
    def flagged(events, name):
        return events["flags"] & WIRE_FLAGS[name] != 0

    @staticmethod
    def drain(end):
        """What has come out at a non-blocking end."""
        frames = []
        try:
            while True:
                frames.append(end.recv(1 << 16))
        except BlockingIOError:
            return frames

    def receive(self, count):
        """Waits for so many frames at the far end."""
        return [self.far.recv(1 << 16) for _ in range(count)]

    def settled(self):
        """Frames from near whose fate is known."""
        out = self.wire.counters()[0]
        fates = ("forwarded", "lost", "queue", "oversize", "unsent", "discarded")
        return sum(out[name] for name in fates) - out["duplicated"]

    def carry(self, frames):
        """Sends frames from near to far a few at a time, waits for their fates, and returns what arrived."""
        arrived = []
        self.far.setblocking(False)
        before = self.settled()
        deadline = time.monotonic() + 30
        for start in range(0, len(frames), 16):
            for frame in frames[start : start + 16]:
                self.near.send(frame)
            while self.settled() < before + min(start + 16, len(frames)):
                arrived += self.drain(self.far)
                assert time.monotonic() < deadline, self.wire.counters()
        arrived += self.drain(self.far)
        self.far.settimeout(20)
        return arrived

    def log(self, count):
        """The events, once there are `count`: a frame arrives right before its event is written."""
        deadline = time.monotonic() + 30
        while self.wire.logged < count:
            assert time.monotonic() < deadline, self.wire.counters()
        return self.wire.events().events


@pytest.fixture
def line():
    """Builds lines, and closes them."""
    made = []

    def build(*arguments, **more):
        made.append(Line(*arguments, **more))
        return made[-1]

    yield build
    for each in made:
        each.close()


class Script:
    """The columns of a capture, written down frame by frame. Each comes 1,000 ns after the one before."""

    def __init__(self, family=4):
        self.family, self.now, self.frames = family, 1_000_000, []
        self.client = ("127.0.0.1" if family == 4 else "::1", 40_000)
        self.server = (self.client[0], 80)

    def add(self, has=0, *, after=1_000, **fields):
        """A frame of 100 bytes; `fields` are those of ``lab.taps.frames.FRAME``."""
        self.now += after
        row = np.zeros(1, FRAME)[0]
        for name, value in {"time_ns": self.now, "has": has, "length": 100, "captured": 100, **fields}.items():
            row[name] = value
        self.frames.append(row)

    def ip(self, one, other, protocol, has=0, **fields):
        """A packet from one (address, port) to another."""
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        source, destination = (
            np.frombuffer(socket.inet_pton(kind, address).ljust(16, b"\0"), np.uint8) for address, _ in (one, other)
        )
        about = {"family": self.family, "protocol": protocol, "source": source, "destination": destination}
        self.add(has | HAS["ip"] | HAS["payload"], **about, **fields)

    def talk(self, sender, protocol, has=0, **fields):
        """From "client" or "server" to the other."""
        ends = (self.client, self.server) if sender == "client" else (self.server, self.client)
        ports = {"source_port": ends[0][1], "destination_port": ends[1][1]}
        self.ip(*ends, protocol, has | HAS["ports"], **ports, **fields)

    def udp(self, sender, payload=10, **fields):
        self.talk(sender, socket.IPPROTO_UDP, payload_length=payload, **fields)

    def tcp(self, sender, flags, seq=0, ack=0, payload=0, *, window=1_000, stamps=None, **fields):
        """A segment; flags such as "SA". Sequence numbers wrap. stamps: its timestamp, and the one that it echoes."""
        has = HAS["tcp"] | (HAS["timestamps"] if stamps else 0)
        value, echo = stamps or (0, 0)
        numbers = {"tcp_seq": seq % 2**32, "tcp_ack": ack % 2**32, "tcp_ts_value": value, "tcp_ts_echo": echo}
        bits = sum(1 << "FSRPA".index(flag) for flag in flags)
        fields = {"tcp_flags": bits, "tcp_window": window, "payload_length": payload, **numbers, **fields}
        self.talk(sender, socket.IPPROTO_TCP, has, **fields)

    def echo(self, sender, kind, seq, number=7, **fields):
        """kind: "request" or "reply"."""
        protocol, types = (1, (8, 0)) if self.family == 4 else (58, (128, 129))
        ends = (self.client, self.server) if sender == "client" else (self.server, self.client)
        about = {"icmp_type": types[kind == "reply"], "icmp_id": number, "icmp_seq": seq, "payload_length": 56}
        self.ip(*ends, protocol, HAS["icmp"] | HAS["echo"], **about, **fields)

    def handshake(self, seq=100, ack=500):
        self.tcp("client", "S", seq)
        self.tcp("server", "SA", ack, seq + 1)
        self.tcp("client", "A", seq + 1, ack + 1)

    def columns(self):
        rows = np.array(self.frames, FRAME)
        return {name: np.ascontiguousarray(rows[name]) for name in FRAME.names}


@pytest.fixture
def script(family):
    """A capture to be written down, in either family."""
    return Script(family)
