"""The injector of ``native/injector.c``: frames that lie in memory, out of some descriptors, when they are due."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.errors import UsageError
from lab.native.stop import Stop

__all__ = [
    "LATE_EDGES_NS", "MOST_FIELDS", "MOST_LANES", "MOST_PACKETS", "MOST_SUMS", "MOST_TEMPLATE_BYTES", "WAYS",
    "Counts", "Field", "Lane", "Pace", "Packets", "Sum",
]  # fmt: skip

#: How a packet leaves, by name: the numbers in ``Packets.ways``.
WAYS = {
    "left out": int(lib.LAB_LEFT_OUT),
    "l2": int(lib.LAB_L2),
    "raw4": int(lib.LAB_RAW4),
    "raw6": int(lib.LAB_RAW6),
    "tap": int(lib.LAB_TAP),
}
MOST_LANES, MOST_PACKETS = int(lib.LAB_MAX_LANES), int(lib.LAB_MAX_PACKETS)
#: Of a frame that varies.
MOST_FIELDS, MOST_SUMS, MOST_TEMPLATE_BYTES = (
    int(most) for most in (lib.LAB_MAX_FIELDS, lib.LAB_MAX_SUMS, lib.LAB_MAX_TEMPLATE)
)
#: The shortest lateness in ns of each bin of ``Counts.late``, shape (n,).
LATE_EDGES_NS = np.array([lib.lab_late_edge(bin_) for bin_ in range(lib.LAB_LATE_BINS)], np.int64)

_KINDS = {
    "counting": lib.LAB_COUNTING,
    "random": lib.LAB_RANDOM,
    "listed": lib.LAB_LISTED,
    "clock": lib.LAB_CLOCK,
}
_PACES = {
    "topspeed": lib.LAB_TOPSPEED,
    "periodic": lib.LAB_PERIODIC,
    "poisson": lib.LAB_POISSON,
    "bits": lib.LAB_BITS,
    "times": lib.LAB_TIMES,
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """``struct lab_field``: a number of a frame, in network order, that varies from packet to packet.

    offset: of its first byte. kind: "counting" (first + step * (k % count)), "random" (first + 0 to count - 1),
    "listed" (values[k % n]) or "clock" (CLOCK_REALTIME in ns), where k counts the packets, or every so many of them.
    mask: its bits. shift: bits behind it in the last of its bytes. sums: which checksums cover it. flow: it tells flows
    apart.
    """

    offset: int
    bytes: int
    mask: int
    kind: str
    shift: int = 0
    first: int = 0
    step: int = 1
    count: int = 0
    every: int = 1
    seed: int = 0
    values: tuple[int, ...] = ()
    sums: tuple[int, ...] = ()
    flow: bool = False


@dataclass(frozen=True, kw_only=True)
class Sum:
    """``struct lab_sum``: a checksum at that place of the frame, over what begins at `start`. udp: 0 means none."""

    at: int
    start: int
    udp: bool = False


@dataclass(frozen=True, kw_only=True)
class Pace:
    """When packets are due: "topspeed", "periodic", "poisson", "bits" or "times".

    numerator / denominator: a period in ns, or, with "bits", how long a bit takes. span_ns: with "times", from the
    beginning of one turn of the frames to that of the next. burst: packets that are due at once.
    """

    kind: str = "topspeed"
    numerator: int = 0
    denominator: int = 1
    span_ns: int = 0
    burst: int = 1
    seed: int = 0


class Packets:
    """``struct lab_packets``: what is to be sent. Keeps the arrays alive; the memory may be a file's.

    offsets, lengths, ways, lanes: a row a frame, int64, int32, uint8, uint8; lanes None: all of lane 0, or, of a frame
    that varies, as its fields tell. due_ns: int64, from the first one's, ascending, or None. fields, sums: of the only
    frame.
    """

    def __init__(
        self,
        memory: mmap.mmap | bytes,
        *,
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int32],
        ways: npt.NDArray[np.uint8],
        lanes: npt.NDArray[np.uint8] | None = None,
        due_ns: npt.NDArray[np.int64] | None = None,
        fields: Sequence[Field] = (),
        sums: Sequence[Sum] = (),
    ) -> None:
        self.bytes = ffi.from_buffer("unsigned char[]", memory)
        self._rows = [
            ffi.from_buffer("int64_t[]", offsets),
            ffi.from_buffer("int32_t[]", lengths),
            ffi.from_buffer("uint8_t[]", ways),
            ffi.NULL if lanes is None else ffi.from_buffer("uint8_t[]", lanes),
            ffi.NULL if due_ns is None else ffi.from_buffer("int64_t[]", due_ns),
        ]
        self._lists = [ffi.new("uint64_t[]", each.values) if each.values else ffi.NULL for each in fields]
        self._fields = ffi.new("struct lab_field[]", max(1, len(fields)))
        for row, each, values in zip(self._fields, fields, self._lists, strict=False):
            _fill_field(row, each, values)
        self._sums = ffi.new("struct lab_sum[]", max(1, len(sums)))
        for row, total in zip(self._sums, sums, strict=False):
            row.at, row.start, row.udp = total.at, total.start, total.udp
        names = ("offsets", "lengths", "ways", "lanes", "due_ns")
        self.state = ffi.new("struct lab_packets *", dict(zip(names, self._rows, strict=True)))
        self.state.bytes, self.state.frame_count = self.bytes, len(offsets)
        self.state.fields, self.state.field_count = self._fields, len(fields)
        self.state.sums, self.state.sum_count = self._sums, len(sums)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What came of one lane: ``struct lab_lane``, its second half.

    errors: refusals by errno. late: packets by how late they were, in the bins of ``LATE_EDGES_NS``, shape (n,).
    """

    sent: int
    bytes: int
    failed: int
    retried: int
    begun_ns: int
    ended_ns: int
    margin_ns: int
    last_due_ns: int
    late_sum_ns: int
    late_min_ns: int
    late_max_ns: int
    first_failed: int
    first_error: int
    errors: dict[int, int]
    late: npt.NDArray[np.int64]


class Lane:
    """One thread's part of an injection.

    fds: descriptors by the names of ``WAYS``. total: packets, of all lanes. limit_ns: how long after its start it ends;
    0: no limit. Raises UsageError for numbers that are out of range.
    """

    def __init__(
        self,
        packets: Packets,
        *,
        fds: dict[str, int],
        ifindex: int,
        total: int,
        pace: Pace,
        lane: int = 0,
        lanes: int = 1,
        limit_ns: int = 0,
        stall_ns: int = 2_000_000_000,
    ) -> None:
        self._packets = packets
        self._lane = ffi.new("struct lab_lane *")
        given = self._lane
        for name, way in WAYS.items():
            given.fds[way] = fds.get(name, -1)
        try:
            given.ifindex, given.lane, given.lanes, given.total = ifindex, lane, lanes, total
            given.pace, given.numerator, given.denominator = _PACES[pace.kind], pace.numerator, pace.denominator
            given.span_ns, given.burst, given.seed = pace.span_ns, pace.burst, pace.seed
            given.limit_ns, given.stall_ns = limit_ns, stall_ns
            refused = lib.lab_inject_check(packets.state, given, len(packets.bytes))
        except OverflowError:
            refused = -errno.EINVAL
        if refused:
            raise UsageError(
                f"a number of the injection is out of range: give up to {MOST_PACKETS:,} packets on up to "
                f"{MOST_LANES} threads, due within three years, and fields that lie within the packet"
            )
        self._scratch = np.zeros(lib.lab_inject_scratch(packets.state), np.uint8)

    def run(self, stop: Stop, start_ns: int = 0) -> int:
        """Sends until all is done, a limit is reached, or `stop` is set. Returns the errno that ended it, or 0.

        start_ns: when packet 0 is due, by CLOCK_MONOTONIC; 0: now.
        """
        self._lane.start_ns = start_ns
        scratch = ffi.from_buffer("unsigned char[]", self._scratch, require_writable=True)
        return max(0, -int(lib.lab_inject_run(self._packets.state, self._lane, scratch, stop._flag)))

    @property
    def sent(self) -> int:
        """Packets so far; any thread may ask."""
        return int(self._lane.sent)

    @property
    def failed(self) -> int:
        """Packets that were refused so far; any thread may ask."""
        return int(self._lane.failed)

    def counts(self) -> Counts:
        """What came of it, once it has ended."""
        errors = {number: int(count) for number, count in enumerate(self._lane.errors) if count}
        late = np.frombuffer(ffi.buffer(self._lane.late), np.int64).copy()
        plain = [name for name in Counts.__dataclass_fields__ if name not in ("errors", "late")]
        return Counts(errors=errors, late=late, **{name: int(getattr(self._lane, name)) for name in plain})


def _fill_field(row: ffi.CData, field: Field, values: ffi.CData) -> None:
    row.offset, row.bytes, row.shift, row.kind = field.offset, field.bytes, field.shift, _KINDS[field.kind]
    row.mask, row.first, row.every, row.seed = field.mask, field.first, field.every, field.seed
    row.step = (field.step + (1 << 63)) % (1 << 64) - (1 << 63)  # values are modulo 2^64
    row.count = len(field.values) or field.count
    row.list, row.flow = values, field.flow
    row.sums = sum(1 << each for each in field.sums)
