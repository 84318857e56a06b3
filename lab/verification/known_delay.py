"""A delay that is known must come out as it is: the reflector spins between its two stamps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lab.conditions import Condition
from lab.tuning import Tuning
from lab.units import format_duration, format_ns
from lab.verification.findings import SHOWN, SKIPPED, Finding
from lab.verification.rounds import Rounds, interleaved
from lab.verification.subject import Check, Subject, attempted

__all__ = ["CHECK", "findings", "judge"]

HOLDS_NS = (0, 5_000, 20_000, 100_000)
#: A hold must change nothing but itself. Caches are colder after a longer pause, so where a hold is shorter than this,
#: the near end thinks for the rest of it: awake, so where it doesn't spin anyway that must be too short to sleep.
_CYCLE_NS = {"block": 50_000, "spin": 100_000}
#: Where the kernel happens to put a connection makes some holds cheaper than others, by up to 0.3 µs: hence several.
_SOCKETS = 5
#: Probe, wait mode and placement. Not judged is what does not only wait while the reflector holds: a CPU that sleeps
#: takes longer to wake the longer it slept, and TCP on two CPUs gets some of its own work done.
_JUDGED = (
    ("udp", "block", "inline"),
    ("tcp", "block", "inline"),
    ("udp", "block", "same-cpu"),
    ("tcp", "block", "same-cpu"),
    ("udp", "spin", "cross-cpu"),
)
_SHOWN = (("tcp", "spin", "cross-cpu"), ("udp", "block", "cross-cpu"))
#: Of two threads on one CPU, the fair scheduler prefers the one that has used less of it. Who that is depends on the
#: hold, and the way that the switch takes on who that is: some 0.3 µs. Real-time threads run until they sleep.
_ONE_CPU = "the fair scheduler answers a hold with time of its own, and real-time priority is not to be had"
#: Of what was asked, so that a reflector that doesn't hold at all proves nothing.
HELD_AT_LEAST = 0.9
_SLOPE_TOLERANCE, _STEP_TOLERANCE, _STEP_TOLERANCE_NS = 0.02, 0.02, 150


def judge(where: str, rounds: Rounds, holds_ns: Sequence[int] = HOLDS_NS) -> Finding:
    """rounds: a column a hold, the first of them 0.

    What a hold adds to the round trip is taken within each round, and summarised by the median over rounds; likewise
    what the reflector says it added. slope: least squares through the origin.
    """
    rtt_ns, held_ns = (np.median(added, axis=0) for added in rounds.added_ns())
    slope = float(held_ns @ rtt_ns / (held_ns @ held_ns)) if held_ns.any() else np.nan
    tolerance_ns = np.maximum(_STEP_TOLERANCE * held_ns, _STEP_TOLERANCE_NS)
    right = abs(slope - 1) <= _SLOPE_TOLERANCE and bool(np.all(np.abs(rtt_ns - held_ns) <= tolerance_ns))
    right = right and bool(np.all(held_ns >= HELD_AT_LEAST * np.array(holds_ns[1:])))
    steps = ", ".join(
        f"{format_duration(hold)} as {format_ns(rtt)} (held {format_ns(held)})"
        for hold, rtt, held in zip(holds_ns[1:], rtt_ns, held_ns, strict=True)
    )
    return Finding.judged(where, right, f"slope {slope:.3f}; {steps}")


def findings(
    subject: Subject,
    *,
    judged: Sequence[tuple[str, str, str]] = _JUDGED,
    shown: Sequence[tuple[str, str, str]] = _SHOWN,
    rounds: int = 100,
    count: int = 30,
) -> Iterator[Finding]:
    """One finding a probe, wait mode and placement: those to be judged, and those to be shown only.

    Two CPUs differ in speed from round to round, so across them there are twice as many rounds.
    """

    def measure(way: tuple[str, str, str], rounds: int, tuning: Tuning) -> Finding:
        probe, wait, placement = way
        condition = Condition(probe=probe, wait=wait, placement=placement)
        found = []
        for number in range(_SOCKETS):
            part = replace(subject, seed=subject.seed + number)
            with part.open(condition) as ends:
                found.append(
                    interleaved(
                        part,
                        condition,
                        ends,
                        HOLDS_NS,
                        rounds=rounds // _SOCKETS,
                        count=count,
                        cycle_ns=_CYCLE_NS[wait],
                        tuning=tuning,
                    )
                )
        return judge(_where(way), Rounds.joined(found))

    for way in judged:
        real_time = "same-cpu" in way
        enough = 2 * rounds if "cross-cpu" in way else rounds
        found = attempted(_where(way), partial(measure, way, enough, Tuning(fifo=real_time)))
        if real_time and found.status == SKIPPED:
            found = attempted(_where(way), partial(measure, way, rounds // 4, Tuning()))
            yield _not_judged(found, f": {_ONE_CPU}")
        else:
            yield found
    for way in shown:
        yield _not_judged(attempted(_where(way), partial(measure, way, rounds // 4, Tuning())))


def _where(way: tuple[str, str, str]) -> str:
    return ", ".join((*way, "real-time") if "same-cpu" in way else way)


def _not_judged(found: Finding, why: str = "") -> Finding:
    if found.status == SKIPPED:
        return found
    return Finding(found.where, SHOWN, f"{found.evidence} (not judged{why})")


CHECK = Check(
    "known-delay",
    "what the reflector spins comes out: slope 1.00 ± 0.02, each step within 2 % or 150 ns",
    findings,
    "Run it again while nothing else runs; if it fails again, no delay of this size can be trusted here",
)
