"""Two taps see every message pass, and stamp it by themselves: what they say must agree with the loop."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from lab.conditions import Condition
from lab.errors import Unavailable
from lab.host import clock_bracket
from lab.records import RECEIVED, Records
from lab.units import format_ns
from lab.verification.findings import SKIPPED, Finding
from lab.verification.sightings import Tap, by_number
from lab.verification.subject import Check, Subject, attempted

__all__ = ["CHECK", "Clock", "findings", "judge"]

Array = npt.NDArray[np.int64]
_SIGHTINGS = ("near tap out", "far tap in", "far tap out", "near tap in")


class Clock:
    """By how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, and how well that is known; from before to after."""

    def __init__(self) -> None:
        self._before = clock_bracket()

    def offset_ns(self) -> tuple[int, int]:
        """(offset, uncertainty) in ns. Raises Unavailable if somebody set the clock meanwhile."""
        after = clock_bracket()
        offsets = [bracket["realtime_ns"] - bracket["monotonic_ns"] for bracket in (self._before, after)]
        uncertain_ns = max(bracket["width_ns"] for bracket in (self._before, after))
        if abs(offsets[1] - offsets[0]) > uncertain_ns:
            step = format_ns(abs(offsets[1] - offsets[0]))
            raise Unavailable(f"somebody set the clock meanwhile, by {step}", errno=None, fix="Run it again")
        return offsets[0], uncertain_ns


def judge(
    where: str, records: Records, seen_ns: Mapping[str, Array], offset_ns: int, uncertain_ns: int, *, reflected: bool
) -> Finding:
    """seen_ns: when the taps saw each probe, CLOCK_REALTIME, shape (n,); 0 where they did not.

    offset_ns, uncertain_ns: as from ``Clock``. reflected: whether a reflector of ours replied, and so has stamps.
    """
    own = {name: records[f"{name}_ns"] + offset_ns for name in ("tx", "far_rx", "far_tx", "rx")}
    reflector = ("far_rx", "far_tx") if reflected else ()
    names = ("tx", *_SIGHTINGS[:2], *reflector, *_SIGHTINGS[2:], "rx")
    times = np.column_stack([own[name] if name in own else seen_ns[name] for name in names])
    received = records["status"] == RECEIVED
    whole = received & np.all([seen_ns[name] != 0 for name in _SIGHTINGS], axis=0)
    evidence = f"the taps saw {whole.sum():,} of {received.sum():,} probes four times"
    step_ns = np.diff(times[whole], axis=1)
    one_clock = [(a in own) == (b in own) for a, b in itertools.pairwise(names)]
    wrong = step_ns < np.where(one_clock, 0, -uncertain_ns)
    if wrong.any():
        pair = int(np.argmax(wrong.sum(axis=0)))
        by = format_ns(-int(step_ns[:, pair].min()))
        evidence += f"; {names[pair + 1]} lies before {names[pair]} in {wrong[:, pair].sum():,} of them, by up to {by}"
    else:
        evidence += f", where they must be (to {uncertain_ns} ns)"
    return Finding.judged(where, bool(received.any() and whole.sum() == received.sum() and not wrong.any()), evidence)


def _sightings(link: str, taps: Mapping[str, Tap], size: int, count: int) -> dict[str, Array]:
    """When each probe was seen, by name of the sighting. On lo one tap sees all four, the request before the reply."""
    seen = {end: tap.messages(size) for end, tap in taps.items()}
    if link == "lo":
        out, in_ = (by_number(seen["near"].way(outgoing), count, 2) for outgoing in (True, False))
        columns = [out[:, 0], in_[:, 0], out[:, 1], in_[:, 1]]
    else:
        places = (("near", True), ("far", False), ("far", True), ("near", False))
        columns = [by_number(seen[end].way(outgoing), count, 1)[:, 0] for end, outgoing in places]
    return dict(zip(_SIGHTINGS, columns, strict=True))


def findings(
    subject: Subject,
    *,
    links: Sequence[str] = ("lo", "veth"),
    probes: Sequence[str] = ("icmp", "udp", "tcp"),
    families: Sequence[int] = (4, 6),
    count: int = 2_000,
) -> Iterator[Finding]:
    """One finding a link, probe and family."""

    def measure(where: str, condition: Condition, taps: Mapping[str, Tap]) -> Finding:
        with subject.open(condition) as ends:
            for tap in taps.values():
                tap.forget()
            clock = Clock()
            stream = subject.stream(condition, ends, count=count)
            offset_ns, uncertain_ns = clock.offset_ns()
        seen_ns = _sightings(condition.link, taps, condition.size, count)
        reflected = condition.probe != "icmp"
        return judge(where, stream.records, seen_ns, offset_ns, uncertain_ns, reflected=reflected)

    for link in links:
        with contextlib.ExitStack() as opened:
            try:
                taps = _open(subject, link, opened)
            except Unavailable as error:
                yield Finding(link, SKIPPED, str(error))
                continue
            for probe in probes:
                for family in families:
                    condition = Condition(link=link, probe=probe, family=family)
                    yield attempted(str(condition), partial(measure, str(condition), condition, taps))


def _open(subject: Subject, link: str, opened: contextlib.ExitStack) -> dict[str, Tap]:
    """A tap on the link's device at each end. Raises Unavailable."""
    devices = subject.link(link).devices
    return {end: opened.enter_context(Tap(subject.place, end, device)) for end, device in devices.items()}


CHECK = Check(
    "second-witness",
    "two taps on the way see every message between the loop's own stamps",
    findings,
    "Report it, with these lines: the stamps of this loop can't be trusted here",
)
