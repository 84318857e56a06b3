"""A reflector that stops must be seen by every probe that was due meanwhile (coordinated omission).

A closed loop sends nothing while it waits, so one slow probe is all that it tells of a long stop. A schedule goes on.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import numpy as np

from lab.conditions import Condition
from lab.records import RECEIVED, Records
from lab.units import format_duration, format_ns
from lab.verify.findings import Finding
from lab.verify.subject import Check, Subject, attempted
from lab.world import Endpoints

__all__ = ["CHECK", "findings", "judge_closed", "judge_schedule", "room"]

_STALL_NS, _PERIOD_NS = 100_000_000, 100_000
_BUFFER_BYTES = 4 << 20
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
#: So many of the probes that should have waited may be missing, as the stop begins and ends between two slots.
_SLACK = 0.02


def judge_schedule(where: str, records: Records, *, stall_ns: int, period_ns: int, room: int) -> Finding:
    """records: of a periodic stream whose reflector stopped once. room: messages that its receive buffer holds.

    Every slot of the schedule must be there, and the probes of those that fell into the stop must have waited for its
    end, or else be lost, if there was no room for them.
    """
    held_ns = np.where(records["status"] == RECEIVED, records["far_tx_ns"] - records["far_rx_ns"], 0)
    stopped = int(np.argmax(held_ns))
    begin_ns, end_ns = (int(records[name][stopped]) for name in ("far_rx_ns", "far_tx_ns"))
    due_ns = records["due_ns"]
    skipped = int(np.count_nonzero(np.diff(due_ns) != period_ns))
    due = (begin_ns < due_ns) & (due_ns < end_ns)
    waited = due & (records["status"] == RECEIVED) & (records["rx_ns"] >= end_ns)
    response_ns = (records["rx_ns"] - due_ns)[waited]
    expected = stall_ns // period_ns
    least = (1 - _SLACK) * min(expected, room)
    right = held_ns[stopped] >= stall_ns and not skipped and waited.sum() >= least
    stop = format_ns(float(held_ns[stopped]))
    evidence = f"stopped for {stop}, {due.sum():,} probes were due, {waited.sum():,} waited"
    if len(response_ns):
        evidence += f" (response p50 {format_ns(float(np.median(response_ns)))}, max {format_ns(response_ns.max())})"
    evidence += f", {np.count_nonzero(due & (records['status'] != RECEIVED)):,} were lost"
    if room < expected:
        evidence += f" (the buffer that was granted holds {room:,})"
    if skipped:
        evidence += f"; {skipped:,} slots are not where they should be"
    return Finding.judged(where, bool(right), evidence)


def judge_closed(where: str, records: Records, *, stall_ns: int) -> Finding:
    """records: of a closed loop whose reflector stopped once. Exactly one probe must show it."""
    service_ns = (records["rx_ns"] - records["tx_ns"])[records["status"] == RECEIVED]
    slow = int(np.count_nonzero(service_ns >= stall_ns))
    return Finding.judged(where, slow == 1, f"{slow:,} of {len(service_ns):,} probes took {format_duration(stall_ns)}")


def room(near: socket.socket, far: socket.socket, size: int, most: int) -> int:
    """How many datagrams of `size` bytes the far end's receive buffer holds, up to `most`: found by trying."""
    for _ in range(most):
        near.send(bytes(size))
    held = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            far.recv(size, socket.MSG_DONTWAIT)
            held += 1
    return held


def _enlarged(ends: Endpoints) -> list[socket.socket]:
    """Both ends, their receive buffers enlarged; without rights, net.core.rmem_max is as much as is granted."""
    sockets = [end for end in (ends.near, ends.far) if isinstance(end, socket.socket)]
    for end in sockets:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        with contextlib.suppress(PermissionError):
            end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    return sockets


def findings(subject: Subject, *, stall_ns: int = _STALL_NS, period_ns: int = _PERIOD_NS) -> Iterator[Finding]:
    """The same stop, seen by a schedule and by a closed loop; each end on a CPU of its own."""
    expected = stall_ns // period_ns
    scheduled = Condition(probe="udp", placement="cross-cpu", arrivals="periodic", period_ns=period_ns)
    closed = Condition(probe="udp", placement="cross-cpu")

    def schedule() -> Finding:
        with subject.open(scheduled) as ends:
            near, far = _enlarged(ends)
            holds = room(near, far, scheduled.size, 2 * expected)
            stream = subject.stream(scheduled, ends, count=3 * expected, stall=(expected // 2, stall_ns))
        return judge_schedule("on a schedule", stream.records, stall_ns=stall_ns, period_ns=period_ns, room=holds)

    def loop() -> Finding:
        with subject.open(closed) as ends:
            stream = subject.stream(closed, ends, count=expected, stall=(expected // 2, stall_ns))
        return judge_closed("closed loop", stream.records, stall_ns=stall_ns)

    yield attempted("on a schedule", schedule)
    yield attempted("closed loop", loop)


CHECK = Check(
    "stall",
    f"the reflector stops for {format_duration(_STALL_NS)}, a probe each {format_duration(_PERIOD_NS)}: response time "
    "shows all that waited, service time of a closed loop one",
    findings,
    "Report it, with these lines: tails under a schedule can't be trusted here",
)
