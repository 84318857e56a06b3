"""The timing loop of ``native/stream.c``.

The call releases the GIL. Records are NumPy rows of ``lab.records.RECORD``; times are int64 nanoseconds of
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
from lab.native.stop import Stop
from lab.records import RECORD, STAMPS, Records

__all__ = ["Outcome", "StreamSpec", "Usage", "new_records", "new_stamps", "run_stream"]

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
    "syscall": lib.LAB_SYSCALL,
    "tcp-connect": lib.LAB_TCP_CONNECT,
    "tcp-syn": lib.LAB_TCP_SYN,
}
_WAITS = {"block": lib.LAB_BLOCK, "spin": lib.LAB_SPIN, "epoll": lib.LAB_EPOLL, "yield": lib.LAB_YIELD}
_ARRIVALS = {"closed": lib.LAB_CLOSED, "scheduled": lib.LAB_SCHEDULED}


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """``struct lab_stream``, its input half: see ``native/api.h``."""

    near_fd: int
    far_fd: int = -1
    near_out_fd: int = -1
    far_out_fd: int = -1
    near_epoll_fd: int = -1
    far_epoll_fd: int = -1
    kind: str
    family: int
    wait: str
    arrivals: str = "closed"
    far_cpu: int = -1
    shares_cpu: bool = False
    size: int
    icmp_id: int = 0
    near_port: int = 0
    far_port: int = 0
    target: bytes
    nonce: int
    count: int
    warmup: int
    timeout_ns: int
    patience: int = 0
    think_ns: int = 0
    limit_ns: int = 0
    hold_ns: int = 0
    stall_ns: int = 0
    stall_seq: int = 0


@dataclass(frozen=True)
class Usage:
    """``struct lab_usage``: context switches and page faults of one thread while a stream ran."""

    voluntary: int
    involuntary: int
    minor_faults: int
    major_faults: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``struct lab_stream``, its output half; ``error`` is what ended the stream before its time."""

    done: int
    foreign: int
    far_foreign: int
    reply_source: str | None
    reply_ttl: int | None
    limited: bool
    most_open: int
    margin_ns: int
    offset_ns: int
    step_ns: int
    stamps_foreign: int
    near_usage: Usage
    far_usage: Usage
    error: StreamError | None


def new_records(count: int) -> Records:
    """`count` zeroed rows whose pages are there already, so that no probe pays for a page fault."""
    records = np.zeros(count, RECORD)
    records.view(np.uint8)[::4096] = 0
    return records


def new_stamps(count: int) -> Records:
    """The same, for the kernel's stamps."""
    stamps = np.zeros(count, STAMPS)
    stamps.view(np.uint8)[::4096] = 0
    return stamps


def run_stream(spec: StreamSpec, records: Records, stop: Stop, stamps: Records | None = None) -> Outcome:
    """Runs one stream on the calling thread, into `records` (shape (spec.count,), zeroed but for due_ns of a schedule).

    stamps: rows for the kernel's stamps, of the same shape; None: they are not asked for.
    """
    stream = _stream(spec)
    scratch = np.zeros(lib.LAB_SCRATCH_BYTES, np.uint8)
    rows = ffi.from_buffer("struct lab_record[]", records, require_writable=True)
    marks = ffi.NULL if stamps is None else ffi.from_buffer("struct lab_stamps[]", stamps, require_writable=True)
    result = lib.lab_stream_run(stream, rows, marks, ffi.from_buffer("unsigned char[]", scratch), stop._flag)
    numbers = {
        field.name: int(getattr(stream, field.name))
        for field in fields(Outcome)
        if field.name not in ("reply_source", "reply_ttl", "limited", "near_usage", "far_usage", "error")
    }
    source = None
    if stream.source_seen:
        source = socket.inet_ntop(spec.family, ffi.buffer(stream.reply_source)[: len(spec.target)])
    error = None
    if result < 0:
        text = _why(-result, stream.far_error, spec)
        error = StreamError(text, errno=stream.far_error or int(-result), done=int(stream.done))
    return Outcome(
        **numbers,
        reply_source=source,
        reply_ttl=int(stream.reply_ttl) or None,
        limited=bool(stream.limited),
        near_usage=_usage(stream.near_usage),
        far_usage=_usage(stream.far_usage),
        error=error,
    )


def _usage(usage: Any) -> Usage:
    return Usage(*(int(getattr(usage, field.name)) for field in fields(Usage)))


def _stream(spec: StreamSpec) -> Any:
    stream = ffi.new("struct lab_stream *")
    for option in fields(spec):
        if option.name not in ("kind", "wait", "arrivals", "target"):
            setattr(stream, option.name, getattr(spec, option.name))
    stream.kind = _KINDS[spec.kind]
    stream.wait = _WAITS[spec.wait]
    stream.arrivals = _ARRIVALS[spec.arrivals]
    ffi.buffer(stream.target)[: len(spec.target)] = spec.target
    return stream


def _why(code: int, far_error: int, spec: StreamSpec) -> str:
    if spec.kind == "shm" and far_error:
        return f"the far end cannot run on CPU {spec.far_cpu}: {errno_name(far_error)}"
    if spec.kind == "shm" and code == errno.ETIME:
        return f"CPU {spec.far_cpu} did not answer in time: something else keeps it busy; measure again"
    if code == errno.EPIPE and far_error:
        return f"the reflector died: {errno_name(far_error)}; its socket was closed, or a rule refused its reply"
    if code == errno.ECONNREFUSED and spec.kind == "tcp-connect" and spec.far_fd < 0:
        address = socket.inet_ntop(spec.family, spec.target)
        return f"nobody listens on port {spec.far_port} of {address}: {errno_name(code)}; start the server first"
    if code in (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED):
        return f"the reflector is gone: {errno_name(code)}; its socket was closed while the stream ran; measure again"
    if code == errno.ETIMEDOUT and spec.kind != "tcp":
        return f"{spec.patience} probes in a row got no reply; look for a rule that drops them (nft list ruleset)"
    if code == errno.ETIME and spec.kind != "tcp":
        return f"a message over {spec.kind} was not answered, or not taken, in time; give a longer --timeout"
    if code in (errno.ETIME, errno.ETIMEDOUT):
        return "the connection stalled; look for a rule that drops its segments (nft list ruleset)"
    if code == errno.EMSGSIZE:
        return f"a probe of {spec.size} bytes does not fit: {errno_name(code)}; give a smaller size"
    if code == errno.ENOBUFS:
        return "the kernel took no probe for two seconds: a queue is full; give a lower --rate"
    if code in (errno.EPERM, errno.EACCES):
        return f"the kernel refused to send: {errno_name(code)}; look for a rule that drops probes (nft list ruleset)"
    if code == errno.ENODATA:
        return "a reply came without the kernel's stamp: something switched its receive stamps off; measure again"
    if code == errno.EADDRNOTAVAIL:
        return f"no port is left to connect from: {errno_name(code)}; widen net.ipv4.ip_local_port_range"
    return f"the stream ended: {errno_name(code)}"
