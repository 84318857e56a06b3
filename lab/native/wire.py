"""The wire's loop of ``native/wire.c``. Events are NumPy rows of ``lab.records.WIRE_EVENT``."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lab._native import ffi, lib
from lab.checks import pick
from lab.errors import Unavailable, UsageError
from lab.native.stop import Stop
from lab.records import WIRE_EVENT, Records

__all__ = ["Impairment", "WireLoop", "WireSpec"]

_WAITS = {"block": lib.LAB_BLOCK, "spin": lib.LAB_SPIN}
_DISTRIBUTIONS = {"uniform": lib.LAB_UNIFORM, "normal": lib.LAB_NORMAL, "pareto": lib.LAB_PARETO}
_CUTS = {"clip": lib.LAB_CLIP, "redraw": lib.LAB_REDRAW}


@dataclass(frozen=True, kw_only=True)
class Impairment:
    """``struct lab_impairment``: what the wire does to the frames of one direction. Probabilities are from 0 to 1.

    ``loss`` alone is random loss; with ``to_bad`` it is that of the good state in the Gilbert-Elliott model.
    """

    delay_ns: int = 0
    ipdv_ns: int = 0
    distribution: str = "uniform"
    cut: str = "clip"
    loss: float = 0.0
    loss_bad: float = 0.0
    to_bad: float = 0.0
    to_good: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate_bps: int = 0
    limit: int = 1000


@dataclass(frozen=True, kw_only=True)
class WireSpec:
    """``struct lab_wire``, its input half; ``impairments`` are of the frames that come from near and from far."""

    near_fd: int
    far_fd: int
    wake_fd: int
    wait: str
    frame_bytes: int
    header_bytes: int
    spin_ns: int
    seed: int
    spare: bool
    log_size: int
    impairments: tuple[Impairment, Impairment]


class WireLoop:
    """One call of the wire's loop, and the memory that it shares with those who watch it.

    Raises UsageError if a number is out of range, or a name unknown.
    """

    def __init__(self, spec: WireSpec) -> None:
        self._wire = ffi.new("struct lab_wire *")
        try:
            _fill_wire(self._wire, spec)
            needed = lib.lab_wire_scratch(self._wire)
        except OverflowError:  # of a field
            needed = -errno.EINVAL
        if needed < 0:
            raise UsageError(
                "a number of the wire is out of range: give probabilities from 0 to 1, times up to 1 h, a rate of 0 or "
                f"from 1000 bit/s, a limit of 1 to {lib.LAB_MAX_LIMIT:,} frames of 64 to {lib.LAB_MAX_FRAME:,} bytes, "
                f"a log of 1 to {lib.LAB_MAX_LOG:,} events"
            )
        try:
            # Not touched beforehand: the places of a queue that is never so full may never be needed.
            self._events, scratch = np.zeros(spec.log_size, WIRE_EVENT), np.zeros(needed, np.uint8)
        except MemoryError:
            raise UsageError(f"no memory for a queue of {needed:,} bytes and its log: give a smaller limit") from None
        self._ring = ffi.from_buffer("struct lab_wire_event[]", self._events, require_writable=True)
        self._scratch = ffi.from_buffer("unsigned char[]", scratch, require_writable=True)

    def run(self, stop: Stop) -> None:
        """Forwards frames until `stop` is set. Raises Unavailable if a side can't be read or written any more."""
        result = lib.lab_wire_run(self._wire, self._ring, self._scratch, stop._flag)
        if result < 0:
            raise Unavailable("the wire ended", errno=int(-result), fix="Make the link anew: a side of it is gone")

    @property
    def wait(self) -> str:
        """How it waits: "block" or "spin". A change is noticed when the loop next wakes."""
        return next(name for name, code in _WAITS.items() if code == self._wire.wait)

    @wait.setter
    def wait(self, wait: str) -> None:
        pick("wait", wait, _WAITS)
        self._wire.wait = _WAITS[wait]

    @property
    def logged(self) -> int:
        """Events so far."""
        return int(self._wire.logged)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """``struct lab_wire_counters`` of the frames from near and from far, at this moment."""
        names = [name for name, _field in ffi.typeof("struct lab_wire_counters").fields]
        near, far = ({name: int(getattr(side, name)) for name in names} for side in self._wire.counters)
        return near, far

    def events(self) -> tuple[Records, int]:
        """The newest events, oldest first, shape (n,); and how many older ones were overwritten."""
        copy = np.empty_like(self._events)
        first = ffi.new("int64_t *")
        rows = ffi.from_buffer("struct lab_wire_event[]", copy, require_writable=True)
        count = lib.lab_wire_events(self._wire, self._ring, rows, first)
        return copy[:count], int(first[0])


def _fill_wire(wire: Any, spec: WireSpec) -> None:
    wire.fds[0], wire.fds[1] = spec.near_fd, spec.far_fd
    pick("wait", spec.wait, _WAITS)
    wire.wait = _WAITS[spec.wait]
    for name in ("wake_fd", "frame_bytes", "header_bytes", "spin_ns", "seed", "spare", "log_size"):
        setattr(wire, name, getattr(spec, name))
    for at, impairment in zip(wire.impairments, spec.impairments, strict=True):
        pick("distribution", impairment.distribution, _DISTRIBUTIONS)
        pick("cut", impairment.cut, _CUTS)
        numbers = asdict(impairment)
        numbers["distribution"] = _DISTRIBUTIONS[impairment.distribution]
        numbers["cut"] = _CUTS[impairment.cut]
        for name, value in numbers.items():
            setattr(at, name, value)
