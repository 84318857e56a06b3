"""What ``compare`` says of two conditions: nothing where there is no difference, and a small one where there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lab import stats
from lab.conditions import Condition
from lab.units import format_ns
from lab.verification.findings import Finding
from lab.verification.known_delay import HELD_AT_LEAST
from lab.verification.rounds import Rounds, interleaved
from lab.verification.subject import Check, Subject, attempted

__all__ = ["ALIKE", "SENSITIVITY", "alike", "judge_added", "judge_alike", "sensitivity"]

_CONDITION = Condition(probe="udp")
_HELD_SHARE = (0.90, 0.99)
_ADDED_NS, _ADDED_TOLERANCE = 500, 0.2
_IDLE_FIX = "Run it again while nothing else runs; if it fails again, don't rest on differences found here"


def judge_alike(where: str, comparisons: Sequence[Rounds]) -> Finding:
    """comparisons: of two columns that should not differ. The 95 % interval must hold zero in 90 to 99 % of them."""
    held, medians = 0, []
    for seed, rounds in enumerate(comparisons):
        differences = list(rounds.added_ns()[0][:, 0])
        interval = stats.median_interval(differences, seed)
        held += interval is not None and interval[0] <= 0 <= interval[1]
        medians.append(float(np.median(differences)))
    low, high = _HELD_SHARE
    share = held / len(comparisons)
    evidence = (
        f"the 95 % interval holds zero in {held} of {len(comparisons)} comparisons ({low:.0%} to {high:.0%} should); "
        f"half of their medians lie within ± {format_ns(float(np.median(np.abs(medians))))}"
    )
    return Finding.judged(where, low <= share <= high, evidence)


def judge_added(where: str, rounds: Rounds) -> Finding:
    """rounds: two columns, the second held for longer. The difference must be found, and be as long as it was held."""
    rtt_ns, held_ns = (added[:, 0] for added in rounds.added_ns())
    found, held = float(np.median(rtt_ns)), float(np.median(held_ns))
    interval = stats.median_interval(list(rtt_ns), seed=0)
    right = interval is not None and interval[0] > 0 and abs(found - held) <= _ADDED_TOLERANCE * held
    right = right and held >= HELD_AT_LEAST * _ADDED_NS
    told = "no interval" if interval is None else f"95 % {interval[0]:+.0f}…{interval[1]:+.0f} ns"
    return Finding.judged(where, right, f"{held:.0f} ns held, {found:+.0f} ns found ({told})")


def alike(
    subject: Subject,
    *,
    comparisons: int = 200,
    rounds: int = 10,
    count: int = 300,
    holds_ns: tuple[int, int] = (0, 0),
) -> Iterator[Finding]:
    """The same condition under two labels. holds_ns: of each label; a test makes one of them slower."""
    where, seeds = str(_CONDITION), range(subject.seed, subject.seed + comparisons)

    def measure() -> Finding:
        with subject.open(_CONDITION) as ends:
            compared = [
                interleaved(replace(subject, seed=seed), _CONDITION, ends, holds_ns, rounds=rounds, count=count)
                for seed in seeds
            ]
        return judge_alike(where, compared)

    yield attempted(where, measure)


def sensitivity(
    subject: Subject, *, probes: Sequence[str] = ("udp", "tcp"), rounds: int = 100, count: int = 200
) -> Iterator[Finding]:
    """One finding a probe: 500 ns against none."""

    def measure(where: str, condition: Condition) -> Finding:
        with subject.open(condition) as ends:
            compared = interleaved(subject, condition, ends, (0, _ADDED_NS), rounds=rounds, count=count)
        return judge_added(where, compared)

    for probe in probes:
        condition = Condition(probe=probe)
        yield attempted(str(condition), partial(measure, str(condition), condition))


ALIKE = Check("a-a", "lo against lo: no difference is found where there is none", alike, _IDLE_FIX)
SENSITIVITY = Check(
    "sensitivity",
    f"{_ADDED_NS} ns more are found, with their sign, and within {_ADDED_TOLERANCE:.0%}",
    sensitivity,
    _IDLE_FIX,
)
