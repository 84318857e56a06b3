"""Whether every address of 127.0.0.0/8 answers: all of them asked, one by one.

Each is sent an ICMP echo request from a raw socket, and counts as answering if the reply comes from the address that
was asked and carries what was sent there. Whoever is silent is asked again, so that a busy machine is not taken for a
missing address.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.errors import UsageError
from lab.interrupts import noted
from lab.native.stop import Stop
from lab.native.sweep import BATCH, SweepLoop
from lab.units import format_ns
from lab.world.ends import pass_only_echo_replies
from lab.world.place import Place

__all__ = ["LOOPBACK", "Sweep", "sweep"]

#: What may be asked: traffic to it never leaves the machine (RFC 1122 section 3.2.1.3).
LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
#: Memory that the kernel charges for a reply of ours is below 2 KiB.
_RECEIVE_BUFFER = BATCH * 2048
_PATIENCE_NS = 100_000_000
_TICK_S = 0.1
#: Threads are worth starting for so many addresses each, and no more of them than this.
_SHARE, _MOST_THREADS = 4096, 8
#: Ranges of addresses that are listed in JSON, at most.
_LISTED = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """What came of a sweep. Addresses are counted from `first`; bit i % 8 of byte i // 8 of a map is of first + i.

    asked: how many were asked at all; fewer than `count` only if it was interrupted. answered: those whose reply came
    from the address that was asked. refused: those that the kernel would send nothing to, as it said at once; by why in
    ``errors``. All others that were asked are silent: they did not answer any of `tries` requests.
    sent: requests. duplicates: second replies. other_source: replies from another address than the one asked. foreign:
    messages that were no reply of this sweep.
    """

    first: str
    count: int
    asked: int
    answered: int
    refused: int
    sent: int
    tries: int
    duplicates: int
    other_source: int
    foreign: int
    errors: dict[str, int]
    duration_ns: int
    interrupted: bool
    answered_map: npt.NDArray[np.uint8] = field(repr=False)
    refused_map: npt.NDArray[np.uint8] = field(repr=False)
    asked_map: npt.NDArray[np.uint8] = field(repr=False)

    @property
    def silent(self) -> int:
        """Addresses that were asked, and did not answer."""
        return self.asked - self.answered - self.refused

    @property
    def missing(self) -> int:
        """Addresses that were asked, and are silent or were refused."""
        return self.asked - self.answered

    @property
    def complete(self) -> bool:
        """Whether every address was asked, and answered."""
        return self.answered == self.count

    def answers(self, address: str) -> bool:
        """Whether this address answered. Raises UsageError for one that is not in the range."""
        index = _number(address) - _number(self.first)
        if not 0 <= index < self.count:
            raise UsageError(f"{address} was not asked: give one of {self.count:,} addresses from {self.first} on")
        return bool(self.answered_map[index // 8] >> index % 8 & 1)

    def missing_ranges(self) -> list[tuple[str, str]]:
        """The addresses that did not answer, in ranges of neighbours, first and last, ascending."""
        return [self._range(low, high) for low, high in _runs(self.asked_map & ~self.answered_map)]

    def refused_ranges(self) -> list[tuple[str, str]]:
        """Those among them that the kernel would send nothing to."""
        return [self._range(low, high) for low, high in _runs(self.refused_map)]

    def _range(self, low: int, high: int) -> tuple[str, str]:
        first = ipaddress.IPv4Address(self.first)
        return str(first + low), str(first + high)

    def to_json(self) -> dict[str, Any]:
        """All counts, and the first thousand ranges of those that did not answer."""
        names = ("first", "count", "asked", "answered", "refused", "silent", "sent", "tries", "duplicates")
        more = ("other_source", "foreign", "errors", "duration_ns", "interrupted")
        ranges = self.missing_ranges()
        told = {"missing_ranges": [list(each) for each in ranges[:_LISTED]], "missing_range_count": len(ranges)}
        return {name: getattr(self, name) for name in (*names, *more)} | told

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        each_ns = self.duration_ns / max(1, self.sent)
        yield (
            f"{self.answered:,} of {self.asked:,} addresses answered, from {self.first} on, in "
            f"{format_ns(self.duration_ns)} ({format_ns(each_ns)} each)"
        )
        if self.asked < self.count:
            yield f"interrupted: {self.count - self.asked:,} more were not asked"
        if self.silent:
            yield f"{self.silent:,} were silent, asked {self.tries} times"
        for why, count in self.errors.items():
            yield f"{count:,} were refused by the kernel: {why}"
        if self.other_source:
            yield f"{self.other_source:,} replies came from another address than the one asked"
        ranges = self.missing_ranges()
        for low, high in ranges[:5]:
            yield f"no answer: {low}" if low == high else f"no answer: {low} to {high}"
        if len(ranges) > 5:
            yield f"… and {len(ranges) - 5:,} more ranges"


def sweep(
    place: Place,
    *,
    first: str = "127.0.0.0",
    count: int | None = None,
    end: str = "near",
    tries: int = 3,
    threads: int | None = None,
    broadcast: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Asks `count` addresses from `first` on; None: all up to 127.255.255.255.

    place: a world; its namespace at `end` is asked, in which a raw socket must be allowed (in a private world it is).
    tries: how often who is silent is asked. threads: None: one a CPU. broadcast: whether broadcast addresses may be
    asked (SO_BROADCAST). progress: called ten times a second with the addresses asked so far, and with all of them.

    The kernel takes the last of 127.0.0.0/8 for a broadcast address: it refuses to send there unless that is allowed
    (EACCES), and then does not reply, by the sysctl net.ipv4.icmp_echo_ignore_broadcasts.
    Ctrl-C ends it early (``interrupted``). Raises UsageError for addresses outside of 127.0.0.0/8, Unavailable.
    """
    first, count = _range_of(first, count)
    threads = threads or len(os.sched_getaffinity(0))
    threads = max(1, min(threads, _MOST_THREADS, count // _SHARE))
    share = (-(-count // threads) + 7) // 8 * 8  # a whole number of bytes of a map
    starts = range(0, count, share)
    stop = Stop()
    with ExitStack() as opened:
        parts = []
        for start in starts:
            near = opened.enter_context(place.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, end=end))
            near.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, broadcast)
            parts.append(_Part(near, _number(first) + start, min(share, count - start), tries, stop))
        began_ns = time.monotonic_ns()
        with noted(stop.set) as interrupted:
            _run_all(parts, stop, lambda asked: progress and progress(asked, count))
        return _gathered(first, count, parts, tries, time.monotonic_ns() - began_ns, interrupted.is_set())


def _range_of(first: str, count: int | None) -> tuple[str, int]:
    """The range as it is to be asked. Raises UsageError unless all of it is loopback."""
    low = _number(first)
    most = int(LOOPBACK.broadcast_address) - low + 1
    if ipaddress.IPv4Address(low) not in LOOPBACK:
        raise UsageError(f"{first} is not in {LOOPBACK}: only that is asked, as it never leaves the machine")
    if count is not None and not 0 < count <= most:
        raise UsageError(f"{count} addresses from {first} on: give 1 to {most:,}, the last of {LOOPBACK}")
    return str(ipaddress.IPv4Address(low)), most if count is None else count


def _number(address: str) -> int:
    try:
        return int(ipaddress.IPv4Address(address))
    except ValueError:
        raise UsageError(f"{address!r} is no IPv4 address: give one such as 127.0.0.1") from None


class _Part(threading.Thread):
    """A thread that asks a part of the range, over a socket of its own."""

    def __init__(self, near: socket.socket, first: int, count: int, tries: int, stop: Stop) -> None:
        super().__init__(name="lab sweep")
        icmp_id = secrets.randbelow(0xFFFF) + 1
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        pass_only_echo_replies(near, 4, icmp_id)
        self.loop = SweepLoop(
            near.fileno(),
            icmp_id=icmp_id,
            first=first,
            count=count,
            tries=tries,
            nonce=secrets.randbits(64),
            patience_ns=_PATIENCE_NS,
        )
        self.count, self._flag = count, stop
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.loop.run(self._flag)
        except BaseException as error:  # handed to the caller's thread, which raises it
            self.error = error
            self._flag.set()


def _run_all(parts: list[_Part], stop: Stop, tell: Callable[[int], object]) -> None:
    """Runs them all; raises what one of them raised."""
    for part in parts:
        part.start()
    try:
        while running := [part for part in parts if part.is_alive()]:
            running[0].join(_TICK_S)
            tell(sum(part.loop.asked for part in parts))
    finally:  # a second Ctrl-C must not close the sockets under the running loops, which end within 50 ms
        stop.set()
        for part in parts:
            part.join()
    for part in parts:
        if part.error is not None:
            raise part.error


def _gathered(first: str, count: int, parts: list[_Part], tries: int, duration_ns: int, interrupted: bool) -> Sweep:
    loops = [part.loop for part in parts]
    answered, refused = (np.concatenate([getattr(each, name) for each in loops]) for name in ("answered", "refused"))
    asked = np.concatenate([np.packbits(np.arange(part.count) < part.loop.asked, bitorder="little") for part in parts])
    counts = [each.counts() for each in loops]
    errors: dict[str, int] = {}
    for each in loops:
        for why, times in each.errors().items():
            errors[why] = errors.get(why, 0) + times
    return Sweep(
        first=first,
        count=count,
        asked=sum(each.asked for each in loops),
        answered=int(np.bitwise_count(answered).sum()),
        refused=int(np.bitwise_count(refused).sum()),
        sent=sum(each["sent"] for each in counts),
        tries=tries,
        duplicates=sum(each["duplicates"] for each in counts),
        other_source=sum(each["other_source"] for each in counts),
        foreign=sum(each["foreign"] for each in counts),
        errors=errors,
        duration_ns=duration_ns,
        interrupted=interrupted,
        answered_map=answered,
        refused_map=refused,
        asked_map=asked,
    )


def _runs(bits: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Runs of set bits: the first and the last index of each."""
    flags = np.unpackbits(bits, bitorder="little")
    edges = np.flatnonzero(np.diff(flags, prepend=np.uint8(0), append=np.uint8(0)))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))
