"""Asks the kernel for all that it has of one kind, or to make something, over a netlink socket (netlink(7)).

Packed here: pyroute2's own client can't be used while an event loop runs, as one does in a notebook.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator

__all__ = ["NLM_F_ACK", "NLM_F_APPEND", "NLM_F_CREATE", "ask", "attributes", "dump", "each_attribute", "transact"]

# linux/netlink.h
NLM_F_ACK, NLM_F_CREATE, NLM_F_APPEND = 0x4, 0x400, 0x800
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ATTRIBUTE, _NLA_TYPE = struct.Struct("=HH"), 0x3FFF  # nlattr, rtattr: length, type (and flags above it)
_REPLY_BYTES = 1 << 16


def dump(channel: socket.socket, kind: int, request: bytes) -> Iterator[bytes]:
    """The bodies of the messages that answer a dump request of this kind. Raises OSError."""
    channel.send(_message(kind, _NLM_F_DUMP, request))
    while True:
        reply, at = channel.recv(_REPLY_BYTES), 0
        while at < len(reply):
            length, answer, *_ = _HEADER.unpack_from(reply, at)
            body = reply[at + _HEADER.size : at + length]
            if answer == _NLMSG_DONE:
                return
            if answer == _NLMSG_ERROR:
                _raise_refusal(body)
            yield body
            at += (length + 3) & ~3


def ask(channel: socket.socket, kind: int, request: bytes) -> bytes:
    """The body of the one message that answers a request of this kind. Raises OSError."""
    channel.send(_message(kind, 0, request))
    reply = channel.recv(_REPLY_BYTES)
    length, answer, *_ = _HEADER.unpack_from(reply)
    body = reply[_HEADER.size : length]
    if answer == _NLMSG_ERROR:
        _raise_refusal(body)
    return body


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute that follows the fixed part of a message, or that is nested in another."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _NLA_TYPE, data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by their type, where each comes once."""
    return dict(each_attribute(data))


def transact(channel: socket.socket, messages: Iterable[tuple[int, int, bytes]]) -> None:
    """Sends messages in one go: type, flags, and body, whose length is a multiple of 4; returns once they are done.

    One asks for an answer (``NLM_F_ACK``), behind all that may be refused: its own is the first if none was, and the
    first decides. Raises OSError.
    """
    channel.send(b"".join(_message(*each) for each in messages))
    _raise_refusal(channel.recv(_REPLY_BYTES)[_HEADER.size :])


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body


def _raise_refusal(body: bytes) -> None:
    """body: of a message of the type NLMSG_ERROR, whose number is 0 if all is well."""
    (number,) = struct.unpack_from("=i", body)
    if number:
        raise OSError(-number, os.strerror(-number))
