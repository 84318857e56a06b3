"""Rounds of many bytes: their ends opened, their threads pinned, and what came of each."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lab.accounts import Accounts, accounting
from lab.bulks import Bulk, BulkCondition, Round
from lab.conditions import Condition
from lab.cpus import assigned, parse_cpus
from lab.doubts import bulk_doubts
from lab.errors import Unavailable
from lab.host import host
from lab.interrupts import noted
from lab.native.stop import Stop
from lab.native.throughput import BulkOutcome, BulkSpec, move_bytes
from lab.noise import Background
from lab.probes import choose_cpus
from lab.streams import Cpus
from lab.world import Endpoints, Place, open_bulk_ends

__all__ = ["Transfers", "measured"]

#: Bytes of a datagram reader's buffer that are asked for.
_ROOM = 1 << 22
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55  # asm-generic/socket.h
#: What SO_MEMINFO tells (linux/sock_diag.h): nine numbers, of which the last one counts drops.
_MEMINFO = struct.Struct("9I")
#: A datagram is waited for so long after all have been sent, and for as long as the link is made to delay it.
_PATIENCE_NS = 40_000_000
_NOISE_NS = 20_000_000
#: A first datagram, which may be lost, is waited for so long, and sent so often.
_DISCOVERY_S, _DISCOVERIES = 0.2, 5


class Transfers:
    """All rounds of one condition."""

    def __init__(
        self,
        condition: BulkCondition,
        place: Place | None,
        cpus: str | Sequence[int] | None,
        rounds: int,
        warnings: list[str],
    ) -> None:
        self._condition, self._place, self._rounds, self._warnings = condition, place, rounds, warnings
        self._about = _ends_condition(condition)
        self._wired = place is not None and condition.link in place.wires
        self._cpus = self._choose_cpus(cpus)
        self._room: int | None = None
        self._stop = Stop()

    def _choose_cpus(self, asked: str | Sequence[int] | None) -> Cpus:
        if self._about is None:
            given = None if asked is None else parse_cpus(asked, "inline")
            return Cpus(given[0] if given else max(os.sched_getaffinity(0)), None)
        if asked is None:
            allowed = os.sched_getaffinity(0)
            if self._condition.placement == "cross-cpu" and len(allowed) < 2:
                what = f"the writer and the reader need a CPU each, and this process may use {len(allowed)}"
                raise Unavailable(what, errno=None, fix="Allow more with taskset, or give --placement same-cpu")
            return choose_cpus(self._about, wired=self._wired)
        return assigned(parse_cpus(asked, self._condition.placement), self._about, wired=self._wired)

    def run(self) -> Bulk:
        """Raises what ended a round; Ctrl-C ends them all."""
        background = Background(self._cpus.used, _NOISE_NS)
        done: list[Round] = []
        dropped: list[int | None] = []
        with noted(self._stop.set) as interrupted:
            self._discover()
            while len(done) < self._rounds and not interrupted.is_set():
                run, accounts = self._round()
                done.append(run)
                dropped.append(accounts.softnet_dropped)
        if not interrupted.is_set():
            background.look_again()
        about = {"experiment": {}, "host": host(), **background.to_json()}
        link = self._condition.link
        runs = [{"link": link, "sent": 0, "softnet_dropped": each} for each in dropped]
        doubts = bulk_doubts(link, done, self._cpus.used, about, runs, self._room)
        if interrupted.is_set():
            doubts.append(f"interrupted in round {len(done)} of {self._rounds}")
        return Bulk(
            condition=self._condition,
            rounds=tuple(done),
            cpus={"near": self._cpus.near, "far": self._cpus.far},
            receive_buffer=self._room,
            background=background.to_json(),
            interrupted=interrupted.is_set(),
            warnings=(*self._warnings, *doubts),
        )

    def _discover(self) -> None:
        """Has the link find its neighbours before the first datagrams, of which few may wait for that and be lost."""
        if self._condition.probe != "udp":
            return
        with self._connected() as ends:
            near, far = ends.near, ends.far
            assert isinstance(near, socket.socket) and isinstance(far, socket.socket)  # noqa: S101, PT018 - both are ours
            far.settimeout(_DISCOVERY_S)
            for _try in range(_DISCOVERIES):
                with contextlib.suppress(TimeoutError):
                    near.send(b"?")
                    far.recv(1)
                    return

    def _round(self) -> tuple[Round, Accounts]:
        with self._opened() as (ends, spec):
            wire = None if ends is None else ends.wire
            if wire is not None and self._cpus.wire is not None:
                wire.pin(self._cpus.wire)
            with ThreadPoolExecutor(1, "lab bulk") as elsewhere:
                moving = elsewhere.submit(self._move, ends, spec)
                try:
                    outcome, accounts = moving.result()
                except KeyboardInterrupt:  # a second one: the loop ends within 50 ms, and its sockets are closed then
                    self._stop.set()
                    raise
            for error in (None if wire is None else wire.error, outcome.error):
                if error is not None:
                    raise error
            return measured(self._condition, outcome, accounts, _overrun(ends)), accounts

    def _move(self, ends: Endpoints | None, spec: BulkSpec) -> tuple[BulkOutcome, Accounts]:
        """On a thread of its own: the caller's keeps its affinity."""
        os.sched_setaffinity(0, {self._cpus.near})  # 0: this thread
        with accounting(ends or Endpoints(None, None, "memcpy")) as accounts:
            outcome = move_bytes(spec, self._stop)
        return outcome, accounts

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Endpoints | None, BulkSpec]]:
        """New ends, and what is to be done with them."""
        c = self._condition
        plain: dict[str, Any] = {
            "kind": c.probe,
            "verify": c.verify,
            "size": c.size,
            "duration_ns": c.warmup_ns + c.duration_ns,
            "limit_bytes": c.limit_bytes or 0,
        }
        if c.probe == "memcpy":
            yield None, BulkSpec(**plain)
            return
        plain["far_cpu"] = self._cpus.far
        if c.probe == "pipe":
            read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(read, "rb", 0) as reader, os.fdopen(write, "wb", 0) as writer:
                yield Endpoints(None, None, "pipe"), BulkSpec(in_fd=reader.fileno(), out_fd=writer.fileno(), **plain)
            return
        with self._connected() as ends:
            near, far = ends.near, ends.far
            assert near is not None and far is not None  # noqa: S101, PT018 - both are ours
            if c.probe == "udp" and isinstance(far, socket.socket):
                self._room = _make_room(far)
                impair = self._place.impair if self._place else None
                under_way_ns = 4 * (impair.delay_ns + impair.ipdv_ns) if impair else 0
                plain["patience_ns"] = _PATIENCE_NS + under_way_ns
            yield ends, BulkSpec(in_fd=far.fileno(), out_fd=near.fileno(), **plain)

    def _connected(self) -> Endpoints:
        if self._place is None:
            return Endpoints(*socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM), kind="unix-stream")
        assert self._about is not None  # noqa: S101 - only memcpy has none
        return open_bulk_ends(self._place, self._about, self._condition.family or 4)


def _ends_condition(condition: BulkCondition) -> Condition | None:
    """The condition whose ends and CPUs these are, of whatever size; None for memcpy."""
    if condition.probe == "memcpy":
        return None
    return Condition(link=condition.link, family=condition.family, probe=condition.probe, placement=condition.placement)


def _make_room(far: socket.socket) -> int:
    """Enlarges a datagram reader's buffer as far as that is allowed. Returns its bytes."""
    try:
        far.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    except PermissionError:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)  # as far as net.core.rmem_max allows
    return far.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _overrun(ends: Endpoints | None) -> int | None:
    """Datagrams that the kernel dropped as the reader's buffer was full; None where there are none."""
    if ends is None or ends.kind != "udp" or not isinstance(ends.far, socket.socket):
        return None
    drops: int = _MEMINFO.unpack(ends.far.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1]
    return drops


def measured(condition: BulkCondition, outcome: BulkOutcome, accounts: Accounts, overrun: int | None = None) -> Round:
    """A round, and its part that counts: from the first look after the warm-up to the last byte; else all of it."""
    at_ns = outcome.at_ns - outcome.begun_ns
    end_ns = max(outcome.last_ns - outcome.begun_ns, 0)
    first = int(np.searchsorted(at_ns, condition.warmup_ns))
    begin_ns, before = (int(at_ns[first]), int(outcome.bytes[first])) if first < len(at_ns) - 1 else (0, 0)
    datagram = condition.probe == "udp"
    sent = outcome.sent // condition.size if datagram else outcome.messages
    return Round(
        at_ns=at_ns,
        received=outcome.bytes,
        bytes=outcome.received - before,
        duration_ns=end_ns - begin_ns,
        total=outcome.received,
        messages=sent,
        lost=sent - outcome.arrived if datagram else None,
        overrun=overrun,
        duplicates=outcome.duplicates,
        reordered=outcome.reordered,
        foreign=outcome.foreign,
        wrong=outcome.wrong,
        near_cpu_ns=outcome.near_cpu_ns,
        far_cpu_ns=outcome.far_cpu_ns,
        near_switches=outcome.near_switches,
        far_switches=outcome.far_switches,
        retransmits=sum(end["retransmits"] for end in accounts.tcp.values()) if accounts.tcp else None,
        late=outcome.late,
    )
