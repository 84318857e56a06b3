"""Other network namespaces of this machine, such as those of containers and of ``lab exec``, and who has a port there.

Each has ports of its own, so that nobody there is in the way of a server here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.errors import Unavailable
from lab.listeners.bound import not_looked_at
from lab.listeners.holders import Holder, find_holders
from lab.taps.places import SocketAt
from lab.world import JoinedWorld, Place

__all__ = ["MAX_NETWORKS", "holders_elsewhere", "inode_of"]

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, since 5.14
#: Those that are looked into, at most: each takes a helper process for a tenth of a second.
MAX_NETWORKS = 64


@dataclass(frozen=True, kw_only=True)
class Network:
    """Another network namespace of this machine. pid: the lowest number of a process that is in it."""

    pid: int
    inode: int


def holders_elsewhere(
    port: int, *, socket_at: SocketAt = socket.socket, own: Iterable[int] = (), root: Path = Path("/proc")
) -> tuple[list[Holder], list[str]]:
    """Who has a port in other networks of this machine, but for TIME_WAIT; and what could not be looked into.

    socket_at: opens a socket in the network that is not to be looked into. own: the inodes of its namespace, where they
    are known, which spares a look. root: where /proc lies.
    """
    networks, hidden = _networks(root)
    mine = set(own)
    others = [each for each in networks if each.inode not in mine]
    here = _cookie(socket_at)
    holders: list[Holder] = []
    refused = 0
    for network in others[:MAX_NETWORKS]:
        try:
            with contextlib.closing(JoinedWorld(network.pid, [])) as world:
                inside = partial(world.socket, end="near")
                if here is None or _cookie(inside) != here:
                    found, _hidden = find_holders(port, socket_at=inside, network=network.pid)
                    holders += [each for each in found if each.state != "time-wait"]
        except Unavailable as error:
            refused += error.errno not in (errno.ENOENT, errno.ESRCH)  # else it has ended meanwhile
    notes = []
    if hidden or refused:
        notes.append(f"not all other networks were searched: {not_looked_at(hidden + refused)}")
    if len(others) > MAX_NETWORKS:
        notes.append(f"of {len(others):,} other networks, {MAX_NETWORKS} were searched: name a process (--world PID)")
    return holders, notes


def _networks(root: Path) -> tuple[list[Network], int]:
    """The network namespaces that processes are in, and how many processes hide theirs."""
    found: dict[int, int] = {}
    hidden = 0
    for pid in sorted(int(name) for name in os.listdir(root) if name.isdecimal()):  # noqa: PTH208
        try:
            inode = os.stat(f"{root}/{pid}/ns/net").st_ino  # noqa: PTH116
        except PermissionError:
            hidden += 1
        except OSError:  # it has ended
            continue
        else:
            found.setdefault(inode, pid)
    return [Network(pid=pid, inode=inode) for inode, pid in found.items()], hidden


def _cookie(socket_at: SocketAt) -> bytes | None:
    """What tells a network namespace from all others; None if the kernel is older than that."""
    with socket_at(socket.AF_INET, socket.SOCK_DGRAM, 0) as asked, contextlib.suppress(OSError):
        return asked.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return None


def inode_of(place: Place, end: str = "near") -> int | None:
    """What tells the namespace at one end of a place in /proc, or None if that can't be known."""
    pid = "self" if place.kind == "host" else place.kind if place.kind.isdecimal() else getattr(place, "pid", None)
    if pid is None or end != "near":
        return None
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116
    return None
