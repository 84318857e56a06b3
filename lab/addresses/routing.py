"""What the kernel of a network would do with a packet for an address. It is asked (rtnetlink(7)); nothing is sent."""

from __future__ import annotations

import errno
import ipaddress
from dataclasses import asdict, dataclass
from typing import Any

from lab.addresses.forms import embedded_ipv4, rfc5952, scope
from lab.addresses.registry import IPAddress, kind_of
from lab.errors import UsageError, errno_name
from lab.taps import rtnetlink
from lab.taps.places import SocketAt

__all__ = ["Loopback", "Net", "Way", "look", "loopback", "way", "zone_index"]

_SAID = {
    errno.ENETUNREACH: "no route leads there",
    errno.EHOSTUNREACH: "a route says that it can't be reached",
    errno.EACCES: "a route prohibits it",
    errno.EINVAL: "a route throws it away (blackhole)",
}


@dataclass(frozen=True)
class Net:
    """The interfaces and addresses of a network, as they are now."""

    socket_at: SocketAt
    interfaces: tuple[rtnetlink.Interface, ...]
    addresses: tuple[rtnetlink.Address, ...]

    def name(self, index: int) -> str:
        """What an interface is called."""
        return next((each.name for each in self.interfaces if each.index == index), f"interface {index}")

    def is_up(self, device: str) -> bool:
        """Whether an interface is switched on."""
        return any(each.flags & rtnetlink.IFF_UP for each in self.interfaces if each.name == device)

    def is_loopback(self, device: str) -> bool:
        """Whether an interface is the loopback one."""
        return any(each.flags & rtnetlink.IFF_LOOPBACK for each in self.interfaces if each.name == device)


@dataclass(frozen=True)
class Way:
    """Where a packet would go.

    asked: the address that the kernel was asked about, which for some is another than the one that was given. kind:
    "local", "unicast", "broadcast", "multicast", "anycast"; None, with an errno and a text, if there is no way. device,
    source, gateway, prefix, table: see ``rtnetlink.Decision``.
    """

    asked: str | None
    kind: str | None = None
    device: str | None = None
    source: str | None = None
    gateway: str | None = None
    prefix: str | None = None
    table: int | None = None
    errno: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


@dataclass(frozen=True)
class Loopback:
    """Whether an address is loopback: by the registry, and here, in truth; here is None if there is no way."""

    registry: bool
    here: bool | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def look(socket_at: SocketAt) -> Net:
    """The network that a socket would be opened in. Raises Unavailable."""
    return Net(socket_at, tuple(rtnetlink.interfaces(socket_at)), tuple(rtnetlink.addresses(socket_at)))


def zone_index(net: Net, zone: str | None) -> int:
    """The interface that a zone names, by its name or number; 0 without a zone. Raises UsageError if there is none."""
    if zone is None:
        return 0
    for each in net.interfaces:
        if zone in (each.name, str(each.index)):
            return each.index
    known = ", ".join(each.name for each in net.interfaces)
    raise UsageError(f"no interface {zone!r} here: give a zone of {known}")


def way(net: Net, address: IPAddress, zone: str | None = None) -> Way:
    """Where a packet for an address would go. Raises UsageError for a zone that there is not, Unavailable."""
    interface = zone_index(net, zone)
    kind = kind_of(address)
    asked: IPAddress = address
    if kind == "mapped":  # a socket of IPv6 sends IPv4 then
        asked = embedded_ipv4(address) or address
    elif address == ipaddress.IPv6Address("::"):  # as Linux takes a destination of none (tcp_v6_connect, udpv6_sendmsg)
        asked = ipaddress.IPv6Address("::1")
    elif address.version == 6 and not interface and scope(address) in ("link-local", "interface-local"):
        return Way(None, errno=errno.EINVAL, error="of which link? that takes a zone")
    text = rfc5952(asked) if asked.version == 4 else str(asked)
    try:
        found = rtnetlink.decision(net.socket_at, text, interface)
    except OSError as error:
        number = error.errno or 0
        return Way(text, errno=number, error=f"{_SAID.get(number, 'the kernel refuses')}: {errno_name(number)}")
    device = net.name(found.interface)
    return Way(text, found.kind, device, found.source, found.gateway, found.prefix, found.table)


def loopback(net: Net, address: IPAddress, found: Way) -> Loopback:
    """Whether what is sent to an address stays on this machine, and comes back over lo."""
    inner = embedded_ipv4(address) if kind_of(address) == "mapped" else None
    registry = kind_of(inner or address) == "loopback"
    if found.kind is None or found.device is None:
        return Loopback(registry, None, found.error or "the kernel has no way")
    if not net.is_up(found.device):  # local routes outlive it
        return Loopback(registry, None, f"{found.device} is down: what is sent there is lost")
    if net.is_loopback(found.device):
        return Loopback(registry, True, _why_here(net, address, found, registry))
    if registry:
        why = f"a route sends it out by {found.device}, whatever the registry says"
    elif found.kind in ("broadcast", "multicast"):
        why = f"it goes out by {found.device}, to whoever listens there"
    else:
        why = f"it goes out by {found.device}"
    return Loopback(registry, False, why)


def _why_here(net: Net, address: IPAddress, found: Way, registry: bool) -> str:
    if registry:
        return f"it stays on this machine ({found.kind}, over {found.device})"
    if address.is_unspecified:
        return f"as a destination, Linux takes it for this machine, over {found.device}"
    for own in net.addresses:
        if found.asked is not None and ipaddress.ip_address(own.address) == ipaddress.ip_address(found.asked):
            return (
                f"it is this machine's own, of {net.name(own.interface)}, and own addresses go over {found.device} too"
            )
    return f"{found.kind}, over {found.device}, by a route of this machine"
