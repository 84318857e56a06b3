"""The network whose loopback is examined, and what can be asked of it: sockets, sysctls, files, devices and routes."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Unavailable, UsageError
from lab.taps.netlink import ask, attributes, dump
from lab.world import Place

__all__ = ["LOOPBACK", "Device", "Network", "Route", "family_of"]

LOOPBACK = {4: "127.0.0.1", 6: "::1"}

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=4BI"), struct.Struct("=8BI")
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_IFLA_IFNAME, _IFLA_MTU, _IFA_ADDRESS, _IFA_LOCAL, _RTA_DST, _RTA_OIF = 3, 4, 1, 2, 1, 4
_IFF_UP = 1
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast"}
#: What the kernel says where a route of such a kind decides, or where there is none (rt_error of fib_props).
_REFUSALS = {
    errno.EINVAL: "blackhole",
    errno.EACCES: "prohibit",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "no route",
}


@dataclass(frozen=True)
class Device:
    """An interface: whether it is up, its MTU in bytes, and its addresses, each with its prefix length."""

    index: int
    up: bool
    mtu: int
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Route:
    """Which way the kernel would send. kind: local, broadcast, unicast …, or what refuses. interface: an index or 0."""

    kind: str
    interface: int = 0

    def __str__(self) -> str:
        return f"{self.kind} by interface {self.interface}" if self.interface else self.kind


class Network:
    """A network and the files that its programs see. Nothing is changed in it.

    place: where its sockets are opened. whose: for prose. own: whether it is that of this process.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.own = place.kind == "host"
        pid = place.kind if place.kind.isdecimal() else getattr(place, "pid", None)
        self.whose = "this machine's own" if self.own else f"process {pid}'s"
        self._pid = pid
        self._proc = Path("/proc/self" if self.own else f"/proc/{pid}")
        self._root = Path(f"/proc/{pid}/root") if place.kind.isdecimal() else Path("/")

    def socket_at(self, family: int, type_: int, proto: int = 0) -> socket.socket:
        """A socket of this network. Raises Unavailable."""
        return self.place.socket(family, type_, proto)

    def sysctl(self, name: str) -> str | None:
        """A sysctl below net/; None where the kernel has none of that name, or it can't be read."""
        try:
            return self.place.sysctl(name)
        except (UsageError, Unavailable):
            return None

    def remedy(self, text: str) -> str:
        """What mends something, told so that it is done in this network, if it is a command for one."""
        if self.own or not text.startswith(("ip ", "sysctl ", "nft ")):
            return text
        return f"in that network (nsenter --target {self._pid} --net): {text}"

    def file(self, path: str) -> Path:
        """A file, by the name that the programs of this network know it by."""
        return self._root / path.lstrip("/")

    def table(self, name: str) -> str:
        """A file below /proc/net, as this network has it. Raises OSError."""
        return (self._proc / "net" / name).read_text()

    def device(self, name: str = "lo") -> Device | None:
        """An interface; None if there is none of that name. Raises Unavailable."""
        with self._routing() as channel:
            links = [
                (_LINK.unpack_from(message), attributes(message[_LINK.size :]))
                for message in dump(channel, _RTM_GETLINK, bytes(_LINK.size))
            ]
            addresses = list(dump(channel, _RTM_GETADDR, bytes(_ADDRESS.size)))
        for (_, _, index, flags, _), told in links:
            if told[_IFLA_IFNAME].rstrip(b"\0").decode() == name:
                (mtu,) = struct.unpack("=I", told[_IFLA_MTU])
                return Device(index, bool(flags & _IFF_UP), mtu, tuple(_addresses(addresses, index)))
        return None

    def route(self, address: str) -> Route:
        """The route that the kernel would take to an address. Raises Unavailable."""
        family = family_of(address)
        packed = socket.inet_pton(family, address)
        request = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
        request += struct.pack("=HH", 4 + len(packed), _RTA_DST) + packed
        with self._routing() as channel:
            try:
                message = ask(channel, _RTM_GETROUTE, request)
            except OSError as error:
                if error.errno in _REFUSALS:
                    return Route(_REFUSALS[error.errno])
                raise Unavailable(f"the route to {address}", errno=error.errno, fix="See lo, above") from error
        kind = _ROUTE.unpack_from(message)[7]
        told = attributes(message[_ROUTE.size :])
        (interface,) = struct.unpack("=i", told.get(_RTA_OIF, bytes(4)))
        return Route(_KINDS.get(kind, f"of the kind {kind}"), interface)

    def _routing(self) -> socket.socket:
        return self.socket_at(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


def _addresses(messages: list[bytes], interface: int) -> Iterator[tuple[str, int]]:
    """Those of one interface, each with its prefix length."""
    for message in messages:
        family, prefix, _, _, index = _ADDRESS.unpack_from(message)
        told = attributes(message[_ADDRESS.size :])
        packed = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS)  # the other is the peer's, if there is one
        if index == interface and packed and family in (socket.AF_INET, socket.AF_INET6):
            yield socket.inet_ntop(family, packed), prefix


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 if it has a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET
