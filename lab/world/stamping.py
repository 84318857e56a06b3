"""The kernel's receive stamps, on before they are needed.

The kernel stamps packets only while some socket asks for it, and is slow to begin (a static key, set by a workqueue):
what comes before then has no stamp, or that of its reading.
"""

from __future__ import annotations

import errno
import socket
import struct
import time

from lab.errors import Unavailable
from lab.world.place import Place

__all__ = ["Stamping", "ask_for_rx_stamps"]

_SO_TIMESTAMPING = 37  # asm-generic/socket.h, and the type of the control message
_RX_SOFTWARE, _SOFTWARE = 1 << 3, 1 << 4  # linux/net_tstamp.h
_STAMPS = struct.Struct("qq32x")  # struct scm_timestamping, of which the first is the software stamp
_PATIENCE_S, _REPLY_S = 2.0, 0.1


def ask_for_rx_stamps(end: socket.socket) -> None:
    """Has the kernel's stamp (CLOCK_REALTIME) come beside each packet that is received. Raises Unavailable."""
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)
    except OSError as error:
        raise Unavailable(
            "the kernel gives no stamps (SO_TIMESTAMPING)",
            errno=error.errno,
            fix="Some containers have none: leave --stages out, and use tcp-connect instead of tcp-syn",
        ) from error


class Stamping:
    """Keeps the kernel stamping what it receives, in all namespaces, until it is closed.

    Raises Unavailable if it refuses, or doesn't begin within two seconds.
    """

    def __init__(self, place: Place) -> None:
        """place: where a socket of ours may send to itself."""
        self._socket = place.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            ask_for_rx_stamps(self._socket)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.connect(self._socket.getsockname())
            self._socket.settimeout(_REPLY_S)
            deadline_s = time.monotonic() + _PATIENCE_S
            while not self._is_on():
                if time.monotonic() > deadline_s:
                    raise Unavailable(
                        f"the kernel stamps no received packet within {_PATIENCE_S:.0f} s",
                        errno=errno.ETIMEDOUT,
                        fix="Look for a rule that drops UDP on lo (nft list ruleset)",
                    )
        except BaseException:
            self.close()
            raise

    def _is_on(self) -> bool:
        """Whether a message to ourselves was stamped while it was sent, and not when it was read."""
        self._socket.send(b"?")
        sent_ns = time.time_ns()
        try:
            _data, control, _flags, _address = self._socket.recvmsg(1, socket.CMSG_SPACE(_STAMPS.size))
        except TimeoutError:
            return False
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
                seconds, rest_ns = _STAMPS.unpack(data)
                return bool(0 < seconds * 1_000_000_000 + rest_ns <= sent_ns)
        return False

    def close(self) -> None:
        """Lets the kernel stop."""
        self._socket.close()
