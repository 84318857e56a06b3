"""The C loops: buffers in, errors out. The only importer of the extension module.

Every call releases the GIL. Records are NumPy rows of ``lab.records.RECORD``, events of the wire of ``WIRE_EVENT``;
times are int64 nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.checks import pick
from lab.errors import StreamError, Unavailable, UsageError, errno_name
from lab.records import RECORD, STAMPS, WIRE_EVENT, Records

__all__ = [
    "Gaps",
    "Impairment",
    "Outcome",
    "Stop",
    "StreamSpec",
    "Usage",
    "WireLoop",
    "WireSpec",
    "clock_cost",
    "clock_gaps",
    "new_records",
    "new_stamps",
    "run_stream",
]

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
_WIRE_WAITS = ("block", "spin")
_ARRIVALS = {"closed": lib.LAB_CLOSED, "scheduled": lib.LAB_SCHEDULED}
_DISTRIBUTIONS = {"uniform": lib.LAB_UNIFORM, "normal": lib.LAB_NORMAL, "pareto": lib.LAB_PARETO}
_CUTS = {"clip": lib.LAB_CLIP, "redraw": lib.LAB_REDRAW}


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


# ---- the wire ----


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
        pick("wait", wait, _WIRE_WAITS)
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
    pick("wait", spec.wait, _WIRE_WAITS)
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


def clock_cost(reads: int = 100_000) -> tuple[float, int]:
    """Reads CLOCK_MONOTONIC `reads` times: (mean ns of one read, smallest non-zero step in ns)."""
    step = ffi.new("int64_t *")
    picoseconds = lib.lab_clock_cost(reads, step)
    return picoseconds / 1000, int(step[0])


# ---- the noise floor ----


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """``struct lab_noise``; ``counts`` are of the gaps from each of ``edges_ns`` up to the next, both shape (bins,)."""

    edges_ns: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    reads: int
    duration_ns: int
    longest_ns: int
    interruptions: int
    stolen_ns: int


def clock_gaps(duration_ns: int, threshold_ns: int) -> Gaps:
    """Does nothing but read CLOCK_MONOTONIC on this thread for so long; what took longer than the threshold was stolen.

    Raises UsageError for more than 10 s, Unavailable if the clock went back, or stood still.
    """
    counts = np.zeros(lib.LAB_NOISE_BINS, np.int64)
    noise = ffi.new("struct lab_noise *")
    rows = ffi.from_buffer("int64_t[]", counts, require_writable=True)
    result = lib.lab_noise_run(duration_ns, threshold_ns, rows, noise)
    if result == -errno.EINVAL:
        raise UsageError(f"noise over {duration_ns} ns: give 1 to {lib.LAB_MAX_NOISE_NS}")
    if result < 0:
        fix = "Boot with another clocksource (clocksource=hpet): no delay measured here can be trusted"
        raise Unavailable("CLOCK_MONOTONIC went back, or stood still", errno=int(-result), fix=fix)
    edges = np.array([lib.lab_noise_edge(bin_) for bin_ in range(len(counts))], np.int64)
    numbers = {name: int(getattr(noise, name)) for name, _field in ffi.typeof("struct lab_noise").fields}
    return Gaps(edges_ns=edges, counts=counts, **numbers)
