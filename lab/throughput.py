"""How many bytes a second a link carries from its near end to its far end, and memory beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from lab.bulks import BULK_PROBES, NETWORKED, Bulk, BulkCondition
from lab.checks import check_count, pick
from lab.conditions import MAX_PAYLOAD, largest_payload
from lab.cpus import parse_cpus
from lab.errors import UsageError
from lab.impairments import Impairment, parse_impairment
from lab.native.throughput import MAX_MESSAGE, MIN_DATAGRAM
from lab.transfers import Transfers
from lab.units import byte_count, duration
from lab.world import Place, require_link, visit

__all__ = ["bulk"]

#: Bytes of a message where nothing cuts it: as many programs copy at a time.
_DEFAULT_SIZE = 1 << 16
_PLACEMENTS = ("same-cpu", "cross-cpu")
_MAX_ROUNDS = 1000


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
        return Transfers(condition, None, cpus, rounds, []).run()
    with visit(world, [way], impair) as (place, warnings):
        require_link(place, way)
        if probe == "udp":
            fits = min(largest_payload(family or 4, probe, place.links[way].mtu), MAX_PAYLOAD)
            condition = replace(condition, size=fits if size is None else condition.size)
            if condition.size > fits:
                warnings.append(
                    f"{condition}: {condition.size:,} bytes leave in fragments; -s {fits} fits in one packet"
                )
        return Transfers(condition, place, cpus, rounds, warnings).run()


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
