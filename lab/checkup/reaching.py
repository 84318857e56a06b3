"""Asks addresses of this network by ICMP, UDP and TCP, all at once, and tells what came of each.

What is sent stays on loopback: an echo request, a datagram from a socket to itself, a connection to a socket of ours.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab.checkup.network import Network, family_of
from lab.errors import Unavailable, errno_name

__all__ = ["Attempt", "bind", "reach"]

#: A reply on loopback is there in microseconds: what takes so long doesn't come.
_PATIENCE_S = 1.0
_ECHO = struct.Struct("!BBHHH")  # RFC 792, RFC 4443: type, code, checksum, identifier, sequence number
#: Types of request and reply by family.
_TYPES = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_ICMP = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_REPLY_BYTES = 2048
_NAMES = {"icmp": "an echo request", "udp": "a datagram", "tcp": "a connection"}


@dataclass(frozen=True)
class Attempt:
    """What came of asking one address by one protocol: "icmp", "udp" or "tcp".

    outcome: "answered", "silence" (nothing came), "refused" (an errno came back), "not-tried" (no socket could be
    opened) or "not-sent" (it would have left this machine). errno: of "refused" and "not-tried". port: of UDP and TCP.
    """

    address: str
    protocol: str
    outcome: str
    errno: int | None = None
    port: int | None = None

    @property
    def answered(self) -> bool:
        return self.outcome == "answered"

    @property
    def failed(self) -> bool:
        """It was sent, or should have been, and came to nothing; not: we have no right to try."""
        return not self.answered and not (self.outcome == "not-tried" and self.errno in (errno.EPERM, errno.EACCES))

    def __str__(self) -> str:
        what = f"{_NAMES[self.protocol]} to {self.address}"
        if self.answered:
            return f"{what} is answered"
        if self.outcome == "not-sent":
            return f"{what} is not sent, as it has no local route"
        if self.outcome == "silence":
            return f"{what} gets no answer in {_PATIENCE_S:.0f} s"
        return f"{what}: {errno_name(self.errno or 0)}"


def reach(network: Network, tries: Iterable[tuple[str, str]]) -> list[Attempt]:
    """Asks an address by a protocol, for each such pair; takes a second at most, when some are silent."""
    tries = list(tries)
    with ThreadPoolExecutor(max(1, len(tries))) as pool:
        return list(pool.map(lambda each: _METHODS[each[1]](network, each[0]), tries))


def bind(network: Network, address: str) -> int | None:
    """Whether the address is one of this network's own: the errno of binding a socket to it, None if that works."""
    try:
        with network.socket_at(family_of(address), socket.SOCK_DGRAM) as end:
            end.bind((address, 0))
    except OSError as error:
        return error.errno or 0
    return None


def _attempt(address: str, protocol: str, exchange: Callable[[], None], port: int | None = None) -> Attempt:
    """What comes of an exchange, which raises OSError if it fails, and TimeoutError if it waits in vain."""
    try:
        exchange()
    except TimeoutError:
        return Attempt(address, protocol, "silence", port=port)
    except OSError as error:
        return Attempt(address, protocol, "refused", error.errno, port)
    return Attempt(address, protocol, "answered", port=port)


def _echo(network: Network, address: str) -> Attempt:
    """By a raw socket, or else by a ping socket (icmp(7)), which takes fewer rights."""
    family = family_of(address)
    with contextlib.ExitStack() as held:
        try:
            end = held.enter_context(_icmp_socket(network, family))
        except OSError as error:
            return Attempt(address, "icmp", "not-tried", error.errno)
        return _attempt(address, "icmp", lambda: _exchange_echo(end, address))


def _icmp_socket(network: Network, family: socket.AddressFamily) -> socket.socket:
    try:
        return network.socket_at(family, socket.SOCK_RAW, _ICMP[family])
    except Unavailable as refusal:
        if refusal.errno not in (errno.EPERM, errno.EACCES):
            raise
        return network.socket_at(family, socket.SOCK_DGRAM, _ICMP[family])


def _exchange_echo(end: socket.socket, address: str) -> None:
    """Sends a request and waits for the reply to it among all that comes: a raw socket sees the request as well."""
    request, reply = _TYPES[family_of(address)]
    nonce = secrets.token_bytes(16)
    deadline = time.monotonic() + _PATIENCE_S
    end.sendto(_echo_request(request, nonce), (address, 0))
    while True:
        end.settimeout(max(0.001, deadline - time.monotonic()))
        data = end.recv(_REPLY_BYTES)
        if end.type == socket.SOCK_RAW and end.family == socket.AF_INET:
            data = data[4 * (data[0] & 0xF) :]  # the IP header comes with it
        if data[0] == reply and data[_ECHO.size :] == nonce:
            return
        if time.monotonic() >= deadline:
            raise TimeoutError


def _echo_request(kind: int, payload: bytes) -> bytes:
    """The kernel fills in the checksum of ICMPv6, and what a ping socket sends, whatever stands there."""
    words = struct.unpack(f"!{len(payload) // 2}H", payload)
    total = (kind << 8) + sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return _ECHO.pack(kind, 0, ~total & 0xFFFF, 0, 0) + payload


def _datagram(network: Network, address: str) -> Attempt:
    """A datagram that a socket sends to itself: no port is asked that isn't ours."""
    with contextlib.ExitStack() as held:
        try:
            end = held.enter_context(network.socket_at(family_of(address), socket.SOCK_DGRAM))
            end.bind((address, 0))
        except OSError as error:
            return Attempt(address, "udp", "refused", error.errno)
        end.settimeout(_PATIENCE_S)

        def exchange() -> None:
            end.connect(end.getsockname())
            end.send(b"lab")
            end.recv(_REPLY_BYTES)

        return _attempt(address, "udp", exchange, end.getsockname()[1])


def _connection(network: Network, address: str) -> Attempt:
    """A connection to a socket of ours. One to a closed port would not do: a firewall may send resets too."""
    family = family_of(address)
    with contextlib.ExitStack() as held:
        try:
            listener, end = (held.enter_context(network.socket_at(family, socket.SOCK_STREAM)) for _ in "12")
            listener.bind((address, 0))
            listener.listen()
        except OSError as error:
            return Attempt(address, "tcp", "refused", error.errno)
        end.settimeout(_PATIENCE_S)
        return _attempt(address, "tcp", lambda: end.connect(listener.getsockname()), listener.getsockname()[1])


_METHODS: dict[str, Callable[[Network, str], Attempt]] = {"icmp": _echo, "udp": _datagram, "tcp": _connection}
