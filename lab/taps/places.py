"""Where a tap is put: an interface, and how to open a socket in its network namespace."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["SocketAt", "TapAt"]

#: Opens a socket in the network that is meant: family, type, protocol.
SocketAt = Callable[[int, int, int], socket.socket]


@dataclass(frozen=True, kw_only=True)
class TapAt:
    """An interface to capture on.

    name, description: what a file calls it and says of it. interface: what its own network calls it. socket_at: opens
    a socket there, as ``socket.socket(family, type, proto)`` does here; it raises Unavailable.
    """

    name: str
    interface: str
    socket_at: SocketAt
    description: str
