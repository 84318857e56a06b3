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
#: Probes of a stream: as many as take a tenth of a second, within limits.
_STREAM_NS = 100_000_000
_FEWEST, _MOST = 20, 500


def stamping_cost(
    condition: Condition, typical_ns: float, send: Callable[[Condition, int], Stream]
) -> tuple[float, float, float] | None:
    """By how much stamps lengthen the p50 of the round trip, in ns: the median of five pairs, and its 95 % interval.

    The streams of a pair, one with stamps and one without, are short and closed-loop, and follow each other, so that
    noise meets both alike. typical_ns: a round trip, about. send: sends so many probes of a condition. None if too
    little came back.
    """
    closed = replace(condition, arrivals="closed", period_ns=None)
    count = int(np.clip(_STREAM_NS / typical_ns, _FEWEST, _MOST))
    differences = []
    for _ in range(_PAIRS):
        found = []
        for stages in (True, False):
            stream = send(replace(closed, stages=stages), count)
            p50 = stats.quantile(stream.rtt_ns, "p50")
            if stream.interrupted or p50 is None:
                return None
            found.append(p50)
        differences.append(float(found[0] - found[1]))
    interval = stats.median_interval(differences, seed=0)
    return None if interval is None else (float(np.median(differences)), *interval)
