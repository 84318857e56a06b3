"""How many bytes a second a link carries from its near end to its far end; and memory, which nothing can exceed."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lab.accounts import Accounts, accounting
from lab.bulks import BULK_PROBES, NETWORKED, Bulk, BulkCondition, Round, bulk_doubts
from lab.checks import check_count, pick
from lab.conditions import MAX_PAYLOAD, Condition, largest_payload
from lab.cpus import assigned, parse_cpus
from lab.errors import UsageError
from lab.host import host
from lab.impairments import Impairment, parse_impairment
from lab.interrupts import noted
from lab.native.stop import Stop
from lab.native.throughput import MAX_MESSAGE, MIN_DATAGRAM, BulkOutcome, BulkSpec, move_bytes
from lab.noise import Background
from lab.probes import choose_cpus
from lab.streams import Cpus
from lab.units import byte_count, duration
from lab.world import Endpoints, Place, open_bulk_ends, require_link, visit

__all__ = ["bulk"]

#: Bytes of a message where nothing cuts it: as many programs copy at a time.
_DEFAULT_SIZE = 1 << 16
_PLACEMENTS = ("same-cpu", "cross-cpu")
_MAX_ROUNDS = 1000
#: Bytes of a datagram reader's buffer that are asked for.
_ROOM = 1 << 22
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
#: A datagram is waited for so long after all have been sent, and for as long as the link is made to delay it.
_PATIENCE_NS = 40_000_000
_NOISE_NS = 20_000_000
#: A first datagram, which may be lost, is waited for so long, and sent so often.
_DISCOVERY_S, _DISCOVERIES = 0.2, 5


def bulk(
    way: str = "lo",
    *,
    probe: str | None = None,
    family: int | None = None,
    size: int | str | None = None,
    duration: str = "1s",
    warmup: str = "100ms",
    rounds: int = 5,
    total: int | str | None = None,
    placement: str | None = None,
    cpus: str | Sequence[int] | None = None,
    verify: bool = False,
    impair: str | Impairment | None = None,
    world: str | int | Place | None = None,
) -> Bulk:
    """Writes at the near end as fast as it goes, reads at the far end, and tells how many bytes a second arrived.

    way: a link, or one of unix-stream, pipe and memcpy, which cross none. probe: "tcp" (default) or "udp" over a link,
    or one of those three. family: 4 (default) or 6. size: bytes of a message, or "64KiB"; None: 64 KiB, and of udp the
    largest that fits in one packet. duration: of a round, after the warm-up, which is left out. rounds: each with
    sockets of its own. total: a round ends after so many bytes, or "1GB"; None: by its time only. placement: the writer
    and the reader, a thread each, on one CPU ("same-cpu") or two ("cross-cpu"); None: two, if there are two.
    cpus: of the writer and the reader, such as "1,0". verify: the reader compares every byte, which takes time.
    impair, world: as in ``rtt``.

    memcpy copies one buffer to another in one thread: of 64 KiB, within the CPU's cache; give a size of 256MiB for
    memory itself. Raises UsageError, Unavailable, StreamError. Ctrl-C ends it; rounds that were finished are kept.
    """
    check_count("rounds", rounds, high=_MAX_ROUNDS)
    impair = parse_impairment(impair) if isinstance(impair, str) else impair
    way, probe, family = _way(way, probe, family)
    condition = BulkCondition(
        link=way,
        family=family,
        probe=probe,
        size=_size(size, probe),
        placement=_placement(probe, placement, cpus),
        warmup_ns=_time(warmup),
        duration_ns=_time(duration),
        limit_bytes=None if total is None else _bytes(total),
        verify=verify,
    )
    if probe not in NETWORKED:
        if impair is not None:
            raise UsageError(f"{probe} has no packets that could be impaired: leave --impair out")
        return _Runner(condition, None, cpus, rounds, []).run()
    with visit(world, [way], impair) as (place, warnings):
        require_link(place, way)
        if probe == "udp":
            fits = min(largest_payload(family or 4, probe, place.links[way].mtu), MAX_PAYLOAD)
            condition = replace(condition, size=fits if size is None else condition.size)
            if condition.size > fits:
                warnings.append(
                    f"{condition}: {condition.size:,} bytes leave in fragments; -s {fits} fits in one packet"
                )
        return _Runner(condition, place, cpus, rounds, warnings).run()


def _way(way: str, probe: str | None, family: int | None) -> tuple[str, str, int | None]:
    """Link, probe and family; what crosses no link is its own."""
    if way in BULK_PROBES and way not in NETWORKED:
        if probe not in (None, way):
            raise UsageError(f"{way} is no link that {probe} could cross: leave --probe out, or name a link such as lo")
        probe = way
    probe = probe or NETWORKED[0]
    pick("probe", probe, BULK_PROBES)
    if probe in NETWORKED:
        return way, probe, 4 if family is None else family
    if way not in ("lo", probe):
        raise UsageError(f"{probe} crosses no link: leave {way} out, as in lab bulk {probe}")
    if family is not None:
        raise UsageError(f"{probe} is no network: it has no IP version; leave -{family} out")
    return probe, probe, None


def _placement(probe: str, placement: str | None, cpus: str | Sequence[int] | None) -> str:
    if probe == "memcpy":
        if placement not in (None, "inline"):
            raise UsageError("memcpy is one thread: leave --placement out")
        return "inline"
    if placement is not None:
        pick("placement", placement, _PLACEMENTS)
        return placement
    several = parse_cpus(cpus, None)[:2] if cpus is not None else tuple(os.sched_getaffinity(0))
    return "cross-cpu" if len(set(several)) > 1 else "same-cpu"


def _time(text: str) -> int:
    return duration(text)


def _bytes(value: int | str) -> int:
    """A number, also as text, or a number with a unit."""
    if isinstance(value, str):
        value = int(value) if value.strip().isdecimal() else byte_count(value)
    check_count("number of bytes", value, high=1 << 62)
    return value


def _size(size: int | str | None, probe: str) -> int:
    low, high = (MIN_DATAGRAM, MAX_PAYLOAD) if probe == "udp" else (1, MAX_MESSAGE)
    found = min(_DEFAULT_SIZE, high) if size is None else _bytes(size)
    if not low <= found <= high:
        raise UsageError(f"a size of {found:,} bytes: {probe} takes {low:,} to {high:,}")
    return found


class _Runner:
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
            if ends is not None and ends.wire is not None and self._cpus.wire is not None:
                ends.wire.pin(self._cpus.wire)
            accounts = Accounts()
            outcome: BulkOutcome | None = None
            error: BaseException | None = None

            def work() -> None:
                nonlocal accounts, outcome, error
                try:
                    os.sched_setaffinity(0, {self._cpus.near})  # 0: this thread
                    with accounting(ends or Endpoints(None, None, "memcpy")) as accounts:
                        outcome = move_bytes(spec, self._stop)
                except BaseException as caught:  # handed to the caller's thread, which raises it
                    error = caught

            thread = threading.Thread(target=work, name="lab bulk")
            thread.start()
            try:
                thread.join()
            finally:  # a second Ctrl-C must not close the sockets under the running loop, which ends within 50 ms
                self._stop.set() if thread.is_alive() else None
                thread.join()
            if error is not None:
                raise error
            if ends is not None and ends.wire is not None and ends.wire.error is not None:
                raise ends.wire.error
            assert outcome is not None  # noqa: S101 - it is that or an error
            if outcome.error is not None:
                raise outcome.error
            return _measured(self._condition, outcome, accounts), accounts

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


def _measured(condition: BulkCondition, outcome: BulkOutcome, accounts: Accounts) -> Round:
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
