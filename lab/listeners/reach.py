"""Who can reach a socket, told from what it is bound to and from the network that it is in. Pure, but for ``look``.

It is the binding that is judged, not a firewall: what one lets through is found by asking (``lab ports PORT``).
Linux takes a packet to any of its own addresses on any of its interfaces (the weak host model of RFC 1122, 3.3.4.2), so
that binding to one address keeps nobody out who can send to that address by another way.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.taps.places import SocketAt
from lab.taps.rtnetlink import interfaces, routes

__all__ = ["Reach", "Surroundings", "look", "reach"]

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8  # linux/if.h
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_Net = ipaddress.IPv4Network | ipaddress.IPv6Network
_INSTEAD = {(4,): "127.0.0.1", (6,): "::1", (4, 6): "127.0.0.1 and ::1"}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What of a network decides who reaches its sockets.

    names: of its interfaces, by index. alone: no interface but loopback is up. own: the prefixes whose addresses are
    its own, each with the interface that they are of: those of the kernel's "local" routes. broadcasts: addresses that
    mean all neighbours.
    """

    names: dict[int, str]
    alone: bool
    own: tuple[tuple[_Net, str], ...]
    broadcasts: frozenset[str] = frozenset()

    def of(self, address: str) -> str | None:
        """The interface that has this address, or None if it is none of this network's own. A zone is not looked at."""
        packed = ipaddress.ip_address(address.partition("%")[0])
        for prefix, device in self.own:
            if packed.version == prefix.version and packed in prefix:
                return device
        return None


@dataclass(frozen=True)
class Reach:
    """Who reaches a socket. ``warning`` is there if that is everybody.

    kind: "machine" (this one only), "namespace" (this one only: nothing but lo is there), "everyone" (by every
    interface), "address" (whoever can send to that one), "interface" (of that one), "link" (its neighbours), "group"
    (by multicast or broadcast), "nobody" (its address is not here now). who: that in words.
    """

    kind: str
    who: str
    warning: str | None = None


def look(socket_at: SocketAt) -> Surroundings:
    """Asks the kernel for what `reach` has to know. socket_at: opens a socket in that network. Raises Unavailable."""
    found = interfaces(socket_at)
    names = {each.index: each.name for each in found}
    own: list[tuple[_Net, str]] = []
    broadcasts = {"255.255.255.255"}
    for family in _families(socket_at):
        for route in routes(socket_at, family):
            prefix = ipaddress.ip_network((route.destination, route.prefix))
            if route.local:
                own.append((prefix, names.get(route.interface, "?")))
            elif prefix.version == 4 and route.gateway is None and prefix.prefixlen < 31:
                broadcasts.add(str(prefix.broadcast_address))
    own.sort(key=lambda each: -each[0].prefixlen)
    alone = not any(each.flags & _IFF_UP and not each.flags & _IFF_LOOPBACK for each in found)
    return Surroundings(names=names, alone=alone, own=tuple(own), broadcasts=frozenset(broadcasts))


def _families(socket_at: SocketAt) -> Iterator[socket.AddressFamily]:
    """Those that this kernel has: asked for IPv6 routes, one without answers with those of IPv4."""
    yield socket.AF_INET
    try:
        socket_at(socket.AF_INET6, socket.SOCK_DGRAM, 0).close()
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
    else:
        yield socket.AF_INET6


def reach(address: str, families: Iterable[int], device: str | None, around: Surroundings) -> Reach:
    """Who reaches a socket that is bound to this address, takes packets of these families, and of this device only.

    device: None for all.
    """
    bound = ipaddress.ip_address(address.partition("%")[0])
    if around.alone:
        return Reach("namespace", "this namespace only")
    if bound.is_loopback or device == "lo":
        return Reach("machine", "this machine only")
    if bound.is_unspecified:
        return _unspecified(address, tuple(sorted(families)), device)
    if bound.is_multicast or address in around.broadcasts:
        return Reach("group", "multicast to it" if bound.is_multicast else "broadcasts to it")
    if bound.is_link_local:
        return Reach("link", f"neighbours on {device or around.of(address) or 'its link'}")
    if device is not None:
        return Reach("interface", f"by {device} only")
    return _one(address, around)


def _unspecified(address: str, families: tuple[int, ...], device: str | None) -> Reach:
    if device is not None:
        return Reach("interface", f"by {device} only")
    takes = " and ".join(f"IPv{family}" for family in families)
    both = ", as it is not V6ONLY," if families == (4, 6) else ""
    warning = (
        f"open to all: {address} takes {takes}{both} by every interface; bind to {_INSTEAD[families]} what only this "
        "machine shall reach"
    )
    return Reach("everyone", "every interface", warning)


def _one(address: str, around: Surroundings) -> Reach:
    owner = around.of(address)
    if owner is None:
        return Reach("nobody", "nobody (address gone)")
    return Reach("address", f"its address ({owner})")
