"""The two ends of a stream, and what is set alike on sockets of several kinds."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from dataclasses import dataclass
from typing import Protocol

from lab.conditions import Condition
from lab.managed import Managed
from lab.wire import Wire
from lab.world.baselines import End
from lab.world.link import Link

__all__ = [
    "DOMAINS", "Closable", "Endpoints", "ask_for_ttl", "bind_to_card", "bind_to_near_address", "drain", "pass_only",
    "pass_only_echo_replies", "without_device",
]  # fmt: skip

DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
# linux/in.h, linux/in6.h, asm-generic/socket.h; Python's socket module does not name them.
_IP_RECVTTL, _IPV6_FREEBIND, _SO_ATTACH_FILTER = 12, 78, 26
# linux/icmp.h and linux/icmpv6.h
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_ECHO_REPLY_4, _ECHO_REPLY_6 = 0, 129
_ECHO_ID_AT = 4
_BPF_LDXB_MSH, _BPF_LDH_IND, _BPF_LDH_ABS, _BPF_JEQ, _BPF_RET = 0xB1, 0x48, 0x28, 0x15, 0x06


class Closable(Protocol):
    """Whatever can be closed."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Endpoints(Managed):
    """The two ends of one stream, none for shm. ``far`` is None where the kernel, or somebody else's server, replies.

    A context manager that closes both, and ``kept``: what must stay open for as long as they do. ``family`` and
    ``target`` are None for a baseline. ``near_port`` and ``far_port`` are set for handshakes. ``wire`` joins the ends.
    """

    near: End | None
    far: End | None
    kind: str
    family: int | None = None
    target: str | None = None
    icmp_id: int = 0
    wire: Wire | None = None
    near_port: int = 0
    far_port: int = 0
    kept: tuple[Closable, ...] = ()

    def close(self) -> None:
        """Closes both ends, and what was kept open for them."""
        for end in (self.near, self.far, *self.kept):
            if end is not None:
                end.close()


def bind_to_card(end: socket.socket, card: str | None) -> None:
    """Keeps to one network card, whatever the routing table says."""
    if card:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())


def bind_to_near_address(near: socket.socket, link: Link, condition: Condition, family: int) -> None:
    """Keeps the kernel from choosing another link's address to send from, as it does for one that no device has."""
    if condition.target is None and link.near != link.far:
        near.bind((link.near[family], 0))


def without_device(far: socket.socket, family: int) -> None:
    """Lets a socket be bound to lo-net's IPv6 address, which is routed to its lo, and no device's."""
    if family == 6:
        far.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)


def pass_only(end: socket.socket, family: int, fields: dict[int, int]) -> None:
    """Keeps packets out of a raw socket's queue, which a flood of them would fill, unless they are for us (socket(7)).

    fields: the values of 16-bit fields, by offset in the header behind the IP header. Raw IPv4 sockets see the IP
    header, whose length the first instruction reads; raw IPv6 sockets do not.
    """
    load = _BPF_LDH_IND if family == 4 else _BPF_LDH_ABS
    program = [(_BPF_LDXB_MSH, 0, 0, 0)] if family == 4 else []
    for left, (offset, value) in zip(reversed(range(len(fields))), fields.items(), strict=True):
        program += [(load, 0, 0, offset), (_BPF_JEQ, 0, 2 * left + 1, value)]
    program += [(_BPF_RET, 0, 0, 0xFFFFFFFF), (_BPF_RET, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def pass_only_echo_replies(end: socket.socket, family: int, icmp_id: int) -> None:
    """Keeps everything but echo replies with that identifier out of a raw ICMP socket's queue.

    On lo it would see the requests too.
    """
    if family == 4:
        end.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", ~(1 << _ECHO_REPLY_4) & 0xFFFFFFFF))
    else:
        words = [0xFFFFFFFF] * 8
        words[_ECHO_REPLY_6 // 32] &= ~(1 << _ECHO_REPLY_6 % 32)
        end.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *words))
    pass_only(end, family, {_ECHO_ID_AT: icmp_id})


def drain(near: socket.socket) -> None:
    """Empties the queue of what came before the filters were there: full, it would drop our first reply."""
    with contextlib.suppress(BlockingIOError):
        while True:
            near.recv(1, socket.MSG_DONTWAIT)


def ask_for_ttl(end: socket.socket, family: int) -> None:
    """Has the TTL or hop limit come beside each packet that is received."""
    if family == 4:
        end.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
