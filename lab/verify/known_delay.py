"""A delay that is known must come out as it is: the reflector spins between its two stamps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from lab.conditions import Condition
from lab.units import format_duration, format_ns
from lab.verify.findings import SHOWN, Finding
from lab.verify.rounds import Rounds, interleaved
from lab.verify.subject import Check, Subject, attempted

__all__ = ["CHECK", "findings", "judge"]

HOLDS_NS = (0, 5_000, 20_000, 100_000)
#: Wait mode and placement; waking a thread on another CPU takes longer the longer that CPU slept: shown, not judged.
_JUDGED = (("block", "inline"), ("block", "same-cpu"), ("spin", "cross-cpu"))
_SHOWN = ("block", "cross-cpu")
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
    probes: Sequence[str] = ("udp", "tcp"),
    judged: Sequence[tuple[str, str]] = _JUDGED,
    shown: bool = True,
    rounds: int = 40,
    count: int = 100,
) -> Iterator[Finding]:
    """One finding a probe and a way of waiting; `judged` and `shown` say which ways."""

    def measure(where: str, condition: Condition, rounds: int) -> Finding:
        with subject.open(condition) as ends:
            return judge(where, interleaved(subject, condition, ends, HOLDS_NS, rounds=rounds, count=count))

    for probe in probes:
        for wait, placement in judged:
            condition = Condition(probe=probe, wait=wait, placement=placement)
            where = f"{probe}, {wait}, {placement}"
            yield attempted(where, partial(measure, where, condition, rounds))
    if shown:
        wait, placement = _SHOWN
        where = f"udp, {wait}, {placement}"
        condition = Condition(probe="udp", wait=wait, placement=placement)
        found = attempted(where, partial(measure, where, condition, rounds // 4))
        yield Finding(where, SHOWN, f"{found.evidence} (not judged)")


CHECK = Check(
    "known-delay",
    "what the reflector spins comes out: slope 1.00 ± 0.02, each step within 2 % or 150 ns",
    findings,
    "Run it again while nothing else runs; if it fails again, no delay of this size can be trusted here",
)
