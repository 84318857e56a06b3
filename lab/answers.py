"""Packets that are sent, and what answers them: thousands under way at once, both stamped by the kernel."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.injecting import inject
from lab.injector.answered import Answers
from lab.injector.networks import Networks
from lab.injector.pacing import packets_in_all
from lab.injector.remarks import number_of
from lab.injector.result import Injection
from lab.injector.source import Source
from lab.injector.sources import open_source
from lab.injector.towards import Towards, network_of, own_networks, towards
from lab.interrupts import noted
from lab.taps.frames import HAS
from lab.taps.live import LiveCapture
from lab.taps.matching import COLUMNS, KINDS, Matches, find_answers, find_requests
from lab.taps.packets import Dissector, Packet
from lab.taps.places import TapAt
from lab.units import duration
from lab.world import Place, visit

__all__ = ["sr"]

#: Packets that were not seen, and are listed all the same; and those that scapy is asked about, requests and answers.
_MOST_LISTED, _MOST_ASKED, _MOST_ASKING = 1000, 1000, 4000
#: Beside its bytes, what a frame takes in a ring; and a ring that is larger than this is as large as it ever is.
_SLOT_BYTES, _LARGEST_BYTES = 112, 64 << 20

Array = npt.NDArray[Any]


def sr(
    packets: Any,
    where: str = "lo",
    *,
    world: str | int | Place | None = None,
    timeout: str = "1s",
    filter: str | None = None,  # noqa: A002 - as everywhere
    **options: Any,
) -> Answers:
    """Sends packets as ``lab.inject`` does, and finds their answers in a capture of the interface that they leave by.

    ::

        answered, unanswered = lab.sr([IP(dst="127.0.0.1") / UDP(dport=port) for port in range(1, 1024)])

    packets, where, world, options: as ``lab.inject`` has them. timeout: how long to wait for answers once the last
    packet is sent, if some are missing. filter: what the capture keeps, of requests and answers, as libpcap reads it.

    ICMP echo, UDP, TCP and ICMP errors are matched as ``lab.taps.matching`` tells, all else as scapy does. A round trip
    is from the kernel's stamp of the request on that interface to its stamp of the answer, so it lacks the system call;
    on lo, both are of when the packet came in. Ctrl-C ends it, and keeps what was answered. Raises UsageError,
    CaptureError, Unavailable.
    """
    timeout_ns = duration(timeout)
    links = [where] if world == "new" else []
    with visit("host" if world is None else world, links) as (place, _warnings), ExitStack() as opened:
        to = replace(towards(place, where), tap=None)  # what is written to the far device never passes the near one
        source = opened.enter_context(open_source(packets, network_of(to)))
        tap = TapAt(name=to.device, interface=to.device, socket_at=to.socket_at, description="where lab.sr sends")
        capture = LiveCapture([tap], filter=filter, buffer=_buffer(source, options), rings=1)
        try:
            with noted(lambda: os.eventfd_write(capture.fileno(), 1)) as interrupted:
                injection = inject(source, to, world=place, counted=False, **options)
                deadline_ns = time.monotonic_ns() + timeout_ns
                search = _Search(capture, source)
                while True:
                    capture.refresh()
                    whole = len(capture.frames) >= 2 * injection.sent and search.find(injection.sent)
                    left_ns = deadline_ns - time.monotonic_ns()
                    if whole or interrupted.is_set() or left_ns <= 0:
                        break
                    capture.capturer.wait(left_ns / 1e9)
                capture.stop()
                search.find(injection.sent)
                return search.answers(injection, to, interrupted=interrupted.is_set())
        except BaseException:
            capture.close()
            raise


def _buffer(source: Source, options: dict[str, Any]) -> str | None:
    """Memory of the ring: for all that is to come, as a larger one takes longer to make than to fill.

    None: as much as any capture has. Raises UsageError for numbers of packets that can't be.
    """
    loop, count = options.get("loop"), options.get("count")
    limited = options.get("duration") is not None
    total = packets_in_all(source, len(source.frames), loop=loop, count=count, limited=limited)
    mean_bytes = float(source.frames.columns("captured")["captured"].mean())
    needed = int(2 * total * (mean_bytes + _SLOT_BYTES))
    return None if needed > _LARGEST_BYTES else f"{needed // 1024 + 1}KiB"


class _Search:
    """Requests and answers in a capture, looked for again as it grows."""

    def __init__(self, capture: LiveCapture, source: Source) -> None:
        self._capture, self._source = capture, source
        self._varying = _varying(source)
        self._packets: dict[int, Packet] = {}  # of whom scapy was asked
        self._numbers = np.zeros(0, np.int64)
        self._columns: dict[str, Array] = {}
        self._found = Matches(*np.zeros((4, 0), np.int64))

    def find(self, sent: int) -> bool:
        """Looks at all frames that are there; whether so many requests are, and all of them answered."""
        frames = self._capture.frames
        if self._columns and len(frames) == len(self._columns["has"]):
            return self._whole(sent)
        self._columns = frames.columns(*COLUMNS)
        numbers = find_requests(frames, self._columns, self._source.frames, self._varying)
        request = np.flatnonzero(numbers >= 0)
        self._numbers = numbers[request]
        self._found = self._asked_scapy(find_answers(frames, self._columns, request))
        return self._whole(sent)

    def _whole(self, sent: int) -> bool:
        return len(self._numbers) >= sent and bool((self._found.answer >= 0).all())

    def _asked_scapy(self, found: Matches) -> Matches:
        """The same with answers to what is neither echo, UDP nor TCP."""
        familiar = self._columns["has"] & (HAS["echo"] | HAS["ports"]) != 0
        open_ = np.flatnonzero((found.answer < 0) & ~familiar[found.request])[:_MOST_ASKED]
        if not len(open_):
            return found
        free = ~familiar
        free[found.request] = free[found.answer[found.answer >= 0]] = False
        answers: dict[bytes, list[int]] = {}
        for row in np.flatnonzero(free)[:_MOST_ASKING].tolist():
            answers.setdefault(self._packet(row).hashret(), []).append(row)
        answer, kind = found.answer.copy(), found.kind.copy()
        for place in open_.tolist():
            request = int(found.request[place])
            packet = self._packet(request)
            rows = answers.get(packet.hashret(), [])
            for row in rows:
                if row > request and self._packet(row).answers(packet):
                    answer[place], kind[place] = row, KINDS.index("other")
                    rows.remove(row)
                    break
        return found._replace(answer=answer, kind=kind)

    def _packet(self, row: int) -> Packet:
        if row not in self._packets:
            self._packets[row] = self._capture[row]
        return self._packets[row]

    def _strange_senders(self, to: Towards) -> Iterator[str]:
        """Tells if requests without an answer are from addresses to which none comes back, as those are elsewhere."""
        open_ = self._found.request[self._found.answer < 0]
        senders, family = self._columns["source"][open_], self._columns["family"][open_]
        known = Networks([*own_networks(to.socket_at), "0.0.0.0/32", "::/128"])  # the last two: none yet
        strange = np.flatnonzero((family != 0) & ~known.have(senders, family))
        if len(strange):
            first = strange[0]
            address = ipaddress.ip_address(senders[first].tobytes()[: 4 if family[first] == 4 else 16])
            yield (
                f"{number_of(len(strange), 'packet')} without an answer came from elsewhere, such as {address}, which "
                f"{to.name} has not; give src=, or make them within lab.scapy_sockets(world)"
            )

    def _unseen(self, injection: Injection, most: int) -> list[Packet]:
        """Packets that were not seen leaving; none of what varies, as its values are not known."""
        frames, tried = len(self._source.frames), injection.sent + injection.failed
        if injection.left_out:  # of each turn: up to the end of the last one
            tried = -(-tried // (frames - injection.left_out)) * frames
        rows = np.setdiff1d(np.arange(0 if self._source.fields else tried), self._numbers)[:most] % frames
        return [*map(Dissector(self._source.frames).packet, rows.tolist())]

    def answers(self, injection: Injection, to: Towards, *, interrupted: bool) -> Answers:
        """What was found."""
        meant = injection.sent + injection.failed + injection.left_out
        unseen = max(0, meant - len(self._numbers))
        warnings = [*injection.warnings, *self._capture.warnings, *self._strange_senders(to)]
        if unseen:
            warnings.append(f"{unseen:,} of {meant:,} packets were not seen leaving, so nothing can have answered them")
        return Answers(
            capture=self._capture,
            injection=injection,
            interrupted=interrupted or injection.interrupted,
            warnings=tuple(warnings),
            matches=self._found,
            numbers=self._numbers,
            time_ns=self._columns["time_ns"],
            unseen=tuple(self._unseen(injection, min(unseen, _MOST_LISTED))),
        )


def _varying(source: Source) -> npt.NDArray[np.bool_] | None:
    """Which bytes of its only frame vary, with the checksums over them; None: none."""
    if not source.fields:
        return None
    varying = np.zeros(int(source.frames.columns("captured")["captured"][0]), bool)
    for field in source.fields:
        varying[field.offset : field.offset + field.bytes] = True
    for total in source.sums:
        varying[total.at : total.at + 2] = True
    return varying
