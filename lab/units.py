"""Text to numbers and back, at the edge: durations carry their unit, inside all is int64 nanoseconds."""

from __future__ import annotations

import re
from fractions import Fraction

from lab.errors import UsageError

__all__ = [
    "bit_rate", "byte_count", "duration", "format_bytes", "format_duration", "format_ns", "format_pace", "format_rate",
    "micros", "packet_rate",
]  # fmt: skip

_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}
_UNITS_BIT = {"bit": 1, "kbit": 1_000, "Mbit": 1_000_000, "Gbit": 1_000_000_000}
_UNITS_PACKET = {"": 1, "pps": 1, "kpps": 1_000, "Mpps": 1_000_000}
_UNITS_BYTE = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_PACKET_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(pps|kpps|Mpps|)")
#: Packets a second that leave a nanosecond to each.
_MAX_PACKET_RATE = 1_000_000_000
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(bit|kbit|Mbit|Gbit)")
_BYTES = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS_BYTE)})")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|min)")


def duration(text: str) -> int:
    """``"5ms"`` → 5000000 (ns). Raises UsageError if the unit is missing or unknown, or the duration is zero."""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match:
        raise UsageError(
            f"{text!r} is not a duration: give a number and a unit (ns, us, ms, s, min), such as 200us or 5ms"
        )
    ns = round(float(match[1]) * _UNITS_NS[match[2]])
    if ns == 0:
        raise UsageError(f"{text!r} is no time at all: give at least 1ns")
    return ns


def bit_rate(text: str) -> int:
    """``"100Mbit"`` → 100000000 (bits a second). Raises UsageError if the unit is missing or unknown, or it is zero."""
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * _UNITS_BIT[match[2]]) if match else 0
    if not rate:
        raise UsageError(f"{text!r} is not a rate: give a number and a unit (bit, kbit, Mbit, Gbit), such as 100Mbit")
    return rate


def byte_count(text: str) -> int:
    """``"64MiB"`` → 67108864. Raises UsageError if the unit is missing or unknown, or it is less than a byte."""
    match = _BYTES.fullmatch(text.strip()) if isinstance(text, str) else None
    size = round(float(match[1]) * _UNITS_BYTE[match[2]]) if match else 0
    if not size:
        raise UsageError(f"{text!r} is not a size: give a number and a unit ({', '.join(_UNITS_BYTE)}), such as 64MiB")
    return size


def packet_rate(text: str) -> Fraction:
    """``"1.5kpps"`` → 1500 (packets a second, exactly); a number without a unit is one too.

    Raises UsageError if it is none, or zero, or more than one in a nanosecond, the clock's resolution.
    """
    match = _PACKET_RATE.fullmatch(text.strip())
    rate = Fraction(match[1]) * _UNITS_PACKET[match[2]] if match else Fraction(0)
    if not rate:
        raise UsageError(f"{text!r} is not a rate: give packets a second (pps, kpps, Mpps), such as 20000 or 20kpps")
    if rate > _MAX_PACKET_RATE:
        raise UsageError(f"a rate of {text}: its period is below the clock's resolution (1 ns); give 1000Mpps or less")
    return rate


def _shortest(value: int, units: dict[str, int]) -> str:
    """With the greatest unit that leaves a whole number."""
    unit = max((unit for unit, size in units.items() if value % size == 0), key=lambda unit: units[unit])
    return f"{value // units[unit]}{unit}"


def format_duration(ns: int) -> str:
    """What ``duration`` reads as the same: ``5000000`` → ``"5ms"``."""
    return _shortest(ns, {unit: size for unit, size in _UNITS_NS.items() if unit not in ("µs", "min")})


def format_rate(bps: int) -> str:
    """What ``bit_rate`` reads as the same: ``100000000`` → ``"100Mbit"``."""
    return _shortest(bps, _UNITS_BIT)


def format_bytes(size: int) -> str:
    """Three significant digits and a fitting unit: ``9_100_000_000`` → ``"9.10 GB"``."""
    for unit in ("GB", "MB", "kB"):
        if size >= 0.9995 * _UNITS_BYTE[unit]:
            return f"{_three_digits(size / _UNITS_BYTE[unit])} {unit}"
    return f"{size} bytes"


def format_pace(period_ns: float) -> str:
    """The rate of what happens once a period: ``50000`` → ``"20,000/s"``."""
    rate = 1e9 / period_ns
    return f"{rate:,.0f}/s" if rate >= 99.5 else f"{rate:.3g}/s"


def _three_digits(value: float) -> str:
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f}"


def format_ns(ns: float | None) -> str:
    """Three significant digits and a fitting unit: ``12345`` → ``"12.3 µs"``; None → ``"–"``."""
    if ns is None:
        return "–"
    size = abs(ns)
    if size < 999.5:
        return f"{ns:.0f} ns"
    unit = "µs" if size < 999_500 else "ms" if size < 999_500_000 else "s"
    return f"{_three_digits(ns / _UNITS_NS[unit])} {unit}"


def micros(ns: float | None, *, sign: bool = False) -> str:
    """Three significant digits in µs, without the unit, for tables: ``12345`` → ``"12.3"``; None → ``"–"``."""
    if ns is None:
        return "–"
    text = _three_digits(ns / 1000)
    return f"+{text}" if sign and ns >= 0 else text
