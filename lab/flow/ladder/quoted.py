"""Which packet an ICMP error is about: it quotes the beginning of it (RFC 792; RFC 4443, 2.4)."""

from __future__ import annotations

import socket
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.taps.findings import Columns
from lab.taps.frames import HAS

__all__ = ["Quoted", "are_errors", "read_quoted"]

#: Types that quote a packet, by IP version.
_ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}

_PORTS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
_ECHO = {4: (socket.IPPROTO_ICMP, (0, 8)), 6: (socket.IPPROTO_ICMPV6, (128, 129))}
_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
_HEADERS = {4: 20, 6: 40}
_FRAGMENT_OFFSET = 0x1FFF


class Quoted(NamedTuple):
    """Whose packet it was. ports: of source and destination; of an echo its id, twice; None if it has none."""

    family: int
    protocol: int
    source: str
    destination: str
    ports: tuple[int, int] | None


def are_errors(columns: Columns, numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of the frames with these numbers, from 0, are ICMP errors."""
    kind, family = (columns[name][numbers] for name in ("icmp_type", "family"))
    icmp: npt.NDArray[np.bool_] = columns["has"][numbers] & HAS["icmp"] != 0
    return icmp & np.where(family == 4, np.isin(kind, _ERRORS[4]), np.isin(kind, _ERRORS[6]))


def read_quoted(data: bytes) -> Quoted | None:
    """What an ICMP error quotes, from the IP header on; None if that is too little, or has IPv6 extension headers."""
    family = data[0] >> 4 if data else 0
    if family not in _HEADERS or len(data) < _HEADERS[family]:
        return None
    if family == 4:
        protocol, start, addresses = data[9], (data[0] & 15) * 4, (data[12:16], data[16:20])
        if int.from_bytes(data[6:8]) & _FRAGMENT_OFFSET:
            return None
    else:
        protocol, start, addresses = data[6], _HEADERS[6], (data[8:24], data[24:40])
    ports = None
    rest = data[start : start + 8]
    if protocol in _PORTS and len(rest) >= 4:
        ports = struct.unpack("!HH", rest[:4])
    elif protocol == _ECHO[family][0] and len(rest) >= 6 and rest[0] in _ECHO[family][1]:
        ports = (int.from_bytes(rest[4:6]),) * 2
    source, destination = (socket.inet_ntop(_DOMAINS[family], address) for address in addresses)
    return Quoted(family, protocol, source, destination, ports)
