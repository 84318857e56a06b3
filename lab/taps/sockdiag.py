"""The TCP and UDP sockets of a network namespace, as the kernel lists them (sock_diag(7)), and whose they are."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lab.taps.netlink import dump

__all__ = ["NETLINK_SOCK_DIAG", "PROTOCOLS", "Owner", "Socket", "list_sockets", "owners"]

NETLINK_SOCK_DIAG = 4  # linux/netlink.h
#: Those that are listed.
PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_REQUEST = struct.Struct("=BBxxI48x")  # inet_diag_req_v2: family, protocol, states; all sockets
# inet_diag_msg: family, state; ports, addresses, device and cookie; timers, queues, user; inode
_SOCKET = struct.Struct("=BBxx2s2s16s16s12x16xI")
_TIME_WAIT, _LISTENING, _ALL = 6, 10, 0xFFF  # net/tcp_states.h
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


def _address(family: int, packed: bytes) -> bytes:
    if family == socket.AF_INET:
        return packed[:4]
    return packed[12:] if packed.startswith(_V4_IN_V6) else packed


def owners(inodes: Iterable[int], root: Path = Path("/proc")) -> dict[int, set[Owner]]:
    """The processes that have each of these sockets open, of those that we may look at. root: where /proc lies."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[Owner]] = {}
    for process in os.listdir(root):  # noqa: PTH208 - names are all that is needed, fast
        if not process.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended, or is none of ours
            folder = f"{root}/{process}"
            for descriptor in os.listdir(f"{folder}/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):  # it was closed meanwhile
                    inode = wanted.get(os.readlink(f"{folder}/fd/{descriptor}"))  # noqa: PTH115
                    if inode is not None:
                        name = Path(folder, "comm").read_bytes().rstrip(b"\n").decode(errors="replace")
                        found.setdefault(inode, set()).add(Owner(int(process), name))
    return found
