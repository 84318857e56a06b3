"""The loop of ``native/bulk.c``: many bytes from one end to the other. Times are int64 ns of CLOCK_MONOTONIC."""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.errors import StreamError, UsageError, errno_name
from lab.native.stop import Stop

__all__ = ["MAX_MESSAGE", "MIN_DATAGRAM", "BulkOutcome", "BulkSpec", "move_bytes"]

#: Bytes of a message: at most, and of a datagram at least.
MAX_MESSAGE, MIN_DATAGRAM = int(lib.LAB_MAX_MESSAGE), int(lib.LAB_MIN_DATAGRAM)
_KINDS = {
    "tcp": lib.LAB_BULK_STREAM,
    "unix-stream": lib.LAB_BULK_STREAM,
    "udp": lib.LAB_BULK_DATAGRAM,
    "pipe": lib.LAB_BULK_PIPE,
    "memcpy": lib.LAB_BULK_MEMCPY,
}
#: Samples beyond those that the time has room for: what was written is still read when it is over.
_SPARE_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class BulkSpec:
    """``struct lab_bulk``, its input half: see ``native/bulk.h``."""

    kind: str
    out_fd: int = -1
    in_fd: int = -1
    far_cpu: int = -1
    verify: bool = False
    size: int
    duration_ns: int
    limit_bytes: int = 0
    patience_ns: int = 0
    interval_ns: int = 10_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class BulkOutcome:
    """``struct lab_bulk``, its output half.

    at_ns, bytes: int64, shape (samples,): when the reader looked, and what it had received by then.
    near_switches, far_switches: how often the writer and the reader slept, and how often they were preempted.
    error: what ended it before its time.
    """

    begun_ns: int
    last_ns: int
    sent: int
    messages: int
    received: int
    arrived: int
    duplicates: int
    reordered: int
    foreign: int
    wrong: int
    near_cpu_ns: int
    far_cpu_ns: int
    late: bool
    near_switches: tuple[int, int]
    far_switches: tuple[int, int]
    at_ns: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    error: StreamError | None


def move_bytes(spec: BulkSpec, stop: Stop) -> BulkOutcome:
    """Writes on the calling thread, and has a thread of its own read, until the time or the bytes are over.

    Raises UsageError for a number out of range.
    """
    state = ffi.new("struct lab_bulk *")
    try:
        for each in fields(spec):
            if each.name != "kind":
                setattr(state, each.name, getattr(spec, each.name))
    except OverflowError:
        raise UsageError(_OUT_OF_RANGE) from None
    if spec.size > MAX_MESSAGE or spec.interval_ns < 1:
        raise UsageError(_OUT_OF_RANGE)
    state.kind, state.nonce = _KINDS[spec.kind], secrets.randbits(64)
    # A message that repeats nothing shows a byte that is out of place; its pages are there before the first one leaves.
    out = np.random.default_rng(0).integers(0, 256, spec.size, np.uint8)
    into = np.full(spec.size, 255, np.uint8)
    samples = np.full((spec.duration_ns // spec.interval_ns + _SPARE_SAMPLES, 2), -1, np.int64)
    state.sample_room = len(samples)
    result = lib.lab_bulk_run(
        state,
        ffi.from_buffer("unsigned char[]", out, require_writable=True),
        ffi.from_buffer("unsigned char[]", into, require_writable=True),
        ffi.from_buffer("struct lab_bulk_sample[]", samples, require_writable=True),
        stop._flag,
    )
    if result == -errno.EINVAL and not state.begun_ns:
        raise UsageError(_OUT_OF_RANGE)
    plain = {
        each.name: int(getattr(state, each.name))
        for each in fields(BulkOutcome)
        if each.name not in ("late", "near_switches", "far_switches", "at_ns", "bytes", "error")
    }
    kept = samples[: int(state.samples)]
    return BulkOutcome(
        **plain,
        late=bool(state.late),
        near_switches=(int(state.near_usage.voluntary), int(state.near_usage.involuntary)),
        far_switches=(int(state.far_usage.voluntary), int(state.far_usage.involuntary)),
        at_ns=kept[:, 0].copy(),
        bytes=kept[:, 1].copy(),
        error=_error(int(-result), int(state.far_error), spec, int(state.arrived)) if result < 0 else None,
    )


_OUT_OF_RANGE = (
    f"a number of the transfer is out of range: give messages of up to {MAX_MESSAGE:,} bytes, and up to an hour"
)


def _error(code: int, far: int, spec: BulkSpec, done: int) -> StreamError:
    number = far or code
    if far == errno.EINVAL:
        text = f"the reader cannot run on CPU {spec.far_cpu}: {errno_name(far)}"
    elif number == errno.EMSGSIZE:
        text = f"a message of {spec.size:,} bytes does not fit: {errno_name(number)}; give a smaller size"
    elif number in (errno.EPERM, errno.EACCES):
        text = f"the kernel refused to send: {errno_name(number)}; look for a rule that drops it (nft list ruleset)"
    else:
        who = "reader" if far else "writer"
        text = f"the {who} ended: {errno_name(number)}; the other end was closed or reset meanwhile; measure again"
    return StreamError(text, errno=number, done=done)
