"""When probes are due: schedules, which wait for no reply and so hide no stall (coordinated omission). Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lab.conditions import Condition
from lab.errors import UsageError
from lab.records import UNSENT, Records
from lab.units import duration, format_ns, format_pace, packet_rate

__all__ = ["due_times", "lag", "schedule"]

#: Behind its schedule for good: most probes are late by so many periods, or sending took so much longer than asked.
_LATE_PERIODS = 10
_LONGER = 1.05


def schedule(arrivals: str | None, rate: str | float | None, interval: str | None) -> tuple[str, int | None]:
    """What was asked, as the fields ``arrivals`` and ``period_ns`` of ``Condition``.

    rate: such as "10kpps"; interval: such as "100us". Either means periodic, unless `arrivals` says otherwise. Raises
    UsageError for both, or for one that is none.
    """
    if rate is not None and interval is not None:
        raise UsageError(f"--rate {rate} and --interval {interval} together: give one")
    if rate is None and interval is None:
        return arrivals or Condition.arrivals, None
    period_ns = duration(interval) if interval is not None else round(1_000_000_000 / packet_rate(str(rate)))
    return arrivals or "periodic", period_ns


def due_times(condition: Condition, count: int, seed: int) -> npt.NDArray[np.int64]:
    """When `count` probes of a schedule are due, in ns from the first, shape (count,), ascending from 0.

    periodic: whole periods, which don't drift. poisson: gaps drawn from the exponential distribution whose mean is the
    period (RFC 2330, section 11.1.1), the same for the same seed.
    """
    period_ns = condition.period_ns
    if period_ns is None:
        raise ValueError(f"{condition.arrivals} is no schedule")
    if condition.arrivals == "periodic":
        return np.arange(count, dtype=np.int64) * period_ns
    due = np.zeros(count, np.int64)
    gaps = np.random.default_rng(seed).exponential(period_ns, count - 1)
    np.rint(np.cumsum(gaps, out=gaps), out=gaps)
    due[1:] = gaps
    return due


def lag(records: Records, period_ns: int) -> str | None:
    """What to tell of a stream that fell behind its schedule for good; None if it kept it, but for stalls."""
    sent = records["status"] != UNSENT
    due, tx = records["due_ns"][sent], records["tx_ns"][sent]
    if len(tx) < 2 or due[-1] == due[0]:
        return None
    late_ns = float(np.median(tx - due))
    asked_ns, took_ns = int(due[-1] - due[0]), int(tx[-1] - tx[0])
    if late_ns <= _LATE_PERIODS * period_ns and took_ns <= _LONGER * asked_ns:
        return None
    gaps = len(tx) - 1
    return (
        f"{format_pace(asked_ns / gaps)} were due and {format_pace(took_ns / gaps)} were sent: half of the probes left "
        f"{format_ns(late_ns)} late or more, which response_ns holds and rtt_ns hides; give a lower --rate, or measure "
        "again while nothing else keeps this CPU busy"
    )
