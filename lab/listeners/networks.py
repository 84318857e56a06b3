"""Other network namespaces of this machine, such as those of containers and of ``lab exec``, and who has a port there.

Each has ports of its own, so that nobody there is in the way of a server here.

Which process is in which is told by the inode of its /proc/PID/net/tcp, which each network has one of
(proc_register in fs/proc/generic.c). /proc/PID/ns/net tells the same, but not of another user's process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lab.errors import Unavailable
from lab.listeners.holders import Holder, find_holders
from lab.taps.places import SocketAt
from lab.world import JoinedWorld, Place

__all__ = ["MAX_NETWORKS", "holders_elsewhere", "inode_of"]

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, since 5.14
#: Those that have the port and are looked into, at most: each takes a helper process for a tenth of a second.
MAX_NETWORKS = 64
_GONE = (errno.ENOENT, errno.ESRCH)


def holders_elsewhere(
    port: int, *, socket_at: SocketAt = socket.socket, own: Iterable[int] = (), root: Path = Path("/proc")
) -> tuple[list[Holder], list[str]]:
    """Who has a port in other networks of this machine, but for TIME_WAIT; and what could not be looked into.

    socket_at: opens a socket in the network that is not to be looked into. own: what ``inode_of`` tells of it, which
    spares a look. root: where /proc lies.
    """
    mine = set(own)
    having = [pid for inode, pid in _networks(root).items() if inode not in mine and _has(pid, port, root)]
    here = _cookie(socket_at)
    holders: list[Holder] = []
    refused: list[str] = []
    notes: list[str] = []
    for pid in having[:MAX_NETWORKS]:
        try:
            with contextlib.closing(JoinedWorld(pid, [])) as world:
                inside = partial(world.socket, end="near")
                if here is None or _cookie(inside) != here:
                    found, _hidden = find_holders(port, socket_at=inside, network=pid)
                    holders += [each for each in found if each.state != "time-wait"]
        except Unavailable as error:
            if error.errno not in _GONE:
                refused.append(str(pid))
    if refused:
        notes.append(
            f"port {port} is in use in other networks, too, into which we may not look (not in the way here): those of "
            f"process {', '.join(refused)}; run it as root (sudo lab ports {port})"
        )
    if len(having) > MAX_NETWORKS:
        notes.append(f"of {len(having):,} other networks that have the port, {MAX_NETWORKS} were looked into")
    return holders, notes


def inode_of(place: Place, end: str = "near") -> int | None:
    """What tells the network at one end of a place from others in /proc; None if that can't be known."""
    pid = "self" if place.kind == "host" else place.kind if place.kind.isdecimal() else getattr(place, "pid", None)
    if pid is None or end != "near":
        return None
    with contextlib.suppress(OSError):
        return _inode(Path("/proc"), pid)
    return None


def _networks(root: Path) -> dict[int, int]:
    """The networks that processes are in, by inode: the lowest number of a process in each."""
    found: dict[int, int] = {}
    for pid in sorted(int(name) for name in os.listdir(root) if name.isdecimal()):  # noqa: PTH208
        with contextlib.suppress(OSError):  # it has ended
            found.setdefault(_inode(root, pid), pid)
    return found


def _inode(root: Path, pid: int | str) -> int:
    return os.stat(f"{root}/{pid}/net/tcp").st_ino  # noqa: PTH116


def _has(pid: int, port: int, root: Path) -> bool:
    """Whether any socket of a process's network has this port (proc_net(5)): only there it is worth a look inside.

    In each line the second word is the local address, a colon, and the port in hexadecimal.
    """
    wanted = f":{port:04X}".encode()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(OSError):  # it has ended, or there is no IPv6
            for line in Path(f"{root}/{pid}/net/{table}").read_bytes().splitlines():
                words = line.split(None, 2)
                if len(words) > 1 and words[1].endswith(wanted):
                    return True
    return False


def _cookie(socket_at: SocketAt) -> bytes | None:
    """What tells a network namespace from all others; None if the kernel is older than that."""
    with socket_at(socket.AF_INET, socket.SOCK_DGRAM, 0) as asked, contextlib.suppress(OSError):
        return asked.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return None
