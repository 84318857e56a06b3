"""Asks many TCP ports of own addresses, as a port scanner does, and compares what answers with what listens.

A socket of this machine answers before ``connect`` returns, so that one socket after the other can be asked, and used
again for the next port. Only those that get no answer at once wait together, until the timeout.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.listeners.asking import TIMEOUT_NS, ask_tcp, sockaddr
from lab.taps.places import SocketAt

__all__ = ["Scanned", "scan_ports"]

#: Ports that wait for an answer at a time, at most; each takes a descriptor.
_MAX_PENDING = 512
_LINGER_RESET = struct.pack("ii", 1, 0)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What came of asking one address.

    asked: how many ports. open, filtered: those that completed the handshake; that gave no answer within the timeout,
    or an ICMP error. closed: how many answered with a reset. errors: errnos by how often they kept us from asking.
    """

    address: str
    asked: int
    open: tuple[int, ...]
    closed: int
    filtered: tuple[int, ...]
    errors: dict[int, int] = field(default_factory=dict)
    duration_ns: int


def scan_ports(
    address: str,
    ports: Iterable[int],
    *,
    socket_at: SocketAt = socket.socket,
    timeout_ns: int = TIMEOUT_NS,
    known: frozenset[int] = frozenset(),
) -> Scanned:
    """Asks TCP ports of one address, which has to be this network's own: nobody looks here whether it is.

    known: ports that are expected to be open; another that is found open is asked again, by itself, as two sockets of
    the scan may have met each other. Connections that are made are reset at once. Raises Unavailable.
    """
    begun_ns = time.monotonic_ns()
    with contextlib.closing(_Scan(address, socket_at, timeout_ns)) as scan:
        asked = 0
        for port in ports:
            asked += 1
            scan.ask(port)
            if len(scan.errors) and asked == 1:  # there is no way to this address
                break
        scan.finish()
    found = sorted(port for port in scan.open if port in known or _again(address, port, socket_at, timeout_ns))
    return Scanned(
        address=address,
        asked=asked,
        open=tuple(found),
        closed=scan.closed + len(scan.open) - len(found),
        filtered=tuple(sorted(scan.filtered)),
        errors=dict(scan.errors),
        duration_ns=time.monotonic_ns() - begun_ns,
    )


def _again(address: str, port: int, socket_at: SocketAt, timeout_ns: int) -> bool:
    return ask_tcp(address, port, socket_at=socket_at, timeout_ns=timeout_ns).status == "open"


class _Scan:
    """One address that is asked; ``open``, ``closed``, ``filtered`` and ``errors`` grow."""

    def __init__(self, address: str, socket_at: SocketAt, timeout_ns: int) -> None:
        self.open: list[int] = []
        self.closed = 0
        self.filtered: list[int] = []
        self.errors: Counter[int] = Counter()
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket_at, self._timeout_ns = socket_at, timeout_ns
        self._at_rest: list[socket.socket] = []
        self._pending: dict[int, tuple[int, int, socket.socket]] = {}  # port, when it is given up, by descriptor
        self._poll = select.poll()
        self._at_rest.append(self._new())
        self._host, _port, *self._zone = sockaddr(self._at_rest[0], address, 0)
        self._most = max(16, min(_MAX_PENDING, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))

    def ask(self, port: int) -> None:
        """Asks one port; returns at once unless too many wait."""
        while len(self._pending) >= self._most:
            self._reap()
        asked = self._at_rest.pop() if self._at_rest else self._new()
        where = (self._host, port, *self._zone)
        code = asked.connect_ex(where)
        if code == errno.EINPROGRESS:
            code = asked.connect_ex(where)  # what has come of it meanwhile
        if code in _UNDER_WAY:
            self._pending[asked.fileno()] = (port, time.monotonic_ns() + self._timeout_ns, asked)
            self._poll.register(asked, select.POLLOUT)
        else:
            self._take(port, code, asked)

    def finish(self) -> None:
        """Waits for those that have not answered yet."""
        while self._pending:
            self._reap()

    def close(self) -> None:
        for each in (*self._at_rest, *(each for _, _, each in self._pending.values())):
            each.close()
        self._pending.clear()
        self._at_rest.clear()

    def _new(self) -> socket.socket:
        made = self._socket_at(self._family, socket.SOCK_STREAM, 0)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        return made

    def _take(self, port: int, code: int, asked: socket.socket) -> None:
        """Takes in what came of a port: errno of ``connect``, or 0."""
        if code in (0, errno.EISCONN):
            if asked.getsockname() == asked.getpeername():  # by chance the port that it asks from: it met itself
                self.closed += 1
            else:
                self.open.append(port)
            asked.close()
            return
        if code == errno.ECONNREFUSED:
            self.closed += 1
            self._at_rest.append(asked)  # the kernel has reset it
            return
        asked.close()
        if code in (errno.ETIMEDOUT, errno.EHOSTUNREACH):
            self.filtered.append(port)
        else:
            self.errors[code] += 1

    def _reap(self) -> None:
        """Waits until one of the pending answers, or the first of them is given up."""
        first_ns = next(iter(self._pending.values()))[1]  # they were put in in this order
        left_ms = max(0, (first_ns - time.monotonic_ns()) // 1_000_000 + 1)
        for descriptor, _events in self._poll.poll(left_ms):
            port, _until_ns, asked = self._forget(descriptor)
            self._take(port, asked.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), asked)
        for descriptor in list(self._expired(time.monotonic_ns())):
            port, _until_ns, asked = self._forget(descriptor)
            self.filtered.append(port)
            asked.close()

    def _expired(self, now_ns: int) -> Iterator[int]:
        for descriptor, (_port, until_ns, _asked) in self._pending.items():
            if until_ns > now_ns:
                return
            yield descriptor

    def _forget(self, descriptor: int) -> tuple[int, int, socket.socket]:
        self._poll.unregister(descriptor)
        return self._pending.pop(descriptor)
