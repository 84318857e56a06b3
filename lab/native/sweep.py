"""The loop of ``native/sweep.c``: whether each address of a range answers an echo request."""

from __future__ import annotations

import errno

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.errors import Unavailable, UsageError, errno_name
from lab.native.stop import Stop

__all__ = ["BATCH", "SweepLoop"]

#: Requests that are under way at once, at most: their replies must fit in the socket's receive buffer.
BATCH = int(lib.LAB_SWEEP_BATCH)
_COUNTS = ("sent", "tried", "retried", "duplicates", "other_source", "foreign")


class SweepLoop:
    """``struct lab_sweep``, and the bitmaps that it fills: bit i % 8 of byte i // 8 is of address first + i.

    fd: of a raw IPv4 ICMP socket that passes echo replies with `icmp_id` only. first: an address as a number. tries:
    how often who is silent is asked. patience_ns: how long nothing has come when a try is over.
    answered, refused: uint8, shape ((count + 7) // 8,).
    """

    def __init__(
        self, fd: int, *, icmp_id: int, first: int, count: int, tries: int, nonce: int, patience_ns: int
    ) -> None:
        self.answered, self.refused = _new_map(count), _new_map(count)
        self._sweep = ffi.new("struct lab_sweep *")
        given = self._sweep
        try:
            given.fd, given.icmp_id, given.first, given.count = fd, icmp_id, first, count
            given.tries, given.nonce, given.patience_ns = tries, nonce, patience_ns
        except OverflowError:
            raise UsageError(_OUT_OF_RANGE) from None

    def run(self, stop: Stop) -> None:
        """Asks until all is settled, or `stop` is set. Raises UsageError for a number out of range, Unavailable."""
        maps = (self.answered, self.refused)
        bits = [ffi.from_buffer("unsigned char[]", each, require_writable=True) for each in maps]
        result = int(lib.lab_sweep_run(self._sweep, *bits, stop._flag))
        if result == -errno.EINVAL:
            raise UsageError(_OUT_OF_RANGE)
        if result == -errno.ENOBUFS:
            what, fix = "the kernel took no echo request for two seconds", "Look what else floods this network"
            raise Unavailable(what, errno=errno.ENOBUFS, fix=fix)
        if result < 0:
            what = f"the socket that asked is no good any more, after {self.sent:,} requests"
            raise Unavailable(what, errno=-result, fix="Ask again, and leave its world open meanwhile")

    @property
    def asked(self) -> int:
        """Addresses so far, from the first one on; any thread may ask."""
        return int(self._sweep.asked)

    @property
    def sent(self) -> int:
        """Requests, of all tries."""
        return int(self._sweep.sent)

    def counts(self) -> dict[str, int]:
        """What else came of it, by the names of ``struct lab_sweep``, once it has ended."""
        return {name: int(getattr(self._sweep, name)) for name in _COUNTS}

    def errors(self) -> dict[str, int]:
        """Addresses that the kernel would send nothing to, by why."""
        counts = enumerate(self._sweep.errors)
        return {errno_name(number) if number else "another error": int(count) for number, count in counts if count}


_OUT_OF_RANGE = (
    f"a number of the sweep is out of range: give addresses up to 255.255.255.255, and 1 to {lib.LAB_MAX_TRIES} tries"
)


def _new_map(count: int) -> npt.NDArray[np.uint8]:
    """A zeroed bit for each, whose pages are there already."""
    bits = np.zeros((max(count, 0) + 7) // 8, np.uint8)
    bits[::4096] = 0
    return bits
