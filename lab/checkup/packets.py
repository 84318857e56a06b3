"""Packets as rules see them: the headers byte by byte, and what the kernel knows beside them; nothing is sent."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace

from lab.checkup.reaching import Attempt

__all__ = ["NEW", "PROTOCOLS", "Bytes", "Packet", "packets_of"]

#: None stands for a byte that can't be told before the packet is sent.
Bytes = tuple[int | None, ...]

PROTOCOLS = {
    (4, "icmp"): socket.IPPROTO_ICMP,
    (6, "icmp"): socket.IPPROTO_ICMPV6,
    (4, "tcp"): socket.IPPROTO_TCP,
    (6, "tcp"): socket.IPPROTO_TCP,
    (4, "udp"): socket.IPPROTO_UDP,
    (6, "udp"): socket.IPPROTO_UDP,
}
_ECHO_TYPES = {4: (8, 0), 6: (128, 129)}
#: Bits of the state of a connection (NFT_CT_STATE): by the question it is new, by the answer established.
NEW, _ESTABLISHED = 8, 2
_SYN, _SYN_ACK = 0x02, 0x12
_HOPS = 64


@dataclass(frozen=True)
class Packet:
    """What a rule can ask of one.

    what: for prose, before the address that is asked. family: 4 or 6. state: of its connection, as a bit of
    ``ct state``.
    """

    what: str
    address: str
    family: int
    protocol: int
    network: Bytes
    transport: Bytes
    state: int


def packets_of(attempt: Attempt) -> tuple[Packet, ...]:
    """The packets that an attempt takes: the question and, but for a datagram to itself, the answer."""
    family = 6 if ":" in attempt.address else 4
    there = attempt.address
    # The kernel asks from the address that lo was given, whichever of 127/8 is asked; what binds a socket, from that.
    here = ("127.0.0.1" if family == 4 else "::1") if attempt.protocol != "udp" else there
    protocol = PROTOCOLS[family, attempt.protocol]
    port = tuple((attempt.port or 0).to_bytes(2, "big")) if attempt.port else (None, None)
    unknown: Bytes = (None, None)
    names: list[str]
    bodies: list[Bytes]
    if attempt.protocol == "icmp":
        names = ["the echo request", "the echo reply"]
        bodies = [(kind, 0, *unknown, *unknown, *unknown) for kind in _ECHO_TYPES[family]]
    elif attempt.protocol == "udp":
        names, bodies = ["the datagram"], [(*port, *port, 0, 11, *unknown)]
    else:
        names = ["the SYN", "the SYN-ACK"]
        bodies = [_segment(unknown, port, _SYN), _segment(port, unknown, _SYN_ACK)]
    question = Packet(f"{names[0]} to", there, family, protocol, _header(family, protocol, here, there), bodies[0], NEW)
    if len(bodies) == 1:
        return (question,)
    back = _header(family, protocol, there, here)
    what = f"{names[1]} from"
    return question, replace(question, what=what, network=back, transport=bodies[1], state=_ESTABLISHED)


def _header(family: int, protocol: int, source: str, destination: str) -> Bytes:
    """An IP header: its length, identification and checksum can't be told."""
    own = socket.AF_INET6 if family == 6 else socket.AF_INET
    ends = [tuple(socket.inet_pton(own, each)) for each in (source, destination)]
    if family == 4:
        return (0x45, 0, None, None, None, None, None, None, _HOPS, protocol, None, None, *ends[0], *ends[1])
    return (0x60, None, None, None, None, None, protocol, _HOPS, *ends[0], *ends[1])


def _segment(source: Bytes, destination: Bytes, flags: int) -> Bytes:
    """A TCP header without options."""
    numbers: Bytes = (None,) * 8
    window: Bytes = (None,) * 4
    return (*source, *destination, *numbers, 0x50, flags, *window, *struct.pack("!H", 0))
