"""Sockets of the kinds that ask a kernel for a handshake: tcp-connect, and tcp-syn."""

from __future__ import annotations

import errno
import socket
import struct

from lab.conditions import Condition
from lab.errors import Unavailable
from lab.world.ends import (
    DOMAINS,
    Closable,
    Endpoints,
    ask_for_ttl,
    bind_to_card,
    bind_to_near_address,
    drain,
    pass_only,
    without_device,
)
from lab.world.link import Link
from lab.world.place import Place, host_socket
from lab.world.stamping import Stamping, ask_for_rx_stamps

__all__ = ["open_connect", "open_syn"]

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h
#: Half-open connections that a listener may hold, where a wire loses what would end them; the kernel's own limit.
_BACKLOG = 4096
_RAW_FIX = "Leave --world out (a private world needs no rights), run as root, or give --probe tcp-connect"
_SOURCE_PORT_AT, _DESTINATION_PORT_AT = 0, 2  # in a TCP header


def open_connect(place: Place, link: Link, condition: Condition, family: int, opened: list[Closable]) -> Endpoints:
    """A socket to connect with, and a listener of ours unless the condition names a server that is there already."""
    domain, target = DOMAINS[family], condition.target or link.far[family]
    card = link.devices.get("host")
    socket_at = host_socket if card else place.socket
    near = socket_at(domain, socket.SOCK_STREAM)
    opened.append(near)
    bind_to_card(near, card)
    near.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)  # each connection gets a port of its own
    bind_to_near_address(near, link, condition, family)
    near.setblocking(condition.wait == "block")
    if condition.server_port is not None:
        with socket_at(domain, socket.SOCK_DGRAM) as scout:
            bind_to_card(scout, card)
            scout.connect((target, condition.server_port))  # sends nothing: asks for the route
        return Endpoints(near, None, "tcp-connect", family, target, far_port=condition.server_port)
    far = place.socket(domain, socket.SOCK_STREAM, end=link.far_end)
    opened.append(far)
    # What it accepts inherits this: where our reset was lost, closing ends the connection with another.
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    port = _bind_far(far, target, family)
    far.listen(_BACKLOG)
    far.setblocking(False)
    wire = place.wires.get(link.name)
    return Endpoints(near, far, "tcp-connect", family, target, wire=wire, far_port=port)


def open_syn(place: Place, link: Link, condition: Condition, family: int, opened: list[Closable]) -> Endpoints:
    """A raw socket for SYNs and their replies, and what must be there meanwhile.

    A socket that is bound and doesn't listen keeps others from our port, and has the kernel reset what a SYN-ACK would
    begin; another one keeps the far port closed, or listens there.
    """
    domain, target = DOMAINS[family], condition.target or link.far[family]
    with place.socket(domain, socket.SOCK_DGRAM) as scout:
        bind_to_near_address(scout, link, condition, family)
        scout.connect((target, 9))  # sends nothing: asks for the address that will be sent from
        address = scout.getsockname()[0]
    reserved = place.socket(domain, socket.SOCK_STREAM)
    opened.append(reserved)
    reserved.bind((address, 0))
    near_port = int(reserved.getsockname()[1])
    far = place.socket(domain, socket.SOCK_STREAM, end=link.far_end)
    opened.append(far)
    far_port = _bind_far(far, target, family)
    if condition.port == "open":
        far.listen(_BACKLOG)
    try:
        near = place.socket(domain, socket.SOCK_RAW, socket.IPPROTO_TCP)
    except Unavailable as refused:
        if refused.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise Unavailable(f"no raw socket for {condition}", errno=refused.errno, fix=_RAW_FIX) from refused
    opened.append(near)
    pass_only(near, family, {_SOURCE_PORT_AT: far_port, _DESTINATION_PORT_AT: near_port})
    near.bind((address, 0))
    near.connect((target, 0))
    if family == 6:
        ask_for_ttl(near, family)
    stamping = Stamping(place)
    opened.append(stamping)
    ask_for_rx_stamps(near)
    drain(near)
    return Endpoints(
        near,
        None,
        "tcp-syn",
        family,
        target,
        wire=place.wires.get(link.name),
        near_port=near_port,
        far_port=far_port,
        kept=(reserved, far, stamping),
    )


def _bind_far(far: socket.socket, target: str, family: int) -> int:
    """Binds the far end to a port that is free, and returns that."""
    without_device(far, family)
    far.bind((target, 0))
    return int(far.getsockname()[1])
