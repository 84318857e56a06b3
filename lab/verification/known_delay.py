"""A delay that is known must come out as it is: the reflector spins between its two stamps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from lab.conditions import Condition
from lab.units import format_duration, format_ns
from lab.verification.findings import SHOWN, SKIPPED, Finding
from lab.verification.rounds import Rounds, interleaved
from lab.verification.subject import Check, Subject, attempted

__all__ = ["CHECK", "findings", "judge"]

HOLDS_NS = (0, 5_000, 20_000, 100_000)
#: The near end thinks (spinning: it is too short to sleep) between probes. Sent back to back, the rest of a probe's way
#: would depend on the hold too: caches are colder after a longer pause, and of two threads on one CPU, the scheduler
#: wakes the one that used less of it sooner. With this much, the rest varies by less than 0.2 us up to holds of 20 us.
_THINK_NS = 30_000
#: Probe, wait mode and placement. Waking a thread on another CPU takes longer the longer that CPU slept: not judged.
_JUDGED = (
    ("udp", "block", "inline"),
    ("tcp", "block", "inline"),
    ("udp", "block", "same-cpu"),
    ("udp", "spin", "cross-cpu"),
)
_SHOWN = (("udp", "block", "cross-cpu"),)
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
    rounds: int = 40,
    count: int = 100,
) -> Iterator[Finding]:
    """One finding a probe, wait mode and placement: those to be judged, and those to be shown only."""

    def measure(where: str, condition: Condition, rounds: int) -> Finding:
        with subject.open(condition) as ends:
            return judge(where, interleaved(subject, condition, ends, HOLDS_NS, rounds=rounds, count=count))

    for way in (*judged, *shown):
        probe, wait, placement = way
        condition = Condition(probe=probe, wait=wait, placement=placement, think_ns=_THINK_NS)
        where = ", ".join(way)
        found = attempted(where, partial(measure, where, condition, rounds if way in judged else rounds // 4))
        if way in shown and found.status != SKIPPED:
            found = Finding(where, SHOWN, f"{found.evidence} (not judged)")
        yield found


CHECK = Check(
    "known-delay",
    "what the reflector spins comes out: slope 1.00 ± 0.02, each step within 2 % or 150 ns",
    findings,
    "Run it again while nothing else runs; if it fails again, no delay of this size can be trusted here",
)
