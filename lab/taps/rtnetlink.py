"""A network's interfaces, addresses and routes, asked of the kernel over a socket of that network (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import Unavailable
from lab.taps.netlink import ask, dump
from lab.taps.netlink import attributes as attributes_of
from lab.taps.places import SocketAt

__all__ = [
    "IFF_LOOPBACK", "IFF_LOWER_UP", "IFF_UP", "Address", "Decision", "Interface", "Route", "addresses", "decision",
    "drops", "interfaces", "routes",
]  # fmt: skip

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=4BI"), struct.Struct("=8BI")
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_STATS64 = 1, 3, 4, 23
_RX_DROPPED = 6  # its place in rtnl_link_stats64
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_FLAGS = 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 7, 15, 18
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
#: Of an interface: it is switched on; it is the loopback; there is a carrier (linux/if.h).
IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000
#: What becomes of a packet (RTN_*), how far an address is valid (RT_SCOPE_*), and its states (IFA_F_*).
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_USUAL_TABLES = (0, 253, 254, 255)  # none, default, main, local
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_STATES = {0x01: "temporary", 0x04: "optimistic", 0x08: "duplicate", 0x20: "deprecated", 0x40: "tentative"}

Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Interface:
    """``hardware``: ARPHRD_*. ``mac``: as text, zeros where it has none. ``mtu``: in bytes."""

    index: int
    name: str
    flags: int
    hardware: int
    mac: str
    mtu: int = 0


@dataclass(frozen=True)
class Address:
    """An address of the interface with this index.

    prefix: the length of its network's. scope: how far it is valid, "global", "link" or "host". states: of those that
    are unusual, such as "tentative": not to be used yet.
    """

    interface: int
    address: str
    prefix: int = 0
    scope: str = "global"
    states: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Decision:
    """What the kernel would do with a packet for an address.

    kind: "unicast", "local", "broadcast", "anycast", "multicast" (RTN_*). interface: by which it goes. source: the
    address that it would come from, if the sender has not chosen one. table: the number of that which had the route;
    None for the usual ones, as IPv4 keeps local inside of main and calls both main. prefix: that of the route, such as
    "127.0.0.0/8"; None if no route decided, or the kernel doesn't tell.
    """

    kind: str
    interface: int
    source: str | None
    gateway: str | None
    table: int | None
    prefix: str | None


def interfaces(socket_at: SocketAt) -> list[Interface]:
    """All of them, also those that are down. Raises Unavailable."""
    found = []
    for (_family, hardware, index, flags, _), attributes in _dump(socket_at, _RTM_GETLINK, _LINK, socket.AF_UNSPEC):
        mac = attributes.get(_IFLA_ADDRESS, b"")
        text = mac.hex(":") if len(mac) == 6 else "00:00:00:00:00:00"
        name = attributes[_IFLA_IFNAME].rstrip(b"\0").decode()
        (mtu,) = struct.unpack("=I", attributes.get(_IFLA_MTU, bytes(4)))
        found.append(Interface(index, name, flags, hardware, text, mtu))
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
    for (family, prefix, flags, scope, index), attributes in _dump(socket_at, _RTM_GETADDR, _ADDRESS, socket.AF_UNSPEC):
        packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)  # the other is the peer's, if there is one
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            if _IFA_FLAGS in attributes:  # as the header has room for the first eight only
                (flags,) = struct.unpack("=I", attributes[_IFA_FLAGS])
            states = tuple(
                name for bit, name in _STATES.items() if flags & bit and (bit > 1 or family != socket.AF_INET)
            )
            text = socket.inet_ntop(family, packed)
            found.append(Address(index, text, prefix, _SCOPES.get(scope, str(scope)), states))
    return found


def decision(socket_at: SocketAt, address: str, interface: int = 0) -> Decision:
    """What the kernel would do with a packet for an address; nothing is sent. interface: that it must go by; 0: any.

    Raises OSError as a sender would see it: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL of routes that lead nowhere.
    Raises Unavailable if the kernel can't be asked.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    request = _attribute(_RTA_DST, packed)
    if interface:
        request += _attribute(_RTA_OIF, struct.pack("=i", interface))
    with socket_at(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:

        def asked(flags: int) -> tuple[tuple[int, ...], Attributes]:
            header = _ROUTE.pack(family, 8 * len(packed), *bytes(6), flags)
            answer = ask(channel, _RTM_GETROUTE, header + request)
            return _ROUTE.unpack_from(answer), attributes_of(answer[_ROUTE.size :])

        (*_, kind, _flags), found = asked(_RTM_F_LOOKUP_TABLE)
        try:
            (_family, length, *_), route = asked(_RTM_F_LOOKUP_TABLE | _RTM_F_FIB_MATCH)
        except OSError:  # no route decided (255.255.255.255), or this kernel tells none
            prefix = table = None
        else:
            destination = socket.inet_ntop(family, route.get(_RTA_DST, bytes(len(packed))))
            prefix, table = f"{destination}/{length}", struct.unpack("=I", route.get(_RTA_TABLE, bytes(4)))[0]
    gateway = found.get(_RTA_GATEWAY)
    via = socket.inet_ntop(family, gateway) if gateway else None
    if _RTA_VIA in found:  # RFC 8950: IPv4 by way of an IPv6 router; the family goes before its address
        via = socket.inet_ntop(socket.AF_INET6, found[_RTA_VIA][2:])
    source = found.get(_RTA_PREFSRC)
    return Decision(
        kind=_KINDS.get(kind, str(kind)),
        interface=struct.unpack("=i", found.get(_RTA_OIF, bytes(4)))[0],
        source=socket.inet_ntop(family, source) if source else None,
        gateway=via,
        table=None if table in _USUAL_TABLES else table,
        prefix=prefix,
    )


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
                yield body.unpack_from(message), attributes_of(message[body.size :])
    except OSError as error:
        raise Unavailable("cannot ask for interfaces and routes", errno=error.errno, fix="See lab doctor") from error


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)
