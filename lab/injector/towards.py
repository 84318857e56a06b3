"""Where packets are injected, as far as it decides how they leave and whether they arrive."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from functools import partial

from lab.conditions import LINKS
from lab.errors import Unavailable, UsageError
from lab.taps import rtnetlink
from lab.taps.places import SocketAt
from lab.taps.tapping import link_type_of
from lab.world import Place
from lab.world.place import ENDS, rights_fix

__all__ = ["ETHERNET", "LOOPBACK", "Towards", "network_of", "own_networks", "towards"]

#: ARPHRD_* of devices that take Ethernet frames (linux/if_arp.h).
ETHERNET, LOOPBACK = 1, 772
_SIOCGIFINDEX, _SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR = 0x8933, 0x8913, 0x8921, 0x8927  # linux/sockios.h
_IFF_UP = 1
_OTHER_END = {"near": "far", "far": "near"}
_WHOSE = {"host": "this machine", "new": "this world"}
_INSTEAD = "Inject in a private world, which takes no rights (--world new)"


@dataclass(frozen=True, kw_only=True)
class Towards:
    """An interface, and what is known of the other side of it.

    name: as users call it: a link or an interface. device, ifindex, mtu, hardware (ARPHRD_*), mac: of the interface
    that packets leave by. socket_at: opens sockets in its network. world: "new", "host", or a process's number.
    routed_in: IPv4 frames from lo itself are delivered there, as route_localnet and accept_local are both set.
    receiver: opens sockets where packets arrive; None: that is not known. far_device, far_mac, addresses: of the
    interface where they arrive, and the networks that are its network's own ("127.0.0.0/8"). far_mac is the router's
    where one lies on the way (routed), and None where packets have no such header. tap: the descriptor that packets for
    the far tun or tap device can be written to; None: there is none.
    """

    name: str
    device: str
    ifindex: int
    mtu: int
    hardware: int
    mac: bytes
    socket_at: SocketAt
    world: str
    routed_in: bool
    receiver: SocketAt | None
    far_device: str | None
    far_mac: bytes | None
    addresses: tuple[str, ...]
    tap: int | None = None
    routed: bool = False


def towards(place: Place, where: str) -> Towards:
    """The interface that `where` names: a link, which means its near device, an interface, or END:DEVICE.

    Raises UsageError if there is none of that name, or it can't be injected into; Unavailable if it is down, could not
    be made, or for want of rights.
    """
    end, device = _named(place, where)
    socket_at = _opener(place, end)
    with socket_at(socket.AF_INET, socket.SOCK_DGRAM, 0) as channel:
        near = _Device(channel, device)
    if link_type_of(near.hardware) is None:
        raise UsageError(f"cannot inject into {device}, whose frames are of a kind unknown to lab: give {_here(place)}")
    if not near.flags & _IFF_UP:
        raise Unavailable(f"{device} is down", errno=errno.ENETDOWN, fix=f"Bring it up (ip link set {device} up)")
    receiver = socket_at if near.hardware == LOOPBACK else _receiver(place, end, device)
    far: _Device | None = None  # where they arrive
    addresses: tuple[str, ...] = ()
    if receiver is socket_at:
        far = near
    elif receiver is not None:
        with receiver(socket.AF_INET, socket.SOCK_DGRAM, 0) as channel:
            far = _Device(channel, device)
    if receiver is not None:
        addresses = own_networks(receiver)
    hop = next((link.hops.get(end) for link in place.links.values() if link.devices.get(end) == device), None)
    taker = far
    if hop is not None:
        with place.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, end="middle") as channel:
            taker = _Device(channel, hop)
    return Towards(
        name=where,
        device=device,
        ifindex=near.index,
        mtu=near.mtu,
        hardware=near.hardware,
        mac=near.mac,
        socket_at=socket_at,
        world=place.kind,
        routed_in=near.hardware == LOOPBACK and _routes_in(place, device, end),
        receiver=receiver,
        far_device=device if far else None,
        far_mac=taker.mac if taker and taker.hardware in (ETHERNET, LOOPBACK) else None,
        addresses=addresses,
        tap=_tap(place, end, device),
        routed=hop is not None,
    )


def network_of(to: Towards) -> SocketAt | None:
    """What scapy has to ask of the network to build packets for it; None: it knows this machine's own."""
    return None if to.world == "host" else to.socket_at


class _Device:
    """What an interface says of itself (netdevice(7)), by a socket of its network."""

    def __init__(self, channel: socket.socket, name: str) -> None:
        request = struct.pack("16s24x", os.fsencode(name)[:15])
        try:
            index, flags, mtu, hardware = (
                fcntl.ioctl(channel, each, request)[16:]
                for each in (_SIOCGIFINDEX, _SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR)
            )
        except OSError as error:
            raise Unavailable(f"{name} went away", errno=error.errno, fix="Make it anew") from None
        self.index, self.mtu = struct.unpack_from("i", index)[0], struct.unpack_from("i", mtu)[0]
        self.flags, self.hardware = struct.unpack_from("H", flags)[0], struct.unpack_from("H", hardware)[0]
        self.mac = hardware[2:8]


def _named(place: Place, where: str) -> tuple[str, str]:
    """The end and the device that are meant."""
    if not isinstance(where, str):
        raise UsageError(f"{where!r} names no interface: give {_here(place)}")
    if where in place.links and "near" in (devices := place.links[where].devices):
        return "near", devices["near"]
    end, _, device = where.rpartition(":")
    if place.kind == "new" and end in ENDS and device in place.interfaces(end=end):
        return end, device
    if where in place.interfaces():
        return "near", where
    whose = _WHOSE.get(place.kind, "that process's network")
    for each in place.skipped:
        if each.link == where:
            raise Unavailable(f"{each.link}: {each.reason}", errno=each.errno, fix=each.fix)
    of_worlds = f"; {where} is a link of private worlds: --world new" if where in LINKS and place.kind != "new" else ""
    raise UsageError(f"{whose} has no interface {where!r}: give {_here(place)}{of_worlds}")


def _here(place: Place) -> str:
    links = (name for name, link in place.links.items() if "near" in link.devices)
    names = list(dict.fromkeys([*links, *place.interfaces()]))
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _opener(place: Place, end: str) -> SocketAt:
    """Opens sockets there, and says what to do where there is no right to."""

    def opened(family: int, kind: int, proto: int) -> socket.socket:
        try:
            return place.socket(family, kind, proto, end=end)
        except Unavailable as error:
            if place.kind == "new" or error.errno not in (errno.EPERM, errno.EACCES):
                raise
            what = "no right to inject into this network"
            raise Unavailable(what, errno=error.errno, fix=rights_fix(_INSTEAD)) from error

    return opened


def _routes_in(place: Place, device: str, end: str) -> bool:
    """Whether both sysctls are set, for all interfaces or for this one."""
    return all(
        any(place.sysctl(f"ipv4/conf/{each}/{name}", end=end) != "0" for each in ("all", device))
        for name in ("route_localnet", "accept_local")
    )


def _receiver(place: Place, end: str, device: str) -> SocketAt | None:
    """Where what leaves here arrives: in a private world, at the other end's device of the same name."""
    if place.kind != "new" or end not in _OTHER_END or device not in place.interfaces(end=_OTHER_END[end]):
        return None
    return partial(place.socket, end=_OTHER_END[end])


def own_networks(socket_at: SocketAt) -> tuple[str, ...]:
    """What is local to a network, as text ("127.0.0.0/8"). Raises OSError."""
    return tuple(
        f"{route.destination}/{route.prefix}"
        for family in (socket.AF_INET, socket.AF_INET6)
        for route in rtnetlink.routes(socket_at, family)
        if route.local
    )


def _tap(place: Place, end: str, device: str) -> int | None:
    """The descriptor whose other side is the far device, where a wire joins the two that changes nothing."""
    for name, wire in place.wires.items():
        link = place.links[name]
        if link.devices.get(end) == device and link.impaired is None:
            near, far = wire.ports
            return far if end == "near" else near
    return None
