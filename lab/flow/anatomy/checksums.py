"""Whether the checksums of a packet are right: IPv4, and what it or IPv6 carries: TCP, UDP, ICMP and ICMPv6.

They are Internet checksums (RFC 1071): the complement of the sum of 16-bit words, in one's complement arithmetic. Those
of TCP (RFC 9293, 3.1), UDP (RFC 768) and ICMPv6 (RFC 4443, 2.3) also cover a pseudo-header of addresses, length and
protocol (RFC 8200, 8.1). Linux leaves those of TCP and UDP to the device where that can fill them in, and on lo to
nobody: the field then holds the sum of the pseudo-header alone, not complemented (CHECKSUM_PARTIAL, linux/skbuff.h).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lab.taps.packets import Packet

__all__ = ["Verdict", "verdict_of"]

_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_IPV6_HEADER, _LEAST_IHL = 40, 5


class Verdict(NamedTuple):
    """What is found of a checksum: "good", "bad", "left" (to the device) or "unknown"; "" if there is none; and why."""

    verdict: str
    meaning: str


def _sum(data: bytes) -> int:
    """The sum of 16-bit words in network order, in one's complement arithmetic; an odd byte is padded with zero."""
    total = int(np.frombuffer(data + bytes(len(data) % 2), ">u2").sum(dtype=np.int64))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def verdict_of(layers: Sequence[tuple[int, Packet]], number: int, data: bytes, length: int) -> Verdict:
    """Of the checksum of a layer, if it has one.

    layers: all of a packet, with the offset of each, outermost first. number: which of them. data: the bytes of the
    packet, as far as they were captured. length: how many it had.
    """
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import _ICMPv6

    offset, layer = layers[number]
    if isinstance(layer, IP):
        header = data[offset : offset + 4 * layer.ihl]
        if layer.ihl < _LEAST_IHL or len(header) < 4 * layer.ihl:
            return Verdict("unknown", "the header is not all there")
        return _compared(header, 10, b"")
    for kind, protocol, place in ((TCP, _TCP, 16), (UDP, _UDP, 6), (ICMP, _ICMP, 2), (_ICMPv6, _ICMPV6, 2)):
        if isinstance(layer, kind) and offset + place + 2 <= len(data):
            return _of_what_ip_carries(layers[:number], offset, data, length, protocol, place)
    return Verdict("", "")


class _Carrier(NamedTuple):
    """What IP says of what it carries. family: 4 or 6. end: where that ends in the packet, and `there`: where what is
    there of it does, if it was quoted in part. fragment: it is a part only.
    """

    family: int
    source: str
    destination: str
    end: int
    there: int
    fragment: bool


def _of_what_ip_carries(
    before: Sequence[tuple[int, Packet]], offset: int, data: bytes, length: int, protocol: int, place: int
) -> Verdict:
    """Of the checksum at `place` of what begins at `offset`. before: the layers around it."""
    value = int.from_bytes(data[offset + place : offset + place + 2])
    carrier = _carrier(before, length)
    if carrier is None:
        return Verdict("unknown", "it covers addresses too, and no IP header is there")
    if protocol == _UDP and value == 0 and carrier.family == 4:
        return Verdict("", "none, which UDP over IPv4 allows")
    covered = carrier.end - offset
    if protocol == _UDP:
        covered = int.from_bytes(data[offset + 4 : offset + 6]) or covered
    if covered < place + 2:
        return Verdict("unknown", "by its length, it does not even cover itself")
    pseudo = b"" if protocol == _ICMP else _pseudo_header(carrier, covered, protocol)
    if pseudo and value == _sum(pseudo):
        return Verdict("left", "the sum of the pseudo-header alone: the rest is left to the device, on lo to nobody")
    if carrier.fragment:
        return Verdict("unknown", "it covers all fragments of the packet, and this is one of them")
    if offset + covered > min(len(data), carrier.there):
        return Verdict("unknown", "it covers bytes that are not there")
    return _compared(data[offset : offset + covered], place, pseudo, udp=protocol == _UDP)


def _carrier(before: Sequence[tuple[int, Packet]], length: int) -> _Carrier | None:
    """The innermost IP layer, with its extension headers; None if there is none. length: of the packet."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting

    found, there = None, length
    for offset, layer in before:
        if isinstance(layer, IP):
            end = offset + layer.len if layer.len else there  # 0 if it is longer than 65,535 bytes
            there = min(there, end)
            found = _Carrier(4, layer.src, _last_hop(layer), end, there, bool(layer.frag or layer.flags.MF))
        elif isinstance(layer, IPv6):
            end = offset + _IPV6_HEADER + layer.plen if layer.plen else there
            there = min(there, end)
            found = _Carrier(6, layer.src, layer.dst, end, there, False)
        elif found and isinstance(layer, IPv6ExtHdrFragment):
            found = found._replace(fragment=bool(layer.offset or layer.m))
        elif found and isinstance(layer, (IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting)) and layer.segleft:
            last = 0 if isinstance(layer, IPv6ExtHdrSegmentRouting) else -1  # that of RFC 8754 is in reverse order
            found = found._replace(destination=layer.addresses[last]) if layer.addresses else found
    return found


def _last_hop(header: Packet) -> str:
    """Where an IPv4 packet is going in the end: the last router of a source route that is not done (RFC 791, 3.1)."""
    from scapy.layers.inet import IPOption_LSRR, IPOption_SSRR

    for option in header.options:
        routed = isinstance(option, (IPOption_LSRR, IPOption_SSRR))
        if routed and option.routers and option.pointer <= (option.length or 0):
            return str(option.routers[-1])
    return str(header.dst)


def _pseudo_header(carrier: _Carrier, length: int, protocol: int) -> bytes:
    """RFC 9293, 3.1, and RFC 8200, 8.1; their lengths of 2 and 4 bytes add up to the same."""
    domain = socket.AF_INET if carrier.family == 4 else socket.AF_INET6
    addresses = b"".join(socket.inet_pton(domain, each) for each in (carrier.source, carrier.destination))
    return addresses + length.to_bytes(4) + protocol.to_bytes(4)


def _compared(covered: bytes, place: int, pseudo: bytes, *, udp: bool = False) -> Verdict:
    """Of the checksum at `place` of what it covers, with the pseudo-header that it covers too."""
    value = int.from_bytes(covered[place : place + 2])
    right = 0xFFFF - _sum(pseudo + covered[:place] + bytes(2) + covered[place + 2 :])
    if udp and not right:
        right = 0xFFFF  # 0 would say that there is none
    if value % 0xFFFF == right % 0xFFFF and (value or not udp):  # 0 has two forms
        return Verdict("good", "right")
    return Verdict("bad", f"wrong: it should be {right:#06x}")
