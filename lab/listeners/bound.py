"""The listening sockets of a network, each with its processes and with who can reach it."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lab.errors import Unavailable
from lab.listeners.programs import Program, program, user_name
from lab.listeners.reach import Reach, Surroundings, look, reach
from lab.taps.places import SocketAt
from lab.taps.sockdiag import (
    EVERY_STATE,
    NETLINK_SOCK_DIAG,
    OPEN_STATES,
    Bound,
    list_bound,
    owners_and_hidden,
)
from lab.world.place import Place

__all__ = [
    "Listener",
    "address_text",
    "all_bound",
    "families",
    "find_programs",
    "list_listeners",
    "opener",
    "unseen",
]

_MODULES_FIX = "Load what lists them (modprobe tcp_diag udp_diag), where the kernel has it"


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A socket that takes what anybody sends: of TCP one that listens, of UDP one that is bound and has no peer.

    family: of the socket, 4 or 6. families: of what it takes: (4, 6) of "::" that is not ``v6only`` (None of IPv4).
    address: "0.0.0.0" and "::" stand for all; of IPv6 with a zone where it needs one. device: the interface that it is
    bound to, or None. programs: the processes that have it, the oldest first; none if they may not be seen. user: of
    the first, or whose socket it is. waiting, room: connections of TCP that wait to be accepted, and how many may.
    """

    protocol: str
    family: int
    families: tuple[int, ...]
    address: str
    port: int
    v6only: bool | None
    device: str | None
    programs: tuple[Program, ...]
    user: str
    reach: Reach
    waiting: int | None
    room: int | None

    @property
    def first(self) -> Program | None:
        """The oldest of its processes, of which the others are children as a rule; None if none may be seen."""
        return self.programs[0] if self.programs else None

    def to_json(self) -> dict[str, Any]:
        """A row of the JSON document."""
        first = self.first
        return {
            "protocol": self.protocol,
            "family": self.family,
            "families": list(self.families),
            "address": self.address,
            "port": self.port,
            "v6only": self.v6only,
            "device": self.device,
            "pid": first.pid if first else None,
            "process": first.name if first else None,
            "user": self.user,
            "since_ns": first.since_ns if first else None,
            "processes": [each.to_json() for each in self.programs],
            "reach": self.reach.kind,
            "reached_by": self.reach.who,
            "warning": self.reach.warning,
            "waiting": self.waiting,
            "room": self.room,
        }


def opener(place: Place, end: str = "near") -> SocketAt:
    """Opens sockets at one end of a place."""
    return partial(place.socket, end=end)


def list_listeners(socket_at: SocketAt = socket.socket) -> tuple[list[Listener], int]:
    """The listening sockets of a network, in order of protocol and port, and how many processes may not be looked at.

    socket_at: opens a socket there; that of the caller's own network by default. Raises Unavailable.
    """
    around = look(socket_at)
    found = all_bound(socket_at, OPEN_STATES)
    programs, hidden = find_programs(each.inode for each in found)
    rows = [_listener(each, around, programs.get(each.inode, ())) for each in found]
    return sorted(rows, key=lambda row: (row.protocol, row.port, row.family, row.address)), hidden


def all_bound(socket_at: SocketAt, states: int = EVERY_STATE) -> list[Bound]:
    """The sockets of a network that have a port and are in one of these states. Raises Unavailable."""
    try:
        with socket_at(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
            return list(list_bound(netlink, states))
    except OSError as error:
        raise Unavailable("the sockets can't be listed", errno=error.errno, fix=_MODULES_FIX) from error


def find_programs(inodes: Iterable[int]) -> tuple[Mapping[int, tuple[Program, ...]], int]:
    """By socket, the processes that have it, the oldest first; and how many processes may not be looked at."""
    owners, hidden = owners_and_hidden({inode for inode in inodes if inode})
    known = {owner: program(*owner) for have in owners.values() for owner in have}
    return {
        inode: tuple(sorted((known[owner] for owner in have), key=lambda each: (each.since_ns or 0, each.pid)))
        for inode, have in owners.items()
    }, hidden


def unseen(count: int, hidden: int) -> str:
    """Why `count` sockets have no process, and what to do. hidden: processes that may not be looked at."""
    sockets = "1 socket has" if count == 1 else f"{count:,} sockets have"
    if hidden:
        processes = "1 process" if hidden == 1 else f"{hidden:,} processes"
        if os.geteuid() == 0:
            return f"{sockets} no process that we may see: {processes} may not be looked at, even as root here"
        return (
            f"{sockets} no process that we may see: {processes} of other users may not be looked at; run it as root "
            "(sudo lab ports)"
        )
    return f"{sockets} no process here: the kernel's own, or those of another PID namespace, outside this container"


def families(each: Bound) -> tuple[int, ...]:
    """Of what the socket takes."""
    if each.family == 4 or len(each.local) == 4:
        return (4,)
    return (6,) if each.v6only or any(each.local) else (4, 6)


def address_text(packed: bytes, device: str | None = None) -> str:
    """A packed address as text; a link-local one with its zone."""
    found = ipaddress.ip_address(packed)
    zone = f"%{device}" if device and found.version == 6 and found.is_link_local else ""
    return f"{found}{zone}"


def _listener(each: Bound, around: Surroundings, programs: tuple[Program, ...]) -> Listener:
    device = around.names.get(each.device, f"interface {each.device}") if each.device else None
    address = address_text(each.local, device)
    tcp = each.protocol == "tcp"
    return Listener(
        protocol=each.protocol,
        family=each.family,
        families=families(each),
        address=address,
        port=each.local_port,
        v6only=each.v6only,
        device=device,
        programs=programs,
        user=(programs[0].user if programs else None) or user_name(each.uid),
        reach=reach(address, families(each), device, around),
        waiting=each.waiting if tcp else None,
        room=each.room if tcp else None,
    )
