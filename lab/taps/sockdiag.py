"""The TCP and UDP sockets of a network namespace, as the kernel lists them (sock_diag(7)), and whose they are."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lab.taps.netlink import dump

__all__ = [
    "EVERY_STATE", "NETLINK_SOCK_DIAG", "OPEN_STATES", "PROTOCOLS", "Bound", "Owner", "Socket", "list_bound",
    "list_sockets", "owners", "owners_and_hidden",
]  # fmt: skip

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
#: Those that are listed.
PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_REQUEST = struct.Struct("=BBxxI48x")  # inet_diag_req_v2: family, protocol, states; all sockets
# inet_diag_msg: family, state; ports, addresses, device and cookie; timers, queues, user; inode
_SOCKET = struct.Struct("=BBxx2s2s16s16s12x16xI")
# The same with device, ms that a timer has left, what waits in the queues (of a listening socket: connections that wait
# to be accepted, and how many may), and user.
_BOUND = struct.Struct("=BBxx2s2s16s16sI8xIIIII")
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_INET_DIAG_SKV6ONLY = 11  # linux/inet_diag.h
_TIME_WAIT, _CLOSED, _LISTENING = 6, 7, 10  # net/tcp_states.h
_TCP_STATES = {
    1: "established", 2: "syn-sent", 3: "syn-received", 4: "fin-wait-1", 5: "fin-wait-2", _TIME_WAIT: "time-wait",
    _CLOSED: "bound", 8: "close-wait", 9: "last-ack", _LISTENING: "listen", 11: "closing", 12: "syn-received",
}  # fmt: skip
_UDP_STATES = {1: "connected", _CLOSED: "bound"}
#: Sets of states to ask for: all that there are, and those in which a socket takes what anybody sends.
EVERY_STATE = 0xFFFF & ~1
OPEN_STATES = 1 << _LISTENING | 1 << _CLOSED
_ALL = 0xFFF
#: Those that a process may have. The kernel looks through all others for nothing: without them it takes half the time.
_STATES = _ALL & ~(1 << _TIME_WAIT)
_V4_IN_V6 = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


class Socket(NamedTuple):
    """Addresses are packed, IPv4 ones with 4 bytes even of an IPv6 socket; `remote_port` is 0 without a peer."""

    protocol: str
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    listening: bool
    inode: int


class Bound(NamedTuple):
    """A socket with a port of its own, in full.

    family: the socket's, 4 or 6; ``local`` and ``remote`` as in ``Socket``. state: "listen", "established", "time-wait"
    and so on; "bound" of TCP that neither listens nor connects, and of UDP without a peer; "connected" of UDP with one.
    device: the index of the interface that it is bound to, or 0. v6only: of an IPv6 socket without a peer; else None.
    waiting, room: of one that listens, connections that wait to be accepted, and how many may. left_ns: until a timer
    of its ends, as in TIME_WAIT. uid: its user's, in the user namespace that asks. inode: 0 if no process has it.
    """

    protocol: str
    family: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    state: str
    device: int
    v6only: bool | None
    waiting: int
    room: int
    left_ns: int
    uid: int
    inode: int


class Owner(NamedTuple):
    """A process and its name, the kernel's ``comm``."""

    pid: int
    name: str


def list_sockets(netlink: socket.socket) -> Iterator[Socket]:
    """The sockets that processes have in the namespace of `netlink`. Raises OSError.

    netlink: a ``NETLINK_SOCK_DIAG`` socket (AF_NETLINK, SOCK_RAW).
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol, name in PROTOCOLS.items():
            request = _REQUEST.pack(family, protocol, _STATES)
            for told in dump(netlink, _SOCK_DIAG_BY_FAMILY, request):
                family_, state, local_port, remote_port, local, remote, inode = _SOCKET.unpack_from(told)
                if inode:  # else no process has it yet, or any more
                    yield Socket(
                        name,
                        _address(family_, local),
                        int.from_bytes(local_port, "big"),
                        _address(family_, remote),
                        int.from_bytes(remote_port, "big"),
                        protocol == socket.IPPROTO_TCP and state == _LISTENING,
                        inode,
                    )


def list_bound(netlink: socket.socket, states: int = EVERY_STATE) -> Iterator[Bound]:
    """The sockets that have a port in the namespace of `netlink` and are in one of these states. Raises OSError.

    That is more than ``list_sockets`` tells, and takes longer. Those of TCP that are only bound are asked for with all
    states; kernels before 6.8 don't list them.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol, name in PROTOCOLS.items():
            for told in dump(netlink, _SOCK_DIAG_BY_FAMILY, _REQUEST.pack(family, protocol, states)):
                found = _bound(name, told)
                if found.local_port:
                    yield found


def _bound(protocol: str, told: bytes) -> Bound:
    family, state, port, remote_port, local, remote, device, left_ms, waiting, room, uid, inode = _BOUND.unpack_from(
        told
    )
    return Bound(
        protocol=protocol,
        family=4 if family == socket.AF_INET else 6,
        local=_address(family, local),
        local_port=int.from_bytes(port, "big"),
        remote=_address(family, remote),
        remote_port=int.from_bytes(remote_port, "big"),
        state=(_TCP_STATES if protocol == "tcp" else _UDP_STATES).get(state, f"state {state}"),
        device=device,
        v6only=_v6only(told[_BOUND.size :]) if family == socket.AF_INET6 else None,
        waiting=waiting,
        room=room,
        left_ns=left_ms * 1_000_000,
        uid=uid,
        inode=inode,
    )


def _v6only(attributes: bytes) -> bool | None:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == _INET_DIAG_SKV6ONLY:
            return bool(attributes[_ATTRIBUTE.size])
        attributes = attributes[max(length + -length % 4, _ATTRIBUTE.size) :]
    return None


def _address(family: int, packed: bytes) -> bytes:
    if family == socket.AF_INET:
        return packed[:4]
    return packed[12:] if packed.startswith(_V4_IN_V6) else packed


def owners(inodes: Iterable[int], root: Path = Path("/proc")) -> dict[int, set[Owner]]:
    """The processes that have each of these sockets open, of those that we may look at. root: where /proc lies."""
    return owners_and_hidden(inodes, root)[0]


def owners_and_hidden(inodes: Iterable[int], root: Path = Path("/proc")) -> tuple[dict[int, set[Owner]], int]:
    """What ``owners`` returns, and how many processes we may not look at."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[Owner]] = {}
    hidden = 0
    for process in os.listdir(root):  # noqa: PTH208 - names are all that is needed, fast
        if not process.isdecimal():
            continue
        try:
            _look_at(f"{root}/{process}", wanted, found)
        except PermissionError:
            hidden += 1
        except OSError:  # it has ended
            continue
    return found, hidden


def _look_at(folder: str, wanted: dict[str, int], found: dict[int, set[Owner]]) -> None:
    """Adds one process to those that have the sockets it has open. Raises OSError."""
    for descriptor in os.listdir(f"{folder}/fd"):  # noqa: PTH208
        try:
            inode = wanted.get(os.readlink(f"{folder}/fd/{descriptor}"))  # noqa: PTH115
        except FileNotFoundError:  # it was closed meanwhile
            continue
        if inode is not None:
            name = Path(folder, "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
            found.setdefault(inode, set()).add(Owner(int(folder.rpartition("/")[2]), name))
