"""What taking the kernel's stamps costs: it is part of every round trip that is measured with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lab import stats
from lab.conditions import Condition
from lab.streams import Stream

__all__ = ["stamping_cost"]

_PAIRS = 5
#: A stream has as many probes as take a tenth of a second, within limits. What is too slow for the fewest hides the
#: microsecond or two that stamps take.
_STREAM_NS = 100_000_000
_FEWEST, _MOST = 20, 500


def stamping_cost(
    condition: Condition, typical_ns: float, send: Callable[[Condition, int, int], Stream]
) -> tuple[float, float, float] | None:
    """By how much stamps lengthen the p50 of the round trip, in ns: the median of five pairs, and its 95 % interval.

    The streams of a pair, one with stamps and one without, in turn the first, are short and closed-loop, and follow
    each other, so that noise meets both alike. typical_ns: a round trip, about. send: sends so many probes of a
    condition, after so many that are not recorded. None if round trips take too long for it to show, or too little came
    back.
    """
    if typical_ns * _FEWEST > _STREAM_NS:
        return None
    closed = replace(condition, arrivals="closed", period_ns=None)
    count = min(int(_STREAM_NS / typical_ns), _MOST)
    differences = []
    for pair in range(_PAIRS):
        found = {}
        for stages in (True, False) if pair % 2 else (False, True):
            stream = send(replace(closed, stages=stages), count, count // 5)
            p50 = stats.quantile(stream.rtt_ns, "p50")
            if stream.interrupted or p50 is None:
                return None
            found[stages] = p50
        differences.append(float(found[True] - found[False]))
    interval = stats.median_interval(differences, seed=0)
    return None if interval is None else (float(np.median(differences)), *interval)
