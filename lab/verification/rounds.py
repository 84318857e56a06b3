"""Runs whose reflector holds its replies for a known time, interleaved in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lab import stats
from lab.conditions import Condition
from lab.records import RECEIVED
from lab.verification.subject import Subject
from lab.world import Endpoints

__all__ = ["Rounds", "interleaved"]

Array = npt.NDArray[np.float64]
_WARMUP = 20


@dataclass(frozen=True)
class Rounds:
    """p50 of each run in ns, shape (rounds, holds). held: of what the reflector measured of itself, far_tx − far_rx."""

    rtt_ns: Array
    held_ns: Array

    @classmethod
    def joined(cls, parts: Sequence[Rounds]) -> Rounds:
        """The rounds of all parts."""
        return cls(np.concatenate([part.rtt_ns for part in parts]), np.concatenate([part.held_ns for part in parts]))

    def added_ns(self) -> tuple[Array, Array]:
        """How much more than the first column of the same round, in ns, shape (rounds, holds − 1): rtt and held."""
        return self.rtt_ns[:, 1:] - self.rtt_ns[:, :1], self.held_ns[:, 1:] - self.held_ns[:, :1]


def interleaved(
    subject: Subject,
    condition: Condition,
    ends: Endpoints,
    holds_ns: Sequence[int],
    *,
    rounds: int,
    count: int,
    cycle_ns: int = 0,
    **options: Any,
) -> Rounds:
    """A fresh run of `count` probes for each hold in each round, in an order drawn beforehand from the seed.

    cycle_ns: what the near end's think time makes up a shorter hold to. options: of the sender.
    """
    columns = np.tile(np.arange(len(holds_ns)), (rounds, 1))
    order = np.random.default_rng(subject.seed).permuted(columns, axis=1)
    rtt_ns, held_ns = np.zeros(order.shape), np.zeros(order.shape)
    for round_, planned in enumerate(order):
        for column in planned:
            hold_ns = holds_ns[column]
            paced = replace(condition, think_ns=max(0, cycle_ns - hold_ns))
            stream = subject.stream(paced, ends, count=count, warmup=_WARMUP, hold_ns=hold_ns, **options)
            received = stream.records[stream.records["status"] == RECEIVED]
            rtt_ns[round_, column] = _p50(received["rx_ns"] - received["tx_ns"])
            held_ns[round_, column] = _p50(received["far_tx_ns"] - received["far_rx_ns"])
    return Rounds(rtt_ns, held_ns)


def _p50(values: npt.NDArray[np.int64]) -> float:
    found = stats.quantile(values, "p50")
    return np.nan if found is None else found
