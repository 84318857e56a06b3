"""scapy's idea of the machine, for the time of a ``with`` block: another network's interfaces, routes and sockets."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from typing import Any

import scapy.all  # noqa: F401 - sets up all of conf, which nothing must do within the block
from scapy.config import conf
from scapy.interfaces import InterfaceProvider, NetworkInterface, NetworkInterfaceDict
from scapy.route import Route
from scapy.route6 import Route6
from scapy.utils import atol, itom
from scapy.utils6 import construct_source_candidate_set, in6_getscope

from lab.taps import rtnetlink
from lab.taps.places import SocketAt
from lab.taps.supersockets import L2Socket, L3Socket, ListenSocket

__all__ = ["in_network"]

#: What of scapy's configuration speaks of a network.
_NAMES = ("L2listen", "L2socket", "L3socket", "L3socket6", "route", "route6", "ifaces", "iface")
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000
_MULTICAST_METRIC = 250  # as scapy has it


@contextlib.contextmanager
def in_network(socket_at: SocketAt) -> Iterator[None]:
    """Has scapy use sockets that `socket_at` opens, and know their network. May be nested. Raises Unavailable."""
    before = {name: getattr(conf, name) for name in _NAMES}
    own = {"socket_at": staticmethod(socket_at)}
    ifaces = NetworkInterfaceDict()
    ifaces.register_provider(functools.partial(_Provider, socket_at))
    try:
        conf.L2listen = type("ListenSocket", (ListenSocket,), own)
        conf.L2socket = type("L2Socket", (L2Socket,), own)
        conf.L3socket = conf.L3socket6 = type("L3Socket", (L3Socket,), own)
        conf.route, conf.route6 = _Route(socket_at), _Route6(socket_at)
        conf.ifaces = ifaces
        conf.netcache.flush()  # neighbours of one network are none of the other's
        ifaces.reload()
        yield
    finally:
        for name, value in before.items():
            setattr(conf, name, value)
        conf.netcache.flush()


class _Provider(InterfaceProvider):  # type: ignore[misc] # scapy has no types
    """The interfaces of a network, each with the sockets that ``conf`` names."""

    name = "lab"

    def __init__(self, socket_at: SocketAt) -> None:
        self._socket_at = socket_at

    def load(self) -> dict[str, Any]:
        addresses = rtnetlink.addresses(self._socket_at)
        found = {}
        for each in rtnetlink.interfaces(self._socket_at):
            data = {
                "name": each.name,
                "network_name": each.name,
                "description": each.name,
                "index": each.index,
                "flags": each.flags,
                "type": each.hardware,
                "mac": each.mac,
                "ips": [address.address for address in addresses if address.interface == each.index],
            }
            found[each.name] = NetworkInterface(self, data)
        return found

    def _l3socket(self, dev: Any, ipv6: bool) -> Any:  # noqa: ARG002 - scapy would have others for lo, and for IPv6
        return conf.L3socket

    def _is_valid(self, dev: Any) -> bool:
        return bool(dev.flags & _IFF_UP)


class _Route(Route):  # type: ignore[misc]
    """scapy's table of IPv4 routes, read from a network."""

    def __init__(self, socket_at: SocketAt) -> None:
        self._socket_at = socket_at
        self.resync()

    def resync(self) -> None:
        self.invalidate_cache()
        interfaces = {each.index: each for each in rtnetlink.interfaces(self._socket_at)}
        self.routes = [
            (
                atol(each.destination),
                itom(each.prefix),
                each.gateway or _NOWHERE4,
                conf.loopback_name if each.local else interfaces[each.interface].name,
                each.source or _NOWHERE4,
                each.metric,
            )
            for each in rtnetlink.routes(self._socket_at, socket.AF_INET)
        ]
        for each in rtnetlink.addresses(self._socket_at):
            if "." in each.address and interfaces[each.interface].flags & _IFF_MULTICAST:
                name = interfaces[each.interface].name
                self.routes.append((0xE0000000, 0xF0000000, _NOWHERE4, name, each.address, _MULTICAST_METRIC))


class _Route6(Route6):  # type: ignore[misc]
    """scapy's table of IPv6 routes, read from a network."""

    def __init__(self, socket_at: SocketAt) -> None:
        self._socket_at = socket_at
        self.resync()

    def resync(self) -> None:
        self.invalidate_cache()
        names = {each.index: each.name for each in rtnetlink.interfaces(self._socket_at)}
        multicast = {each.index for each in rtnetlink.interfaces(self._socket_at) if each.flags & _IFF_MULTICAST}
        own: dict[int, list[str]] = {}
        for address in rtnetlink.addresses(self._socket_at):
            if ":" in address.address:
                own.setdefault(address.interface, []).append(address.address)
        self.routes = []
        for each in rtnetlink.routes(self._socket_at, socket.AF_INET6):
            name = names[each.interface]
            scoped = ((text, in6_getscope(text), name) for text in own.get(each.interface, []))
            if sources := construct_source_candidate_set(each.destination, each.prefix, scoped):
                over = conf.loopback_name if each.local else name
                self.routes.append((each.destination, each.prefix, each.gateway or "::", over, sources, each.metric))
        for index, texts in own.items():
            if index in multicast:
                self.routes.append(("ff00::", 8, "::", names[index], texts, _MULTICAST_METRIC))
        self.ipv6_ifaces = {route[3] for route in self.routes}


_NOWHERE4 = "0.0.0.0"  # noqa: S104 - scapy's word for none
