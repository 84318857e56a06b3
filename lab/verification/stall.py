"""A reflector that stops must be seen by every probe that was due meanwhile (coordinated omission).

A closed loop sends nothing while it waits, so one slow probe is all that it tells of a long stop. A schedule goes on.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import numpy as np

from lab.conditions import Condition
from lab.records import RECEIVED, Records
from lab.units import format_duration, format_ns
from lab.verification.findings import Finding
from lab.verification.subject import Check, Subject, attempted
from lab.world import Endpoints

__all__ = ["CHECK", "findings", "judge_closed", "judge_schedule"]

_STALL_NS, _PERIOD_NS = 100_000_000, 100_000
_EDGES = 2  # slots that the stop may begin and end between
_SO_MEMINFO = 55  # asm-generic/socket.h; the rest is of linux/sock_diag.h
_MEMINFO, _DROPS = struct.Struct("=9I"), 8


def judge_schedule(where: str, records: Records, *, stall_ns: int, period_ns: int, dropped: int) -> Finding:
    """records: of a periodic stream whose reflector stopped once. dropped: datagrams that the kernel had no room for.

    Every slot of the schedule must be there. The probes that were due during the stop must have waited for its end;
    those that are lost must be accounted for by what the kernel dropped.
    """
    held_ns = np.where(records["status"] == RECEIVED, records["far_tx_ns"] - records["far_rx_ns"], 0)
    stopped = int(np.argmax(held_ns))
    begin_ns, end_ns = (int(records[name][stopped]) for name in ("far_rx_ns", "far_tx_ns"))
    due_ns = records["due_ns"]
    skipped = int(np.count_nonzero(np.diff(due_ns) != period_ns))
    due = (begin_ns < due_ns) & (due_ns < end_ns)
    received = records["status"] == RECEIVED
    waited = due & received & (records["rx_ns"] >= end_ns)
    lost = int(np.count_nonzero(~received))
    response_ns = (records["rx_ns"] - due_ns)[waited]
    all_due = due.sum() >= stall_ns // period_ns - _EDGES and not skipped
    all_waited = waited.any() and np.array_equal(waited, due & received)
    right = held_ns[stopped] >= stall_ns and all_due and all_waited and lost <= dropped
    stop = format_ns(float(held_ns[stopped]))
    evidence = f"stopped for {stop}, {due.sum():,} probes were due, {waited.sum():,} waited"
    if len(response_ns):
        evidence += f" (response p50 {format_ns(float(np.median(response_ns)))}, max {format_ns(response_ns.max())})"
    evidence += f"; {lost:,} were lost, and the kernel had no room for {dropped:,}"
    if skipped:
        evidence += f"; {skipped:,} slots are not where they should be"
    return Finding.judged(where, bool(right), evidence)


def judge_closed(where: str, records: Records, *, stall_ns: int) -> Finding:
    """records: of a closed loop whose reflector stopped once. Exactly one probe must show it."""
    service_ns = (records["rx_ns"] - records["tx_ns"])[records["status"] == RECEIVED]
    slow = int(np.count_nonzero(service_ns >= stall_ns))
    return Finding.judged(where, slow == 1, f"{slow:,} of {len(service_ns):,} probes took {format_duration(stall_ns)}")


def _dropped(ends: Endpoints) -> int:
    """Datagrams that the kernel has dropped at either end, as there was no room for them."""
    sockets = [end for end in (ends.near, ends.far) if isinstance(end, socket.socket)]
    meminfo = [end.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) for end in sockets]
    return sum(_MEMINFO.unpack(told)[_DROPS] for told in meminfo)


def findings(subject: Subject, *, stall_ns: int = _STALL_NS, period_ns: int = _PERIOD_NS) -> Iterator[Finding]:
    """The same stop, seen by a schedule and by a closed loop; each end on a CPU of its own."""
    expected = stall_ns // period_ns
    scheduled = Condition(probe="udp", placement="cross-cpu", arrivals="periodic", period_ns=period_ns)
    closed = Condition(probe="udp", placement="cross-cpu")

    def schedule() -> Finding:
        with subject.open(scheduled) as ends:
            stream = subject.stream(scheduled, ends, count=3 * expected, stall=(expected // 2, stall_ns))
            dropped = _dropped(ends)
        return judge_schedule("on a schedule", stream.records, stall_ns=stall_ns, period_ns=period_ns, dropped=dropped)

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
