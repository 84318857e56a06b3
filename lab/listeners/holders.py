"""Who has a port: the sockets of a network that have it, with their processes.

A port is held by more than what listens: a socket that is only bound, connections (also those that a server left behind
when it ended) and TIME_WAIT, which no process has (RFC 9293, 3.6.1). Each keeps ``bind`` from succeeding, the last two
unless SO_REUSEADDR is set, before, on the sockets of both sides (inet_csk_bind_conflict in
net/ipv4/inet_connection_sock.c).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.listeners.bound import address_text, all_bound, families, find_programs
from lab.listeners.programs import Program, end_command, user_name
from lab.listeners.reach import Reach, Surroundings, look, reach
from lab.taps.places import SocketAt
from lab.taps.sockdiag import Bound

__all__ = ["Holder", "find_holders"]

_TAKES_ALL = ("listen", "bound")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Sockets of one kind, and of the same processes, that have a port.

    state: "listen", "bound" (of TCP: but does not listen; of UDP: takes from all), "connected" (UDP), "time-wait",
    "established" and TCP's other states. count: how many there are. remote: the peer of a single one that has one,
    such as "[::1]:40000". left_ns: how long the kernel keeps the last of those in TIME_WAIT. network: None for the one
    that was asked about, else the number of a process that is in the other one. The rest: as of ``Listener``.
    """

    protocol: str
    family: int
    families: tuple[int, ...]
    address: str
    port: int
    v6only: bool | None
    device: str | None
    state: str
    count: int
    remote: str | None
    left_ns: int | None
    programs: tuple[Program, ...]
    user: str
    reach: Reach | None
    waiting: int | None = None
    room: int | None = None
    network: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether it takes what anybody sends: it listens, or is UDP's without a peer."""
        return self.state == "listen" or (self.protocol == "udp" and self.state == "bound")

    @property
    def end_command(self) -> str | None:
        """The command that would end its processes, or None if there is none to name."""
        return end_command(self.programs, self.port) or None

    def to_json(self) -> dict[str, Any]:
        """As in the JSON document."""
        first = self.programs[0] if self.programs else None
        return {
            "protocol": self.protocol,
            "family": self.family,
            "families": list(self.families),
            "address": self.address,
            "port": self.port,
            "v6only": self.v6only,
            "device": self.device,
            "state": self.state,
            "count": self.count,
            "remote": self.remote,
            "left_ns": self.left_ns,
            "pid": first.pid if first else None,
            "process": first.name if first else None,
            "user": self.user or None,
            "since_ns": first.since_ns if first else None,
            "processes": [each.to_json() for each in self.programs],
            "reach": self.reach.kind if self.reach else None,
            "reached_by": self.reach.who if self.reach else None,
            "warning": self.reach.warning if self.reach else None,
            "waiting": self.waiting,
            "room": self.room,
            "network": self.network,
            "end_command": self.end_command,
        }


def find_holders(
    port: int, *, socket_at: SocketAt = socket.socket, network: int | None = None
) -> tuple[list[Holder], int]:
    """Who has a port in one network, what listens first; and how many processes may not be looked at.

    socket_at: opens a socket there; the caller's own network by default. Raises Unavailable.
    """
    found = [each for each in all_bound(socket_at) if each.local_port == port]
    if not found:
        return [], 0
    around = look(socket_at)
    programs, hidden = find_programs(each.inode for each in found)
    kinds: dict[tuple[Any, ...], list[Bound]] = {}
    for each in found:
        have = programs.get(each.inode, ())
        key = (each.protocol, each.family, each.local, each.device, each.v6only, each.state, each.uid, have)
        kinds.setdefault(key, []).append(each)
    holders = [_holder(same, programs.get(same[0].inode, ()), around, network) for same in kinds.values()]
    return sorted(holders, key=lambda each: (not each.takes_all, each.protocol, each.family, each.address)), hidden


def _holder(same: Sequence[Bound], programs: tuple[Program, ...], around: Surroundings, network: int | None) -> Holder:
    each = same[0]
    device = around.names.get(each.device, f"interface {each.device}") if each.device else None
    address = address_text(each.local, device)
    listens = each.state == "listen"
    nobodys = each.state == "time-wait"
    one = len(same) == 1 and each.remote_port
    return Holder(
        protocol=each.protocol,
        family=each.family,
        families=families(each),
        address=address,
        port=each.local_port,
        v6only=each.v6only,
        device=device,
        state=each.state,
        count=len(same),
        remote=_endpoint(address_text(each.remote), each.remote_port) if one else None,
        left_ns=max(each.left_ns for each in same) if nobodys else None,
        programs=programs,
        user="" if nobodys else (programs[0].user if programs else None) or user_name(each.uid),
        reach=_reach(reach(address, families(each), device, around), network) if each.state in _TAKES_ALL else None,
        waiting=each.waiting if listens else None,
        room=each.room if listens else None,
        network=network,
    )


def _reach(found: Reach, network: int | None) -> Reach:
    """Seen from outside, what only its own machine reaches is what only its own network namespace does."""
    if network is not None and found.kind in ("machine", "namespace"):
        return Reach("namespace", "its own namespace only")
    return found


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
