"""Asks the kernel for all that it has of one kind, over a netlink socket (netlink(7)).

Packed here: pyroute2's own client can't be used while an event loop runs, as one does in a notebook.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

__all__ = ["dump"]

# linux/netlink.h
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REPLY_BYTES = 1 << 16


def dump(channel: socket.socket, kind: int, request: bytes) -> Iterator[bytes]:
    """The bodies of the messages that answer a dump request of this kind. Raises OSError."""
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    channel.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, 1, 0) + request)
    while True:
        reply, at = channel.recv(_REPLY_BYTES), 0
        while at < len(reply):
            length, answer, *_ = _HEADER.unpack_from(reply, at)
            body = reply[at + _HEADER.size : at + length]
            if answer == _NLMSG_DONE:
                return
            if answer == _NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", body)
                raise OSError(-number, os.strerror(-number))
            yield body
            at += (length + 3) & ~3
