"""What the wire makes of frames inside VXLAN: neighbour discovery is spared, and our messages are found in its log."""

from __future__ import annotations

import socket
import struct

import numpy as np
import pytest

from lab.native.wire import Impairment
from lab.records import WIRE_FLAGS
from lab.wire import Wire, dropped_probes, probe_numbers

NONCE, SEQ = 0x0123456789ABCDEF, 41
ARP, IP4, IP6 = 0x0806, 0x0800, 0x86DD
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ALL_LOST = Impairment(loss=1.0)


def ethernet(type_: int, packet: bytes) -> bytes:
    return bytes(12) + struct.pack("!H", type_) + packet


def ip4(protocol: int, data: bytes) -> bytes:
    return struct.pack("!BBHIBBH4s4s", 0x45, 0, 20 + len(data), 0, 64, protocol, 0, bytes(4), bytes(4)) + data


def ip6(protocol: int, data: bytes) -> bytes:
    return struct.pack("!IHBB16s16s", 6 << 28, len(data), protocol, 64, bytes(16), bytes(16)) + data


def udp(port: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", 50_000, port, 8 + len(data), 0) + data


def tcp(data: bytes) -> bytes:
    return bytes(12) + bytes([8 << 4]) + bytes(7) + bytes(12) + data  # 32 bytes, as with timestamps


def vxlan(frame: bytes, port: int = 4789) -> bytes:
    return ethernet(IP4, ip4(UDP, udp(port, struct.pack("!II", 8 << 24, 127 << 8) + frame)))


MESSAGE = struct.pack("QQ", NONCE, SEQ) + bytes(40)
ECHO = bytes(8) + MESSAGE
PROBES = {
    "IPv4 icmp": ethernet(IP4, ip4(ICMP, ECHO)),
    "IPv4 udp": ethernet(IP4, ip4(UDP, udp(7, MESSAGE))),
    "IPv4 tcp": ethernet(IP4, ip4(TCP, tcp(MESSAGE))),
    "IPv6 icmp": ethernet(IP6, ip6(ICMP6, b"\x80" + ECHO[1:])),
    "IPv6 udp": ethernet(IP6, ip6(UDP, udp(7, MESSAGE))),
    "IPv6 tcp": ethernet(IP6, ip6(TCP, tcp(MESSAGE))),
}
DISCOVERY = {
    "ARP": ethernet(ARP, bytes(28)),
    "neighbour solicitation": ethernet(IP6, ip6(ICMP6, bytes([135]) + bytes(23))),
    "neighbour advertisement": ethernet(IP6, ip6(ICMP6, bytes([136]) + bytes(23))),
    "multicast listener report": ethernet(IP6, ip6(0, bytes([ICMP6, 0, 5, 2, 0, 0, 1, 0, 143]) + bytes(27))),
}


def events_of(*frames: bytes, wait_until):
    """What a wire that loses all it may lose says of frames from the near side."""
    (near, ours), (far, theirs) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    with ours, theirs, Wire(near, far, (ALL_LOST, ALL_LOST)) as wire:
        for frame in frames:
            ours.send(frame)
        wait_until(lambda: wire.logged == len(frames), "every frame to be logged")
        return wire.events().events


@pytest.mark.parametrize("name", DISCOVERY)
def test_discovery_is_spared_also_inside_vxlan(name, wait_until):
    frame = DISCOVERY[name]
    events = events_of(frame, vxlan(frame), wait_until=wait_until)
    assert events["flags"].tolist() == [WIRE_FLAGS["spared"]] * 2


def test_nothing_else_inside_vxlan_is_spared(wait_until):
    others = [vxlan(frame) for frame in PROBES.values()]
    others += [vxlan(DISCOVERY["ARP"], port=4790)]  # another protocol's
    others += [vxlan(DISCOVERY["ARP"])[:50], vxlan(b"")]  # cut short
    others += [vxlan(ethernet(IP6, ip6(0, bytes([UDP, 0, 5, 2, 0, 0, 1, 0, 143]))))]  # another message with an option
    events = events_of(*others, wait_until=wait_until)
    assert events["flags"].tolist() == [WIRE_FLAGS["lost"]] * len(others)


@pytest.mark.parametrize("name", PROBES)
def test_a_message_is_found_also_inside_vxlan(name, wait_until):
    events = events_of(PROBES[name], vxlan(PROBES[name]), wait_until=wait_until)
    ours, seq = probe_numbers(events, NONCE)
    reach = name != "IPv6 tcp"  # whose number is beyond the snap
    assert ours.tolist() == [True, reach]
    assert set(seq[ours]) == {SEQ}
    assert dropped_probes(events[1:], NONCE)[0].tolist() == [SEQ] * reach
    assert not probe_numbers(events, NONCE + 1)[0].any()


def test_whatever_is_in_a_snap_is_read_within_its_bounds(wait_until):
    """Header lengths and protocols of any value, inside VXLAN and not."""
    rng = np.random.default_rng(5)
    frames = [vxlan(ethernet(IP4, rng.bytes(86))) for _ in range(100)] + [rng.bytes(136) for _ in range(100)]
    for frame in list(frames):
        frames += [frame[:14] + b"\x4f" + frame[15:], frame[:64] + b"\x4f" + frame[65:]]
    for begin in range(0, len(frames), 100):
        events = events_of(*frames[begin : begin + 100], wait_until=wait_until)
        assert not probe_numbers(events, NONCE)[0].any()
