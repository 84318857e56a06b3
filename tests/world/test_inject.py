"""What is injected arrives: every packet, byte for byte, in order, by each way; what can't is refused or told.

All is seen by a capture where packets arrive. A UDP socket there is open at their port, or the kernel would answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

import lab
from lab.errors import UsageError

MANY = 1_000_000
#: By path: what a capture at the far end is shown of a packet, all of it compared.
NUMBERED = [("l2", MANY), ("l3", MANY // 4)]
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
SIOCGIFHWADDR = 0x8927
ETHERNET = 14


class Way:
    """From the near end of a link to a UDP socket at the far end, in packets and in frames of scapy's."""

    def __init__(self, world, name, family):
        link = world.links[name]
        self.world, self.name, self.family = world, name, family
        self.source, self.target = link.near[family], link.far[family]
        self.far_end, self.device = link.far_end, link.devices["near"]
        self.far_device = link.devices[link.far_end]
        self.macs = {"src": self.mac("near", self.device), "dst": self.mac(self.far_end, self.far_device)}
        self.listener = world.socket(FAMILIES[family], socket.SOCK_DGRAM, end=link.far_end)
        self.listener.bind((self.target, 0))
        self.port = self.listener.getsockname()[1]

    def mac(self, end, device):
        with self.world.socket(socket.AF_INET, socket.SOCK_DGRAM, end=end) as asked:
            found = fcntl.ioctl(asked, SIOCGIFHWADDR, struct.pack("16s24x", device.encode()))
        return found[18:24].hex(":")

    def packet(self, payload=b"", *, sport=40_000, target=None):
        from scapy.layers import inet
        from scapy.layers.inet6 import IPv6
        from scapy.packet import Raw

        addresses = {"src": self.source, "dst": target or self.target}
        head = inet.IP(**addresses, id=1) if self.family == 4 else IPv6(**addresses)
        return head / inet.UDP(sport=sport, dport=self.port) / Raw(payload)

    def frame(self, payload=b"", **more):
        from scapy.layers.l2 import Ether

        return Ether(**self.macs) / self.packet(payload, **more)

    def inject(self, packets, **options):
        return self.world.inject(packets, self.name, tell=lambda _text: None, **options)

    def capture(self, path=None):
        """What comes in at the far end for that port."""
        where = f"{self.far_end}:{self.far_device}"
        return self.world.capture(where, filter=f"udp dst port {self.port}", direction="in", file=path)


@pytest.fixture
def way(world, family):
    """Opens ways over a link of the world, or of another one."""
    with contextlib.ExitStack() as opened:

        def way(name, place=world):
            made = Way(place, name, family)
            opened.enter_context(made.listener)
            return made

        yield way


# ---- what arrives, compared with NumPy ----


def in_order(capture):
    """Offset in the file and length of each frame, in the order of the kernel's stamps: two CPUs have a ring each."""
    columns = capture.frames.columns("offset", "captured", "length", "time_ns")
    assert np.array_equal(columns["captured"], columns["length"])
    order = np.argsort(columns["time_ns"], kind="stable")
    return columns["offset"][order], columns["captured"][order]


def matrix(capture, rows, length):
    """Bytes of some frames of that length, shape (n, length)."""
    return np.memmap(capture.path, np.uint8, "r")[rows[:, None] + np.arange(length)]


def numbered(frame, family, numbers):
    """The frames with these numbers at the end of `frame`, their checksums made anew; shape (n, length)."""
    made = np.tile(np.frombuffer(frame, np.uint8), (len(numbers), 1))
    made[:, -8:] = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    addresses, udp = {4: (ETHERNET + 12, ETHERNET + 20), 6: (ETHERNET + 8, ETHERNET + 40)}[family]
    made[:, udp + 6 : udp + 8] = 0
    words = made[:, addresses:].view(">u2").astype(np.uint64)
    total = words.sum(axis=1) + np.uint64(len(frame) - udp + socket.IPPROTO_UDP)
    for _carry in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    checksum = 0xFFFF - total
    checksum[checksum == 0] = 0xFFFF
    made[:, udp + 6 : udp + 8] = checksum.astype(">u2").view(np.uint8).reshape(-1, 2)
    return made


@pytest.mark.parametrize(("path", "count"), NUMBERED)
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_packet_of_a_template_arrives_with_its_number(way, tmp_path, family, link, path, count):
    way = way(link)
    frame = way.frame(bytes(8))
    packet = frame if path == "l2" else way.packet(bytes(8))
    with way.capture(tmp_path / "x.pcapng") as capture:
        done = way.inject(lab.Template(packet, {"payload[0:8]": "counter"}), count=count)
    assert (done.sent, done.failed, done.left_out, done.delivered) == (count, 0, 0, count)
    assert done.path == ("l2" if path == "l2" else f"raw{family}")
    assert done.pps > 0
    assert done.pacing_error_ns is None
    assert capture.lossless, capture.totals
    rows, lengths = in_order(capture)
    assert len(rows) == count
    assert np.all(lengths == len(frame))
    for first in range(0, count, 1 << 16):
        some = rows[first : first + (1 << 16)]
        wanted = numbered(bytes(frame), family, np.arange(first, first + len(some)))
        assert np.array_equal(matrix(capture, some, len(frame)), wanted), f"from packet {first} on"


@pytest.mark.parametrize("path", ["l2", "l3"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_frame_of_a_file_arrives_each_time_that_it_is_sent(way, tmp_path, link, path):
    from scapy.utils import wrpcap

    way = way(link)
    draw = np.random.default_rng(1)
    frames = [way.frame(draw.bytes(draw.integers(0, 1400)), sport=port) for port in range(20_000, 20_500)]
    wrpcap(str(tmp_path / "sent.pcap"), frames)
    with way.capture(tmp_path / "x.pcapng") as capture:
        done = way.inject(tmp_path / "sent.pcap", loop=40, path=path)
    assert (done.sent, done.failed, done.delivered) == (40 * len(frames), 0, 40 * len(frames))
    assert capture.lossless, capture.totals
    rows, lengths = in_order(capture)
    data = np.memmap(capture.path, np.uint8, "r")
    arrived = [data[row : row + length].tobytes() for row, length in zip(rows, lengths, strict=True)]
    assert arrived == [bytes(frame) for frame in frames] * 40


def test_the_kernel_fills_in_what_a_raw_ipv4_header_leaves_out(world):
    from scapy.layers.inet import IP
    from scapy.packet import Raw

    way = Way(world, "lo", 4)
    whole = bytes(way.packet(b"some text"))
    packet = IP(src=way.source, dst=way.target, proto="udp", id=0, len=0, chksum=0) / Raw(whole[20:])
    with way.listener, way.capture() as capture:
        assert way.inject(packet, path="l3").delivered == 1
    (arrived,) = (bytes(frame)[ETHERNET:] for frame in capture)
    header = IP(arrived[:20])
    assert header.len == len(whole)
    assert header.id != 0
    assert np.frombuffer(arrived[:20], ">u2").astype(int).sum() % 0xFFFF == 0  # as with a right checksum (RFC 1071)
    assert arrived[20:] == whole[20:]


def test_every_frame_written_to_a_tap_arrives(missing, family, tmp_path):
    with lab.World(["tap"]) as other:
        if other.skipped:
            missing(f"no tap: {other.skipped[0].reason}. {other.skipped[0].fix}")
        way, count = Way(other, "tap", family), 200_000
        frame = way.frame(bytes(8))
        with way.listener, way.capture(tmp_path / "x.pcapng") as capture:
            done = way.inject(lab.Template(frame, {"payload[0:8]": "counter"}), count=count)
        assert (done.path, done.sent, done.delivered) == ("tap", count, count)
        assert capture.lossless, capture.totals
        rows, _lengths = in_order(capture)
        assert np.array_equal(matrix(capture, rows, len(frame)), numbered(bytes(frame), family, np.arange(count)))


# ---- two threads ----


@pytest.mark.parametrize("source", ["file", "template"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_two_threads_keep_each_flow_in_order(way, tmp_path, missing, family, link, source):
    if len(os.sched_getaffinity(0)) < 2:
        missing("two threads need a CPU each")
    way, flows, each = way(link), 16, 50
    if source == "template":
        each *= 200
        vary = {"UDP.sport": range(30_000, 30_000 + flows), "payload[0:8]": "counter"}
        packets, options = lab.Template(way.frame(bytes(8)), vary), {"count": flows * each}
    else:
        numbers = range(flows * each)
        packets = [way.frame(n.to_bytes(8, "big"), sport=30_000 + n % flows) for n in numbers]
        options = {}
    with way.capture(tmp_path / "x.pcapng") as capture:
        done = way.inject(packets, threads=2, **options)
    assert (done.sent, done.delivered) == (flows * each, flows * each)
    assert capture.lossless, capture.totals
    rows, lengths = in_order(capture)
    frames = matrix(capture, rows, lengths[0])
    numbers = frames[:, -8:].copy().view(">u8").ravel().astype(np.int64)
    udp = ETHERNET + {4: 20, 6: 40}[family]
    ports = frames[:, udp : udp + 2].copy().view(">u2").ravel()
    for flow in range(flows):
        assert np.array_equal(numbers[ports == 30_000 + flow], np.arange(flow, flows * each, flows))


# ---- what can't arrive ----


def test_what_is_larger_than_the_mtu_is_left_out(way):
    way = way("veth")
    mtu = way.world.links["veth"].mtu
    large, small = way.frame(bytes(mtu)), way.frame(bytes(8))
    done = way.inject([small, large, small])
    assert (done.sent, done.left_out, done.delivered) == (2, 1, 2)
    assert any("MTU" in text for text in done.warnings), done.warnings
    with pytest.raises(UsageError, match="MTU"):
        way.inject(large)


def test_nobody_answers_for_the_next_hop(way, family):
    """The kernel takes packets, and drops them when its neighbour discovery has failed."""
    way = way("veth")
    nobody = f"{way.target.rpartition('.')[0]}.99" if family == 4 else f"{way.target.rpartition(':')[0]}:99"
    packets = [way.packet(bytes(8), target=nobody)] * 3
    with pytest.raises(UsageError, match="--path"):
        way.inject(packets)
    with way.capture() as capture:
        done = way.inject(packets, path="l3")
    assert done.sent + done.failed == 3
    assert done.delivered == len(capture) == 0
    assert done.warnings


#: Deletes a device at the near end of the world whose process is argv[1], or puts a token bucket in front of it. A
#: program that is executed there has no rights, unless it is root's; one that goes there itself has all.
CHANGE = """
import sys
from pyroute2 import IPRoute
from lab.world.helper import Namespaces
pid, device, change = sys.argv[1:]
Namespaces(int(pid))
with IPRoute() as ip:
    (index,) = ip.link_lookup(ifname=device)
    if change == "delete":
        ip.link("del", index=index)
    else:
        ip.tc("add", "tbf", index, 0x10000, rate="10mbit", latency="10ms", burst=20_000)
"""


def change(way, what):
    command = [sys.executable, "-c", CHANGE, str(way.world.pid), way.device, what]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_link_that_goes_away_ends_it(way):
    with lab.World(["veth"]) as other:
        way, told = way("veth", other), []

        def delete(sent):
            if not told:
                assert (done := change(way, "delete")).returncode == 0, done.stderr
            told.append(sent)

        done = way.inject(way.frame(bytes(8)), rate=1000, count=60_000, progress=delete)
    assert told
    assert 0 < done.sent < 60_000
    assert done.error is not None
    assert way.name in done.error
    assert not done.interrupted


def test_a_queue_that_is_full_is_tried_again(way, missing):
    """A token bucket in front of the link refuses what is more than its queue holds (ENOBUFS)."""
    with lab.World(["veth"]) as other:
        way = way("veth", other)
        if (made := change(way, "bucket")).returncode:
            missing(f"no token bucket (sch_tbf): {made.stderr.splitlines()[-1]}")
        done = way.inject(lab.Template(way.frame(bytes(8)), {"payload[0:8]": "counter"}), count=10_000)
    assert done.retried > 0
    assert (done.sent, done.failed, done.delivered) == (10_000, 0, 10_000)


def test_neither_arp_nor_neighbour_discovery_is_counted_with_packets_of_both_families():
    """Sent by hand, as the kernel's own come when it likes."""
    from scapy.layers.inet6 import ICMPv6ND_NA, IPv6
    from scapy.layers.l2 import ARP, Ether

    with lab.World(["veth"]) as other, contextlib.ExitStack() as opened:
        ways = [Way(other, "veth", each) for each in FAMILIES]
        for each in ways:
            opened.enter_context(each.listener)
        sender = opened.enter_context(other.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        sender.bind((ways[0].device, 0))
        link = other.links["veth"]
        header = Ether(dst=ways[0].mac("far", link.devices["far"]))
        discovery = IPv6(src=link.near[6], dst=link.far[6], hlim=255) / ICMPv6ND_NA(tgt=link.near[6])
        frames = [bytes(header / each) for each in (ARP(op=2, psrc=link.near[4], pdst=link.far[4]), discovery)]
        asked = []

        def ask(sent):
            if not asked:
                asked.extend(map(sender.send, frames))

        done = other.inject([each.frame(bytes(8)) for each in ways], "veth", rate=1000, count=1500, progress=ask)
    assert len(asked) == 2
    assert (done.sent, done.delivered, done.lost) == (1500, 1500, 0)


def test_packets_on_a_slow_link_are_waited_for(way):
    with lab.World(["veth"], impair="rate=16kbit,by=wire") as other:
        way = way("veth", other)
        done = way.inject(way.packet(bytes(1200)), count=3)
    assert (done.sent, done.delivered, done.lost) == (3, 3, 0)


def test_a_rate_beyond_the_machine_is_told(way):
    way = way("lo")
    done = way.inject(way.frame(bytes(8)), rate="500Mpps", loop=200_000)
    assert (done.sent, done.delivered) == (200_000, 200_000)
    assert done.pps < 500e6
    assert any("were due" in text for text in done.warnings), done.warnings
