"""Messages of a stream as a tap sees them, told from all else by their bytes (``native/message.c``)."""

from __future__ import annotations

import select
import socket
import struct
from collections import Counter
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lab.errors import Unavailable
from lab.managed import Managed
from lab.taps.ring import Ring, open_tap
from lab.world import Place

__all__ = ["Messages", "Tap", "by_number"]

Array = npt.NDArray[np.int64]
_HEAD = struct.Struct("=QQ")  # nonce and number, at the head of every payload
_HEAD_BYTES, _FILLER = 32, 0x5A  # what follows the head and the reflector's stamps
_UNRECORDED = 1 << 63  # numbers of the warm-up have this bit
_LAST_MS = 1_000  # the kernel hands a block over within 20 ms


class Messages(NamedTuple):
    """Recorded messages in the order seen, arrays of shape (n,): number, CLOCK_REALTIME in ns, whether it went out."""

    number: Array
    time_ns: Array
    outgoing: npt.NDArray[np.bool_]

    def way(self, outgoing: bool) -> Messages:
        """Those that went out, or those that came in."""
        return Messages(*(column[self.outgoing == outgoing] for column in self))


class Tap(Managed):
    """Sees what passes a device in both directions. Raises Unavailable."""

    def __init__(self, place: Place, end: str, device: str) -> None:
        self._socket = open_tap(device, outgoing=True, socket_at=partial(place.socket, end=end))
        self._ring = Ring(self._socket)
        self._read = 0

    def forget(self) -> None:
        """Drops what was seen so far."""
        self._frames(0)

    def messages(self, size: int) -> Messages:
        """What was seen of the one stream since ``forget``, whose payloads have `size` bytes. Raises Unavailable."""
        heads = self._frames(size)
        nonces = Counter(nonce for nonce, _number, _time, _outgoing in heads)
        nonce = nonces.most_common(1)[0][0] if nonces else 0  # a stream leaves more messages than any bystander
        rows = [row[1:] for row in heads if row[0] == nonce and row[1] < _UNRECORDED]
        numbers, times, outgoing = zip(*rows, strict=True) if rows else ((), (), ())
        return Messages(np.array(numbers, np.int64), np.array(times, np.int64), np.array(outgoing, bool))

    def _frames(self, size: int) -> list[tuple[int, int, int, bool]]:
        """Nonce, number, time and direction of every frame that ends in a payload of `size` bytes, up to now."""
        received, dropped = self._ring.counts()
        filler = bytes([_FILLER]) * (size - _HEAD_BYTES)
        found = []
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        while self._read < received - dropped:
            if not ready.poll(_LAST_MS):
                raise Unavailable("a tap kept frames to itself", errno=None, fix="Run it again")
            for frame in self._ring.frames():
                self._read += 1
                if size and len(frame.data) > size and frame.data[-len(filler) :] == filler:
                    nonce, number = _HEAD.unpack_from(frame.data, len(frame.data) - size)
                    found.append((nonce, number, frame.time_ns, frame.kind == socket.PACKET_OUTGOING))
        return found

    def close(self) -> None:
        self._ring.close()
        self._socket.close()


def by_number(messages: Messages, count: int, each: int) -> Array:
    """When each of `count` numbers was seen, in ns, shape (count, each); 0 where it was not seen `each` times."""
    asked = messages.number < count
    number, time_ns = messages.number[asked], messages.time_ns[asked]
    whole = np.bincount(number, minlength=count) == each
    order = np.argsort(number, kind="stable")  # as seen, among those of one number
    times = np.zeros((count, each), np.int64)
    times[whole] = time_ns[order[whole[number[order]]]].reshape(-1, each)
    return times
