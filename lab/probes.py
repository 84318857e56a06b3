"""A condition and its sockets → a stream.

The stream runs in a thread of its own, so that its CPU can be chosen without touching the caller's and so that
Ctrl-C, which Python delivers to the main thread, can stop it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import math
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from lab.accounts import Accounts, accounting
from lab.arrivals import due_times
from lab.checks import check_count
from lab.conditions import EMPTY, Condition
from lab.errors import Unavailable
from lab.interrupts import noted
from lab.native.stop import Stop
from lab.native.stream import Outcome, StreamSpec, new_records, new_stamps, run_stream
from lab.plan import DEFAULT_WARMUP
from lab.records import Records
from lab.streams import Cpus, Stream, WireReport
from lab.tuning import Tuning
from lab.units import format_duration
from lab.wire import Wire, dropped_probes

__all__ = ["Sockets", "choose_cpus", "send_stream"]

_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNIX}
#: A stream gives up when nothing has come back for so long, and for at least so many probes.
_SILENCE_NS = 10_000_000_000
_MIN_PATIENCE = 5
#: Bytes of a receive buffer that are asked for at most.
_MOST_ROOM = 1 << 28
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
#: Links whose probes the wire sees wrapped in a way that it doesn't look into. Empty probes it can't tell apart.
_OPAQUE = ("gre", "ipip", "sit", "wireguard")


class End(Protocol):
    """A descriptor to read from; a pipe's end has another to write to, ``out``."""

    def fileno(self) -> int: ...


class Sockets(Protocol):
    """What a stream needs of an opened pair of ends; ``lab.world.Endpoints`` is one."""

    @property
    def near(self) -> End | None: ...
    @property
    def far(self) -> End | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def family(self) -> int | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def icmp_id(self) -> int: ...
    @property
    def wire(self) -> Wire | None: ...
    @property
    def near_port(self) -> int: ...
    @property
    def far_port(self) -> int: ...


def choose_cpus(condition: Condition, *, wired: bool = False) -> Cpus:
    """CPUs for a condition, from those that this process may use: the last, which has the fewest interrupts.

    A wire that sleeps shares the near end's CPU, as waking another costs more; one that spins needs its own.
    Raises Unavailable if that takes more CPUs than there are.
    """
    allowed = sorted(os.sched_getaffinity(0), reverse=True)
    alone = ["the near end"]
    if condition.placement == "cross-cpu":
        alone.append("the far end")
    if wired and condition.wait == "spin":
        alone.append("the wire")
    if len(allowed) < len(alone):
        raise Unavailable(
            f"{', '.join(alone[:-1])} and {alone[-1]} need a CPU each, and this process may use {len(allowed)}",
            errno=None,
            fix="Allow more with taskset, or give --wait block --placement same-cpu or inline",
        )
    own = dict(zip(alone, allowed, strict=False))
    near = own["the near end"]
    far = None if condition.placement == "inline" else own.get("the far end", near)
    return Cpus(near, far, own.get("the wire", near) if wired else None)


def _report(
    wire: Wire, nonce: int, opaque: bool, since: int, before: tuple[dict[str, int], dict[str, int]]
) -> WireReport:
    log = wire.events(since)
    near, far = (
        {name: count - (0 if name == "held" else old[name]) for name, count in now.items()}
        for now, old in zip(wire.counters(), before, strict=True)
    )
    dropped = None if opaque else np.union1d(*dropped_probes(log.events, nonce, wire.header_bytes))
    return WireReport((near, far), dropped, log.events, log.overwritten)


def send_stream(
    condition: Condition,
    ends: Sockets,
    *,
    count: int,
    warmup: int = DEFAULT_WARMUP,
    cpus: Cpus | None = None,
    seed: int = 0,
    hold_ns: int = 0,
    stall: tuple[int, int] | None = None,
    tuning: Tuning = Tuning(),  # noqa: B008 - it is frozen
) -> Stream:
    """Sends one stream of `count` probes over the given ends and returns what came of it.

    warmup: probes sent first and not recorded. seed: of a Poisson schedule. hold_ns: how long the reflector spins
    between its receive and its send. stall: (a sequence number, ns), where it stops once for so long. tuning: what of
    it is of a stream's own threads and sockets; the rest is the caller's to hold.

    Raises UsageError where `tuning` would let one thread keep another from its CPU, StreamError if the stream ended
    before its time, Unavailable for a placement or a right that cannot be had, or a wire that died. Two things end it
    early and leave the rows that were finished: Ctrl-C, within 50 ms (``interrupted``), and silence, when nothing has
    come back for ten seconds (``gave_up``), unless loss was asked for.
    """
    check_count("count", count)
    check_count("warm-up", warmup, low=0)
    cpus = cpus or choose_cpus(condition, wired=ends.wire is not None)
    scheduled = condition.arrivals != "closed"
    tuning.check(condition.wait, cpus, scheduled=scheduled)
    tuning.prepare(ends.near, ends.far)
    spec = StreamSpec(
        near_fd=_descriptor(ends.near),
        far_fd=_descriptor(ends.far),
        near_out_fd=getattr(ends.near, "out", -1),
        far_out_fd=getattr(ends.far, "out", -1),
        kind=ends.kind,
        family=_DOMAINS[ends.family],
        wait=condition.wait,
        arrivals="scheduled" if scheduled else "closed",
        far_cpu=-1 if cpus.far is None else cpus.far,
        shares_cpu=cpus.near in (cpus.far, cpus.wire),
        size=condition.size,
        icmp_id=ends.icmp_id,
        near_port=ends.near_port,
        far_port=ends.far_port,
        target=b"" if ends.target is None else ipaddress.ip_address(ends.target).packed,
        nonce=secrets.randbits(64),
        count=count,
        warmup=warmup,
        timeout_ns=condition.timeout_ns,
        patience=_patience(condition),
        think_ns=condition.think_ns,
        limit_ns=tuning.limit_ns,
        hold_ns=hold_ns,
        stall_seq=stall[0] if stall else 0,
        stall_ns=stall[1] if stall else 0,
    )
    records = new_records(count)
    if scheduled:
        records["due_ns"] = due_times(condition, count, seed)
    stamps = new_stamps(count) if condition.stages else None
    room = _make_room(ends, condition)
    _require_running(ends.wire)
    with _watched(spec) as spec, _tuned(ends.wire, condition.wait, cpus.wire):
        run = _Run(spec, records, stamps, cpus.near, ends, tuning)
        since = None if ends.wire is None else (ends.wire.logged, ends.wire.counters())
        interrupted = run.until_done()
    _require_running(ends.wire)
    report = (
        None
        if ends.wire is None or since is None
        else _report(ends.wire, spec.nonce, condition.link in _OPAQUE or condition.probe in EMPTY, *since)
    )
    warnings = [] if run.gave_up is None else [f"gave up: {run.gave_up}"]
    if run.outcome.limited:
        warnings.append(
            f"stopped after {format_duration(tuning.limit_ns)}, as --fifo lets nothing else run: give a smaller --count"
        )
    if report is not None and report.overwritten:
        warnings.append(f"the wire's log lacks its {report.overwritten:,} oldest frames: dropped_seq may lack some too")
    return Stream(
        condition=condition,
        records=records[: run.outcome.done],
        foreign=run.outcome.foreign + run.outcome.far_foreign,
        reply_source=run.outcome.reply_source or (ends.target if ends.kind in ("tcp", "tcp-connect") else None),
        reply_ttl=run.outcome.reply_ttl,
        socket_kind=ends.kind,
        cpus=cpus,
        started_ns=run.started_ns,
        ended_ns=run.ended_ns,
        interrupted=interrupted,
        gave_up=run.gave_up is not None,
        warnings=tuple(warnings),
        wire=report,
        near_usage=run.outcome.near_usage,
        far_usage=None if cpus.far is None else run.outcome.far_usage,
        stamps=None if stamps is None else stamps[: run.outcome.done],
        clock_offset_ns=None if stamps is None else run.outcome.offset_ns,
        clock_step_ns=run.outcome.step_ns,
        margin_ns=run.outcome.margin_ns,
        most_open=run.outcome.most_open,
        seed=seed if condition.arrivals == "poisson" else None,
        receive_buffer=room,
        accounts=run.accounts,
    )


def _make_room(ends: Sockets, condition: Condition) -> int | None:
    """Enlarges the receive buffers of datagram sockets, so that a schedule's probes can wait there until they are late.

    Returns the bytes that the smaller of them was granted; None where nothing can be lost in this way.
    """
    buffers = [end for end in (ends.near, ends.far) if isinstance(end, socket.socket)]
    if condition.period_ns is None or not buffers or buffers[0].type == socket.SOCK_STREAM:
        return None
    waiting = condition.timeout_ns // condition.period_ns + 1
    # A datagram is charged the memory that it takes: a buffer of a power of two, and about a KiB beside it.
    wanted = min(waiting * (1024 + 2 * condition.size), _MOST_ROOM)
    for end in buffers:
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)  # as far as net.core.rmem_max allows
    return min(end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for end in buffers)


def _require_running(wire: Wire | None) -> None:
    """Raises what ended the wire: no probe that it lost in this way is to be blamed on anything else."""
    if wire is not None and wire.error is not None:
        raise wire.error


def _patience(condition: Condition) -> int:
    """After how many unanswered probes in a row to give up; 0: never, where they are lost on purpose."""
    if condition.impair and (condition.impair.loss or condition.impair.burst):
        return 0
    return max(_MIN_PATIENCE, math.ceil(_SILENCE_NS / (condition.period_ns or condition.timeout_ns)))


@contextlib.contextmanager
def _tuned(wire: Wire | None, wait: str, cpu: int | None) -> Iterator[None]:
    """Makes the wire wait as the ends do, on its own CPU, for as long as the stream runs."""
    if wire is None or cpu is None:
        yield
        return
    wire.pin(cpu)
    wire.wait = "spin" if wait == "spin" else "block"
    try:
        yield
    finally:
        wire.wait = "block"


@contextlib.contextmanager
def _watched(spec: StreamSpec) -> Iterator[StreamSpec]:
    """The stream with an epoll for each end, if it is to wait in that way."""
    if spec.wait != "epoll":
        yield spec
        return
    with select.epoll() as near, select.epoll() as far:
        near.register(spec.near_fd, select.EPOLLIN)
        if spec.far_fd >= 0:
            far.register(spec.far_fd, select.EPOLLIN)
        yield replace(spec, near_epoll_fd=near.fileno(), far_epoll_fd=far.fileno())


def _descriptor(end: End | None) -> int:
    return -1 if end is None else end.fileno()


class _Run:
    """One call of the native loop, in a pinned thread."""

    outcome: Outcome
    accounts: Accounts
    gave_up: str | None = None

    def __init__(
        self,
        spec: StreamSpec,
        records: Records,
        stamps: Records | None,
        cpu: int,
        ends: Sockets,
        tuning: Tuning,
    ) -> None:
        self._spec, self._records, self._stamps, self._cpu = spec, records, stamps, cpu
        self._ends, self._tuning = ends, tuning
        self._stop, self._over = Stop(), threading.Event()
        self._error: BaseException | None = None
        self.started_ns = self.ended_ns = 0

    def _work(self) -> None:
        try:
            os.sched_setaffinity(0, {self._cpu})  # 0: this thread
            with accounting(self._ends) as self.accounts:
                self._tuning.enter_thread()
                self.started_ns = time.monotonic_ns()
                self.outcome = run_stream(self._spec, self._records, self._stop, self._stamps)
            error = self.outcome.error
            if error is not None and error.errno == errno.ETIMEDOUT:
                self.gave_up = str(error)
            else:
                self._error = error
        except BaseException as error:  # handed to the caller's thread, which raises it
            self._error = error
        finally:
            self.ended_ns = time.monotonic_ns()
            self._over.set()

    def until_done(self) -> bool:
        """Waits for the thread, stopping it on Ctrl-C. Returns whether it was interrupted; raises what it raised."""
        with noted(self._stop.set) as interrupted:
            threading.Thread(target=self._work, name="lab stream").start()
            try:
                self._over.wait()
            finally:  # a second Ctrl-C must not close the sockets under the running loop, which ends within 50 ms
                self._stop.set()
                self._over.wait()
        if self._error is not None:
            raise self._error
        return interrupted.is_set()
