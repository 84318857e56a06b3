"""What a port answers at an address: asked by a TCP handshake, which is reset at once, and by an empty UDP datagram.

``rtt_ns`` is the time of CLOCK_MONOTONIC from right before ``connect`` to right after the call that told the answer:
the way of the packets there and back, two system calls or three, and what Python takes around them. ``lab rtt`` is
there to measure; this tells microseconds from milliseconds.

A reset (RST) leaves no TIME_WAIT behind, which otherwise could keep the port of a server that closes first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import errno_name
from lab.taps.places import SocketAt

__all__ = ["TIMEOUT_NS", "Answer", "absent", "ask", "ask_tcp", "ask_udp", "sockaddr"]

#: How long an answer is waited for: on this machine it takes microseconds, unless something delays or drops it.
TIMEOUT_NS = 500_000_000

_DISCARD = 9  # RFC 863
_SIOCGIFINDEX = 0x8933  # netdevice(7)
_LINGER_RESET = struct.pack("ii", 1, 0)
_RECVERR = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),  # linux/in.h: IP_RECVERR
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),  # linux/in6.h: IPV6_RECVERR
}
# linux/errqueue.h, sock_extended_err: errno, origin, type, code
_EXTENDED = struct.Struct("=IBBB")
_BY_ICMP = (2, 3)
#: Port unreachable, as the kernel answers a datagram for which nobody is there (RFC 792; RFC 4443, 3.1).
_NOBODY = {(3, 3), (1, 4)}
#: So long an answer is waited for before the next address is asked, so that the time told is not that of others.
_ALONE_MS = 20
#: What a local rule that drops outgoing packets makes of a datagram that is sent.
_DROPPED = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a port answered.

    status: "open" (TCP: the handshake was completed; UDP: a datagram came back); "closed" (TCP: a reset; UDP: ICMP port
    unreachable); "filtered" (nothing came within the timeout, or an ICMP error, or what was sent was dropped here);
    "open-or-filtered" (UDP: nothing came, as of a server that has nothing to say to an empty datagram); "unreachable"
    (there is no way to send to that address: nothing was sent). rtt_ns: see above; None if nothing came. errno: what
    the kernel told, or None. icmp: type and code of the ICMP error that was the answer, or None.
    """

    address: str
    port: int
    protocol: str
    status: str
    rtt_ns: int | None
    errno: int | None = None
    icmp: tuple[int, int] | None = None

    @property
    def error(self) -> str | None:
        """``"ECONNREFUSED (Connection refused)"``, or None."""
        return None if self.errno is None else errno_name(self.errno)

    def to_json(self) -> dict[str, Any]:
        """As in the JSON documents."""
        return {
            "address": self.address, "protocol": self.protocol, "status": self.status, "rtt_ns": self.rtt_ns,
            "errno": self.errno, "error": self.error, "icmp": list(self.icmp) if self.icmp else None,
        }  # fmt: skip


def ask_tcp(address: str, port: int, *, socket_at: SocketAt = socket.socket, timeout_ns: int = TIMEOUT_NS) -> Answer:
    """What `port` answers to a TCP handshake at one address. socket_at: as for ``ask``. Raises Unavailable."""
    return ask([address], port, protocols=("tcp",), socket_at=socket_at, timeout_ns=timeout_ns)[0]


def ask_udp(address: str, port: int, *, socket_at: SocketAt = socket.socket, timeout_ns: int = TIMEOUT_NS) -> Answer:
    """What `port` answers to an empty UDP datagram at one address. socket_at: as for ``ask``. Raises Unavailable."""
    return ask([address], port, protocols=("udp",), socket_at=socket_at, timeout_ns=timeout_ns)[0]


def ask(
    addresses: Iterable[str],
    port: int,
    *,
    protocols: Sequence[str] = ("tcp", "udp"),
    socket_at: SocketAt = socket.socket,
    timeout_ns: int = TIMEOUT_NS,
) -> list[Answer]:
    """What `port` answers at each address, in order of protocol, then of address: one after the other, all told within
    two timeouts.

    addresses: numeric, of IPv6 with a zone where it needs one. socket_at: opens a socket in the network that asks; by
    default the caller's own. timeout_ns: how long an answer is waited for. Raises Unavailable.
    """
    with contextlib.ExitStack() as closing:
        asked = []
        for protocol in protocols:
            for address in addresses:
                question = _Question(address, port, protocol, socket_at)
                closing.callback(question.close)
                question.put()
                question.wait(_ALONE_MS)
                asked.append(question)
        last_ns = time.monotonic_ns() + timeout_ns
        while open_ := [each for each in asked if each.answer is None]:
            left_ms = (last_ns - time.monotonic_ns()) // 1_000_000
            if left_ms <= 0:
                break
            _wait(open_, left_ms)
        return [each.answer or each.silence() for each in asked]


def absent(address: str, socket_at: SocketAt = socket.socket) -> int | None:
    """The errno of binding a UDP socket to an address or connecting it there, which sends nothing; None: both work."""
    try:
        with socket_at(_family(address), socket.SOCK_DGRAM, 0) as tried:
            tried.bind(sockaddr(tried, address, 0))
            tried.connect(sockaddr(tried, address, _DISCARD))
    except OSError as error:
        return error.errno
    return None


def sockaddr(asking: socket.socket, address: str, port: int) -> tuple[Any, ...]:
    """An address and a port as `asking` takes them in its own network, where a zone's interface is looked up.

    Raises OSError if there is no such interface.
    """
    host, percent, zone = address.partition("%")
    if not percent:
        return (host, port)
    asked = struct.pack("16s24x", zone.encode())
    (index,) = struct.unpack_from("=16xi", fcntl.ioctl(asking, _SIOCGIFINDEX, asked))
    return (host, port, 0, index)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class _Question:
    """One port of one address, asked by one protocol; ``answer`` is there as soon as it is known."""

    def __init__(self, address: str, port: int, protocol: str, socket_at: SocketAt) -> None:
        self.address, self.port, self.protocol = address, port, protocol
        self.answer: Answer | None = None
        self._begun_ns = 0
        family = _family(address)
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        self.socket = socket_at(family, kind, 0)
        self._where = sockaddr(self.socket, address, port)
        self.socket.setblocking(False)
        self._recverr = _RECVERR[family]
        self.socket.setsockopt(*self._recverr, 1)  # so that ICMP errors are told, and at once
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)

    def put(self) -> None:
        """Sends it."""
        self._begun_ns = time.monotonic_ns()
        try:
            self.socket.connect(self._where)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:  # as told within the call
                self._tell("closed", error.errno)
            else:
                self._tell("unreachable", error.errno, came=False)
            return
        if self.protocol == "tcp":
            self._tell("open")
            return
        try:
            self.socket.send(b"")
        except OSError as error:
            self._refused(error.errno or 0)

    def wait(self, ms: int) -> None:
        """Waits for the answer so long."""
        if self.answer is None:
            _wait([self], ms)

    def look(self) -> None:
        """Takes the answer, which is there."""
        now_ns = time.monotonic_ns()
        icmp = self._from_error_queue()
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if icmp:
            number, told = icmp
            nobody = self.protocol == "udp" and told in _NOBODY
            self._tell("closed" if nobody else "filtered", number, told, now_ns)
        elif number == errno.ECONNREFUSED:
            self._tell("closed", number, now_ns=now_ns)
        elif number:
            self._tell("filtered", number, now_ns=now_ns)
        else:
            self._tell("open", now_ns=now_ns)

    def silence(self) -> Answer:
        """What it means that nothing came."""
        self._tell("filtered" if self.protocol == "tcp" else "open-or-filtered", came=False)
        assert self.answer  # noqa: S101 - the line above
        return self.answer

    def close(self) -> None:
        self.socket.close()

    def _refused(self, number: int) -> None:
        icmp = self._from_error_queue()
        if icmp:
            self._tell("closed" if icmp[1] in _NOBODY else "filtered", *icmp)
        elif number == errno.ECONNREFUSED:
            self._tell("closed", number)
        else:
            self._tell("filtered" if number in _DROPPED else "unreachable", number, came=False)

    def _from_error_queue(self) -> tuple[int, tuple[int, int]] | None:
        """errno, and type and code, of an ICMP error that came for this socket (IP_RECVERR of ip(7))."""
        try:
            _data, told, *_ = self.socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:  # there is none
            return None
        for level, kind, data in told:
            if (level, kind) == self._recverr:
                number, origin, type_, code = _EXTENDED.unpack_from(data)
                if origin in _BY_ICMP:
                    return number, (type_, code)
        return None

    def _tell(
        self,
        status: str,
        number: int | None = None,
        icmp: tuple[int, int] | None = None,
        now_ns: int | None = None,
        *,
        came: bool = True,
    ) -> None:
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        self.answer = Answer(
            address=self.address,
            port=self.port,
            protocol=self.protocol,
            status=status,
            rtt_ns=now_ns - self._begun_ns if came else None,
            errno=number,
            icmp=icmp,
        )


def _wait(questions: Sequence[_Question], ms: int) -> None:
    """Waits for the first answers to these, and takes them."""
    poll = select.poll()
    by_descriptor = {each.socket.fileno(): each for each in questions}
    for descriptor, each in by_descriptor.items():
        poll.register(descriptor, select.POLLOUT if each.protocol == "tcp" else select.POLLIN)
    for descriptor, _events in poll.poll(ms):
        by_descriptor[descriptor].look()
