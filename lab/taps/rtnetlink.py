"""A network's interfaces, addresses and routes, asked of the kernel over a socket of that network (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import Unavailable
from lab.taps.netlink import dump
from lab.taps.places import SocketAt

__all__ = ["Address", "Interface", "Route", "addresses", "drops", "interfaces", "routes"]

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=4BI"), struct.Struct("=8BI")
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_STATS64 = 1, 3, 23
_RX_DROPPED = 6  # its place in rtnl_link_stats64
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTN_UNICAST, _RTN_LOCAL = 1, 2

Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Interface:
    """``hardware``: ARPHRD_*. ``mac``: as text, zeros where it has none."""

    index: int
    name: str
    flags: int
    hardware: int
    mac: str


@dataclass(frozen=True)
class Address:
    """An address of the interface with this index."""

    interface: int
    address: str


@dataclass(frozen=True)
class Route:
    """Where packets for a prefix go; ``gateway`` and ``source`` are None where it names none.

    ``local``: the addresses are those of `interface` itself, and packets for them go over lo.
    """

    destination: str
    prefix: int
    gateway: str | None
    interface: int
    source: str | None
    metric: int
    local: bool


def interfaces(socket_at: SocketAt) -> list[Interface]:
    """All of them, also those that are down. Raises Unavailable."""
    found = []
    for (_family, hardware, index, flags, _), attributes in _dump(socket_at, _RTM_GETLINK, _LINK, socket.AF_UNSPEC):
        mac = attributes.get(_IFLA_ADDRESS, b"")
        text = mac.hex(":") if len(mac) == 6 else "00:00:00:00:00:00"
        found.append(Interface(index, attributes[_IFLA_IFNAME].rstrip(b"\0").decode(), flags, hardware, text))
    return found


def drops(socket_at: SocketAt, name: str) -> int | None:
    """Frames that an interface dropped as they came in, since it was made; None if it is gone. Raises Unavailable."""
    for _, attributes in _dump(socket_at, _RTM_GETLINK, _LINK, socket.AF_UNSPEC):
        if attributes[_IFLA_IFNAME].rstrip(b"\0").decode() == name and _IFLA_STATS64 in attributes:
            return int(struct.unpack_from("=Q", attributes[_IFLA_STATS64], 8 * _RX_DROPPED)[0])
    return None


def addresses(socket_at: SocketAt) -> list[Address]:
    """Those of all interfaces, of both families. Raises Unavailable."""
    found = []
    for (family, _prefix, _flags, _scope, index), attributes in _dump(
        socket_at, _RTM_GETADDR, _ADDRESS, socket.AF_UNSPEC
    ):
        packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)  # the other is the peer's, if there is one
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            found.append(Address(index, socket.inet_ntop(family, packed)))
    return found


def routes(socket_at: SocketAt, family: int) -> list[Route]:
    """To where packets can go, in all tables; family: AF_INET or AF_INET6. Raises Unavailable."""
    found = []
    for (_family, prefix, _, _, _, _, _, kind, _), attributes in _dump(socket_at, _RTM_GETROUTE, _ROUTE, family):
        if kind not in (_RTN_UNICAST, _RTN_LOCAL) or _RTA_OIF not in attributes:
            continue
        (index,) = struct.unpack("=i", attributes[_RTA_OIF])
        (metric,) = struct.unpack("=I", attributes.get(_RTA_PRIORITY, bytes(4)))
        destination, gateway, source = (
            socket.inet_ntop(family, attributes[each]) if each in attributes else None
            for each in (_RTA_DST, _RTA_GATEWAY, _RTA_PREFSRC)
        )
        anywhere = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104 - a route to it, not a socket
        found.append(Route(destination or anywhere, prefix, gateway, index, source, metric, kind == _RTN_LOCAL))
    return found


def _dump(
    socket_at: SocketAt, request: int, body: struct.Struct, family: int
) -> Iterator[tuple[tuple[int, ...], Attributes]]:
    """All that the kernel has of one kind: the fields of each message's header, and its attributes."""
    empty = bytes([family]).ljust(body.size, b"\0")
    try:
        with socket_at(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
            for message in dump(channel, request, empty):
                yield body.unpack_from(message), _attributes(message[body.size :])
    except OSError as error:
        raise Unavailable("cannot ask for interfaces and routes", errno=error.errno, fix="See lab doctor") from error


def _attributes(data: bytes) -> Attributes:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
    return found
