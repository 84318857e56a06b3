"""From what is to be injected, and where, to what came of it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from lab.checks import check_count, pick
from lab.errors import Unavailable, UsageError
from lab.injector.counting import Counter, open_counter
from lab.injector.lanes import Senders, run_lanes
from lab.injector.pacing import Schedule, due_times, packets_in_all
from lab.injector.result import Injection, Sent
from lab.injector.source import Source
from lab.injector.sources import open_source
from lab.injector.survey import Survey, survey
from lab.injector.towards import Towards, network_of, towards
from lab.interrupts import noted
from lab.native.injection import MOST_LANES, MOST_PACKETS, WAYS, Lane, Pace, Packets
from lab.units import format_duration
from lab.world import Place, visit

__all__ = ["inject"]

#: Runs that are larger, or longer, are told of before they begin.
_LARGE, _LONG_NS = 100_000, 10_000_000_000
_PATHS = ("l2", "l3")
_PATIENCE_S = 0.2
#: Bytes that links may put in front of a packet, as vxlan does.
_HEADERS = 64


def inject(
    packets: Any,
    where: str | Towards = "lo",
    *,
    world: str | int | Place | None = None,
    rate: str | float | None = None,
    multiplier: str | float | None = None,
    arrivals: str = "periodic",
    burst: int = 1,
    loop: int | None = None,
    count: int | None = None,
    duration: str | None = None,
    threads: int = 1,
    path: str | None = None,
    seed: int | None = None,
    allow_external: bool = False,
    counted: bool = True,
    progress: Callable[[Sent], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Injection:
    """Sends packets into an interface, at the kernel's speed or on schedule, and counts what arrives.

    ::

        with lab.World(["veth"]) as world:
            world.inject(IP(src="198.18.3.1", dst="198.18.3.2") / UDP(dport=9), "veth", count=1_000_000)

    packets: a scapy packet, a list of packets or of bytes, a ``Template``, a capture, or the name of a capture file.
    where: a link or an interface. world: whose network: "host" (the default), "new" for a private one, the number of a
    process, or an open ``World``. rate: in packets a second (10000, "10kpps"; `arrivals`: "periodic" or "poisson") or
    in bits ("100Mbit"); `burst`: packets that are due at once. multiplier: of the times that a capture has, 2 for twice
    as fast. Without either, as fast as it goes. Each packet is sent once, or `loop` times; or `count` packets in all;
    or until `duration` ("2s") has passed. threads: each flow stays in order on one of them. path: "l2" or "l3" sends by
    that one, also what will not be delivered; None: by what the packets are and where they go. seed: of Poisson gaps,
    and of fields that vary at random; by default it is drawn now. allow_external: also from and to addresses
    other than loopback, outside a private world, and anywhere to multicast and broadcast addresses. counted: count what
    arrives, which costs a few percent of the speed. progress: is called about twice a second. tell: is called with a
    line before a large run; by default it is printed to standard error.

    Ctrl-C ends it, and the result says so. Raises UsageError, CaptureError, Unavailable.
    """
    check_count("number of threads", threads, high=MOST_LANES)
    if path is not None:
        pick("path", path, _PATHS)
    schedule = Schedule.of(
        rate=rate, multiplier=multiplier, arrivals=arrivals, burst=burst, duration_text=duration, seed=seed
    )
    links = [where] if world == "new" and isinstance(where, str) else []
    with visit("host" if world is None else world, links) as (place, _warnings), ExitStack() as opened:
        to = where if isinstance(where, Towards) else towards(place, where)
        source = opened.enter_context(open_source(packets, network_of(to)))
        found = survey(source, to, path=path, lanes=threads, allow_external=allow_external)
        plan = _Plan(source, to, found, schedule, threads, loop, count)
        (tell or _tell)(plan.text) if plan.is_large else None
        return plan.run(progress, _patience_s(place, int(found.lengths.max())) if counted else None)


def _tell(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr)


def _patience_s(place: Place, longest: int) -> float:
    """How long packets of up to so many bytes may be under way while none arrives."""
    if not (impair := place.impair):
        return _PATIENCE_S
    sent_s = 8 * (longest + _HEADERS) / impair.rate_bps if impair.rate_bps else 0
    return _PATIENCE_S + 2 * ((impair.delay_ns + impair.ipdv_ns) / 1e9 + sent_s)


class _Plan:
    """All that is decided before the first packet leaves."""

    def __init__(
        self,
        source: Source,
        to: Towards,
        found: Survey,
        schedule: Schedule,
        threads: int,
        loop: int | None,
        count: int | None,
    ) -> None:
        self.source, self.to, self.found, self.schedule, self.threads = source, to, found, schedule, threads
        chosen = found.ways != 0
        self.frames, self.bits = int(chosen.sum()), 8 * int(found.lengths[chosen].sum(dtype=np.int64))
        self.total = packets_in_all(source, self.frames, loop=loop, count=count, limited=bool(schedule.limit_ns))
        offsets = found.offsets[chosen]
        # What varies is told from the frame's first byte, and a raw socket takes no link layer.
        left = int(found.offsets[0]) - int(source.frames.columns("offset", stop=1)["offset"][0])
        due_ns, self.pace = None, schedule.pace
        if schedule.multiplier is not None:
            if not source.timed:
                raise UsageError(f"{source.name}: no times of their own, which a multiplier is of; give a rate")
            (time_ns,) = source.frames.columns("time_ns").values()
            due_ns, span_ns = due_times(time_ns[chosen], schedule.multiplier)
            self.pace = Pace(kind="times", span_ns=span_ns)
        self.packets = Packets(
            source.frames.contents(),
            offsets=offsets,
            lengths=found.lengths[chosen],
            ways=found.ways[chosen],
            lanes=None if found.lanes is None else found.lanes[chosen],
            due_ns=due_ns,
            fields=[
                replace(each, offset=each.offset - left, seed=(each.seed + schedule.seed) % (1 << 64))
                for each in source.fields
                if each.offset >= left
            ],
            sums=[replace(each, at=each.at - left, start=each.start - left) for each in source.sums],
        )

    @property
    def text(self) -> str:
        """What is about to be done."""
        limit_ns = self.schedule.limit_ns
        many = "packets" if self.total == MOST_PACKETS else f"{self.total:,} packets"
        lasting = f", for {format_duration(limit_ns)} at most" if limit_ns else ""
        on = f" on {self.threads} threads" if self.threads > 1 else ""
        return f"injecting {many} into {self.to.name} by {self.found.path}{on}, {self.schedule.text}{lasting}"

    @property
    def is_large(self) -> bool:
        """Whether somebody might want to be told before."""
        pace, lasting_ns = self.pace, self.schedule.limit_ns
        if pace.kind == "times":
            lasting_ns = lasting_ns or pace.span_ns * self.total // self.frames
        elif self.schedule.is_kept:
            units = self.bits * self.total // self.frames if pace.kind == "bits" else self.total
            lasting_ns = lasting_ns or units * pace.numerator // pace.denominator
        return self.total > _LARGE or lasting_ns > _LONG_NS

    def run(self, progress: Callable[[Sent], None] | None, patience_s: float | None) -> Injection:
        """Sends it all. patience_s: how long packets may be under way while none arrives; None: they aren't counted."""
        mark = 1 + secrets.randbelow(1 << 31)
        ways = [name for name, way in WAYS.items() if way and (self.found.ways == way).any()]
        warnings: list[str] = []

        def look(sent: Sent) -> None:
            if counter is not None:
                counter.count()  # before the kernel's number, of 32 bits, is full
            if progress is not None:
                progress(sent)

        with ExitStack() as opened:
            counter = None if patience_s is None else self._count(mark, warnings)
            if counter is not None:
                opened.enter_context(counter)
            senders = [opened.enter_context(Senders(self.to, ways, mark)) for _ in range(self.threads)]
            lanes = [
                Lane(
                    self.packets,
                    fds=each.fds,
                    ifindex=self.to.ifindex,
                    total=self.total,
                    pace=self.pace,
                    lane=number,
                    lanes=self.threads,
                    limit_ns=self.schedule.limit_ns,
                )
                for number, each in enumerate(senders)
            ]
            interrupted = opened.enter_context(noted())
            counts, error = run_lanes(lanes, self.total, look)
            sent = sum(each.sent for each in counts)
            delivered = None if counter is None else counter.settle(sent, patience_s or 0.0, interrupted)
        if fault := self.source.frames.fault:
            warnings.append(fault)
        return Injection.of(
            counts,
            self.found,
            link=self.to.name,
            delivered=delivered,
            scheduled=self.schedule.is_kept,
            interrupted=interrupted.is_set(),
            error=error,
            total=self.total,
            warnings=(*self.found.remarks, *warnings),
        )

    def _count(self, mark: int, warnings: list[str]) -> Counter | None:
        try:
            return open_counter(self.to, self.source, self.found, mark)
        except OSError as error:
            why = error.reason if isinstance(error, Unavailable) else error.strerror
            warnings.append(f"what arrives can't be counted ({why}); see lab doctor")
            return None
