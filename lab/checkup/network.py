"""The network whose loopback is examined, and what can be asked of it: sockets, sysctls, devices and routes."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from lab.errors import Unavailable, UsageError, errno_name
from lab.taps.rtnetlink import IFF_UP, addresses, decision, interfaces
from lab.world import Place

__all__ = ["LOOPBACK", "Device", "Network", "Route", "family_of", "is_loopback"]

LOOPBACK = {4: "127.0.0.1", 6: "::1"}

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
    """A network. Nothing is changed in it.

    place: where its sockets are opened. whose: for prose. own: whether it is that of this process.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.own = place.kind == "host"
        pid = place.kind if place.kind.isdecimal() else getattr(place, "pid", None)
        self.whose = "this machine's own" if self.own else f"process {pid}'s"
        self._pid = pid
        self._proc = Path("/proc/self" if self.own else f"/proc/{pid}")

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

    def table(self, name: str) -> str:
        """A file below /proc/net, as this network has it. Raises OSError."""
        return (self._proc / "net" / name).read_text()

    def device(self, name: str = "lo") -> Device | None:
        """An interface; None if there is none of that name. Raises Unavailable."""
        own = [each for each in interfaces(self.socket_at) if each.name == name]
        if not own:
            return None
        index = own[0].index
        have = tuple((each.address, each.prefix) for each in addresses(self.socket_at) if each.interface == index)
        return Device(index, bool(own[0].flags & IFF_UP), own[0].mtu, have)

    def route(self, address: str) -> Route:
        """The route that the kernel would take to an address. Raises Unavailable."""
        try:
            found = decision(self.socket_at, address)
        except OSError as error:
            if isinstance(error, Unavailable):
                raise
            number = error.errno or 0
            return Route(_REFUSALS.get(number, errno_name(number)))
        return Route(found.kind, found.interface)


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 if it has a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_loopback(address: str) -> bool:
    """127.0.0.0/8, ::1, and 127.0.0.0/8 mapped into IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
