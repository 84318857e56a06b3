"""The C loops: buffers in, errors out. The only importer of the extension module.

Every call releases the GIL. Records are NumPy rows of ``lab.records.RECORD``; times are int64 nanoseconds of
CLOCK_MONOTONIC.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lab._native import ffi, lib
from lab.errors import StreamError, errno_name
from lab.records import RECORD, Records

__all__ = ["Outcome", "Stop", "StreamSpec", "clock_cost", "new_records", "run_stream"]

_KINDS = {
    "icmp-raw": lib.LAB_ICMP_RAW,
    "icmp-ping": lib.LAB_ICMP_PING,
    "udp": lib.LAB_UDP,
    "tcp": lib.LAB_TCP,
    "unix-stream": lib.LAB_TCP,
    "unix-dgram": lib.LAB_UDP,
    "unix-seqpacket": lib.LAB_UDP,
    "pipe": lib.LAB_PIPE,
    "shm": lib.LAB_SHM,
}
_WAITS = {"block": lib.LAB_BLOCK, "spin": lib.LAB_SPIN}


class Stop:
    """A flag that ends a running stream within 50 ms. Any thread may set it."""

    def __init__(self) -> None:
        self._flag = ffi.new("int32_t *")

    def set(self) -> None:
        """Ends the stream that was given this flag."""
        self._flag[0] = 1


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """``struct lab_stream``, its input half: see ``native/api.h``."""

    near_fd: int
    far_fd: int = -1
    near_out_fd: int = -1
    far_out_fd: int = -1
    kind: str
    family: int
    wait: str
    far_cpu: int = -1
    size: int
    icmp_id: int = 0
    target: bytes
    nonce: int
    count: int
    warmup: int
    timeout_ns: int
    patience: int = 0


@dataclass(frozen=True)
class Outcome:
    """``struct lab_stream``, its output half."""

    done: int
    foreign: int
    far_foreign: int
    reply_source: str | None
    reply_ttl: int | None


def new_records(count: int) -> Records:
    """`count` zeroed rows whose pages are there already, so that no probe pays for a page fault."""
    records = np.zeros(count, RECORD)
    records.view(np.uint8)[::4096] = 0
    return records


def run_stream(spec: StreamSpec, records: Records, stop: Stop) -> Outcome:
    """Runs one stream on the calling thread, into `records` (shape (spec.count,), zeroed).

    Raises StreamError if it ended before its time, with the rows that were finished by then.
    """
    stream = _stream(spec)
    scratch = np.zeros(lib.LAB_SCRATCH_BYTES, np.uint8)
    rows = ffi.from_buffer("struct lab_record[]", records, require_writable=True)
    result = lib.lab_stream_run(stream, rows, ffi.from_buffer("unsigned char[]", scratch), stop._flag)
    if result < 0:
        raise StreamError(
            _why(-result, stream.far_error, spec), errno=stream.far_error or int(-result), done=int(stream.done)
        )
    source = None
    if stream.source_seen:
        source = socket.inet_ntop(spec.family, ffi.buffer(stream.reply_source)[: len(spec.target)])
    ttl = int(stream.reply_ttl) or None
    return Outcome(int(stream.done), int(stream.foreign), int(stream.far_foreign), source, ttl)


def _stream(spec: StreamSpec) -> Any:
    stream = ffi.new("struct lab_stream *")
    for option in fields(spec):
        if option.name not in ("kind", "wait", "target"):
            setattr(stream, option.name, getattr(spec, option.name))
    stream.kind = _KINDS[spec.kind]
    stream.wait = _WAITS[spec.wait]
    ffi.buffer(stream.target)[: len(spec.target)] = spec.target
    return stream


def _why(code: int, far_error: int, spec: StreamSpec) -> str:
    if code == errno.EPIPE and far_error:
        return f"the reflector died: {errno_name(far_error)}; its socket was closed, or a rule refused its reply"
    if code in (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED):
        return f"the reflector is gone: {errno_name(code)}; its socket was closed while the stream ran; measure again"
    if code == errno.ETIMEDOUT and spec.kind != "tcp":
        return f"{spec.patience} probes in a row got no reply; look for a rule that drops them (nft list ruleset)"
    if code in (errno.ETIME, errno.ETIMEDOUT):
        return "the connection stalled; look for a rule that drops its segments (nft list ruleset)"
    if code == errno.EMSGSIZE:
        return f"a probe of {spec.size} bytes does not fit: {errno_name(code)}; give a smaller size"
    if code in (errno.EPERM, errno.EACCES):
        return f"the kernel refused to send: {errno_name(code)}; look for a rule that drops probes (nft list ruleset)"
    return f"the stream ended: {errno_name(code)}"


def clock_cost(reads: int = 100_000) -> tuple[float, int]:
    """Reads CLOCK_MONOTONIC `reads` times: (mean ns of one read, smallest non-zero step in ns)."""
    step = ffi.new("int64_t *")
    picoseconds = lib.lab_clock_cost(reads, step)
    return picoseconds / 1000, int(step[0])
