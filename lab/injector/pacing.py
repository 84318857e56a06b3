"""When packets are due, and how many there are: from what is asked to what ``native/due.c`` works by."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lab.checks import check_count, pick
from lab.errors import UsageError
from lab.injector.source import Source
from lab.native.injection import MOST_PACKETS, Pace
from lab.units import bit_rate, duration, packet_rate

__all__ = ["Schedule", "due_times", "packets_in_all"]

ARRIVALS = ("periodic", "poisson")
_S = 1_000_000_000
_BITS = re.compile(r"\d+(?:\.\d+)?\s*[kMG]?bit")
_MOST_NS, _MOST_SEED = 86_400 * _S * 365, 2**63


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What was asked.

    multiplier: of the packets' own times; None: they don't matter. limit_ns: 0: none. seed: of all that is drawn.
    """

    pace: Pace
    multiplier: Fraction | None
    limit_ns: int
    seed: int
    text: str

    @classmethod
    def of(
        cls,
        *,
        rate: str | float | None,
        multiplier: float | str | None,
        arrivals: str,
        burst: int,
        duration_text: str | None,
        seed: int | None,
    ) -> Schedule:
        """rate: "10kpps", 10000 or "100Mbit"; multiplier: 2 is twice as fast. Raises UsageError."""
        pick("arrivals", arrivals, ARRIVALS)
        check_count("burst", burst)
        if seed is None:
            seed = secrets.randbits(63)
        check_count("seed", seed, low=0, high=_MOST_SEED)
        limit_ns = 0 if duration_text is None else duration(duration_text)
        if limit_ns > _MOST_NS:
            raise UsageError(f"a duration of {duration_text}: give a year (31536000s) at most")
        if rate is None and (arrivals != "periodic" or burst != 1):
            what = f"--burst {burst}" if arrivals == "periodic" else f"--arrivals {arrivals}"
            raise UsageError(f"{what} is of a schedule: give its rate too, such as --rate 10kpps")
        if rate is not None and multiplier is not None:
            raise UsageError(f"--rate {rate} and --multiplier {multiplier} together: give one")
        if multiplier is not None:
            factor = _factor(multiplier)
            text = "with its own timing" if factor == 1 else f"{float(factor):g} times as fast as captured"
            return cls(pace=Pace(kind="times"), multiplier=factor, limit_ns=limit_ns, seed=seed, text=text)
        if rate is None:
            return cls(pace=Pace(), multiplier=None, limit_ns=limit_ns, seed=seed, text="as fast as it goes")
        return cls(
            pace=_paced(str(rate), arrivals, burst, seed),
            multiplier=None,
            limit_ns=limit_ns,
            seed=seed,
            text=_told(str(rate), arrivals, burst),
        )

    @property
    def is_kept(self) -> bool:
        """Whether packets are due at times, so that they can be late."""
        return self.pace.kind != "topspeed"


def _factor(multiplier: float | str) -> Fraction:
    try:
        factor = Fraction(str(multiplier)).limit_denominator(1_000_000)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--multiplier {multiplier}: give a number, such as 2 for twice as fast") from None
    if factor <= 0:
        raise UsageError(f"--multiplier {multiplier}: give a number above 0, such as 2 for twice as fast")
    return factor


def _paced(rate: str, arrivals: str, burst: int, seed: int) -> Pace:
    if _BITS.fullmatch(rate.strip()):
        if arrivals != "periodic":
            raise UsageError(f"--arrivals {arrivals} takes a rate in packets, such as --rate 10kpps")
        return Pace(kind="bits", numerator=_S, denominator=bit_rate(rate), burst=burst)
    try:
        period = _S / packet_rate(rate)
    except UsageError as error:
        raise UsageError(f"{error}, or bits a second, such as 100Mbit") from None
    return Pace(kind=arrivals, numerator=period.numerator, denominator=period.denominator, burst=burst, seed=seed)


def _told(rate: str, arrivals: str, burst: int) -> str:
    unit = "" if rate.strip()[-1:].isalpha() else " packets/s"
    rest = (", Poisson" if arrivals == "poisson" else "") + (f", in bursts of {burst}" if burst > 1 else "")
    return f"at {rate}{unit}{rest}"


def due_times(time_ns: npt.NDArray[np.int64], multiplier: Fraction) -> tuple[npt.NDArray[np.int64], int]:
    """When frames are due that passed at those times, from the first one; and from one turn of them to the next.

    A frame that is older than one before it is due together with that. Between turns lies the mean gap.
    """
    after = np.maximum.accumulate(time_ns) - time_ns[0]
    exact = after.astype(np.longdouble) * multiplier.denominator / multiplier.numerator
    if exact[-1] >= _MOST_NS:
        raise UsageError(f"its frames are spread over {float(exact[-1]) / _S:,.0f} s: give --rate, or --topspeed")
    due = np.rint(exact).astype(np.int64)
    last = int(due[-1])
    return due, last + (last // (len(due) - 1) if len(due) > 1 else 0)


def packets_in_all(source: Source, frames: int, *, loop: int | None, count: int | None, limited: bool) -> int:
    """How many packets shall be sent: of a file each frame once, of a packet that varies as many as are different.

    frames: those that can be sent. limited: a duration ends it. Raises UsageError.
    """
    if count is not None and loop is not None:
        raise UsageError(f"--count {count} and --loop {loop} together: give one")
    if count is not None:
        check_count("count", count, high=MOST_PACKETS)
        return count
    if loop is None and limited:
        return MOST_PACKETS
    turns = 1 if loop is None else loop
    check_count("loop", turns, high=MOST_PACKETS)
    once = max((each.every * (len(each.values) or each.count) for each in source.fields), default=frames)
    if not once:
        raise UsageError(f"{source.name} varies without end: say how many packets (--count), or how long (--duration)")
    if once * turns > MOST_PACKETS:
        raise UsageError(f"{once * turns:,} packets: give {MOST_PACKETS:,} at most (--count)")
    return once * turns
