"""What is doubtful about an injection, in whole sentences with remedies. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lab.errors import errno_name
from lab.native.injection import MOST_PACKETS
from lab.units import format_ns, format_pace

if TYPE_CHECKING:
    from lab.injector.result import Injection
    from lab.injector.survey import Survey

__all__ = ["ended_by", "number_of", "remarks"]

#: Behind its schedule for good: half of the packets are late by so many mean gaps, and all took so much longer.
_LATE_GAPS = 10
_LONGER = 1.05

_NO_ROUTE = (
    "no route leads there, or {link} is down or gone; look at ip route get ADDRESS, or address what {link} reaches"
)
#: Why the kernel refuses a packet for good, and what to do.
_REFUSALS = {
    errno.EMSGSIZE: "larger than the MTU of {link}; give smaller packets, or a greater MTU",
    errno.ENETUNREACH: _NO_ROUTE,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.EPERM: "a firewall rule drops them on their way out; look at nft list ruleset",
    errno.EACCES: "a broadcast address, or a route that prohibits it; give addresses of single hosts",
    errno.EINVAL: "no raw socket takes such an IP header; send them as frames (--path l2)",
    errno.EADDRNOTAVAIL: "their source is no address of this network; send them as frames (--path l2)",
    errno.EAFNOSUPPORT: "{link} has no such address family; switch it on (lab doctor tells)",
}
_UNKNOWN = "look at a capture of {link} (lab capture) for what it did take"

#: What ends an injection before its time, and what to do.
_ENDS = {
    errno.ENODEV: "{link} went away; make it anew, and send the rest",
    errno.ENXIO: "{link} went away; make it anew, and send the rest",
    errno.ENETDOWN: "{link} went down, or away; bring it up, or make it anew, and send the rest",
    errno.ENOBUFS: "{link} took nothing for a while, as its queue stays full; see that its other end is read",
    errno.EAGAIN: "{link} took nothing for a while, as its queue stays full; see that its other end is read",
}


def ended_by(number: int, link: str, sent: int, total: int) -> str:
    """What ended an injection: an errno. total: the packets that were to be sent."""
    why = _ENDS.get(number, f"{{link}}: {errno_name(number)}; look at lab doctor")
    so_far = f"{sent:,} of {number_of(total, 'packet')}" if total < MOST_PACKETS else number_of(sent, "packet")
    return f"after {so_far}: {why.format(link=link)}"


def remarks(injection: Injection, survey: Survey, first_refused: Mapping[int, int]) -> Iterator[str]:
    """What is doubtful. first_refused: the number of a packet, from 0, by the errno that it was refused with."""
    link, frames = injection.link, len(survey.offsets)
    for number, count in sorted(injection.errors.items()):
        why = _REFUSALS.get(number, _UNKNOWN).format(link=link)
        name = errno_name(number) if number else "a number unknown here"
        first = f", packet {first_refused[number] + 1:,} first" if number in first_refused else ""
        yield f"refused by the kernel, {name}: {number_of(count, 'packet')}{first}: {why}"
    for why, count in survey.left_out.items():
        yield f"left out: {count:,} of {number_of(frames, 'frame')}: {why}"
    for why, count in survey.undelivered.items():
        yield f"sent, to reach no program: {count:,} of {number_of(frames, 'frame')}: {why}"
    if injection.late is not None and injection.retried:
        yield (
            f"{link} had no room {number_of(injection.retried, 'time')}, and packets waited for it, which the pacing "
            "error holds; give a lower --rate"
        )
    if behind := _behind(injection):
        yield behind
    if injection.lost and not survey.undelivered:
        yield (
            f"did not arrive: {injection.lost:,} of {number_of(injection.sent, 'packet')}: a queue on their way was "
            "full, or something there drops them; give a lower --rate, or look at nstat -a there"
        )
    if injection.delivered is not None and injection.lost is None:
        yield _untold(injection)


def number_of(count: int, what: str) -> str:
    """``1, "packet"`` → ``"1 packet"``; ``2_000, "packet"`` → ``"2,000 packets"``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _untold(injection: Injection) -> str:
    """Why what arrived doesn't tell what was lost."""
    more = (injection.delivered or 0) - injection.sent
    if more > 0:
        return f"arrived beyond those sent: {number_of(more, 'packet')}: something else sends there; let nothing else"
    return (
        f"not there yet when it was interrupted: {number_of(-more, 'packet')}: under way or lost; let it end to be told"
    )


def _behind(injection: Injection) -> str | None:
    """What to tell of a schedule that was not kept for good; None if it was kept, but for stalls."""
    errors_ns = injection.pacing_error_ns
    if errors_ns is None or errors_ns["p50"] is None or not injection.due_ns:  # all were due at once, which is no pace
        return None
    gap_ns = injection.duration_ns / injection.sent
    due_ns = injection.due_ns
    if errors_ns["p50"] <= _LATE_GAPS * gap_ns or injection.duration_ns <= _LONGER * due_ns:
        return None
    return (
        f"{format_pace(due_ns / injection.sent)} were due and {format_pace(gap_ns)} left, half of the packets "
        f"{format_ns(errors_ns['p50'])} late or more; give a lower --rate, more --threads, or send again while nothing "
        "else keeps the CPUs busy"
    )
