"""Whether a port can be bound to, and a free one nearby: both found by binding, and letting go at once."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import errno_name
from lab.listeners.bound import all_bound
from lab.taps.places import SocketAt

__all__ = ["Binding", "bind_errno", "free_port"]

#: Ports that are tried for a free one, at most.
_TRIED = 2_000
_MAX_PORT = (1 << 16) - 1
_FIRST_FREE_FOR_ALL = 1024  # net.ipv4.ip_unprivileged_port_start, by default
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What came of binding to a port, of all addresses of both families, as a server would; it is closed at once.

    errno: of the first attempt that was refused, or None: the port is free. reusing_errno: the same with SO_REUSEADDR
    set, as most servers do. where: of the refused attempt, such as "tcp 0.0.0.0".
    """

    errno: int | None
    reusing_errno: int | None
    where: str | None = None

    @property
    def error(self) -> str | None:
        """``"EADDRINUSE (Address already in use)"``, or None."""
        return None if self.errno is None else errno_name(self.errno)

    def to_json(self) -> dict[str, Any]:
        """As in the JSON document."""
        return {"errno": self.errno, "error": self.error, "reusing_errno": self.reusing_errno, "where": self.where}


def bind_errno(port: int, *, socket_at: SocketAt = socket.socket, protocols: Sequence[str] = ("tcp", "udp")) -> Binding:
    """Whether a port can be bound to. socket_at: opens a socket in that network. Raises Unavailable."""
    refused, where = _refused(port, socket_at, protocols, reuse=False)
    again = _refused(port, socket_at, protocols, reuse=True)[0] if refused else None
    return Binding(errno=refused, reusing_errno=again, where=where)


def _refused(port: int, socket_at: SocketAt, protocols: Sequence[str], *, reuse: bool) -> tuple[int | None, str | None]:
    for protocol, family, address in _everywhere(protocols):
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        try:
            with socket_at(family, kind, 0) as asked:
                if family == socket.AF_INET6:
                    asked.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if reuse and protocol == "tcp":  # of UDP it would share the port with another, which keeps it
                    asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                asked.bind((address, port))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                return error.errno, f"{protocol} {address}"
    return None, None


def _everywhere(protocols: Sequence[str]) -> Iterator[tuple[str, socket.AddressFamily, str]]:
    for protocol in protocols:
        yield protocol, socket.AF_INET, "0.0.0.0"  # noqa: S104 - to see whether it is free, and closed at once
        yield protocol, socket.AF_INET6, "::"


def free_port(near: int, *, socket_at: SocketAt = socket.socket, protocols: Sequence[str] = ("tcp",)) -> int | None:
    """The next port above `near` (below, if there is none) that can be bound to at all addresses of both families.

    Each is tried by binding to it, and let go again, so that another may take it meanwhile. None if of 2,000 none is
    free. Raises Unavailable.
    """
    taken = {each.local_port for each in all_bound(socket_at) if each.protocol in protocols}
    above = range(near + 1, _MAX_PORT + 1)
    below = range(near - 1, 0, -1)
    tried = 0
    lowest = 1
    for port in itertools.chain(above, below):
        if port < lowest or port in taken:
            continue
        refused = _refused(port, socket_at, protocols, reuse=False)[0]
        if refused is None:
            return port
        if refused == errno.EACCES:  # not for us: so are all below that limit
            lowest = _FIRST_FREE_FOR_ALL
        tried += 1
        if tried == _TRIED:
            break
    return None
