"""What a link's conditions are worsened by, as it is written: ``delay=5ms,ipdv=1ms,loss=1%,seed=7``.

Every impairment acts on each direction by itself, so a round trip meets it twice. Pure: netem or the wire carries it
out (``lab.world``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, NamedTuple

from lab.checks import pick
from lab.errors import UsageError
from lab.units import bit_rate, duration, format_duration, format_rate

__all__ = ["KEYS", "Impairment", "parse_impairment"]

DISTRIBUTIONS = ("uniform", "normal", "pareto")
CUTS = ("clip", "redraw")
MEANS = ("any", "netem", "wire")
#: A loss that comes in bursts (Gilbert–Elliott) is written ge:P:R or ge:P:R:BAD:GOOD.
_BURST_PREFIX = "ge:"

_MAX_DELAY_NS = 60_000_000_000
_MAX_LIMIT = 100_000
_MIN_RATE_BPS, _MAX_RATE_BPS = 1_000, 1_000_000_000_000


@dataclass(frozen=True, kw_only=True)
class Impairment:
    """What happens to the packets of each direction. Probabilities are fractions of 1.

    delay_ns: added to every packet. ipdv_ns: how much the delay varies: uniformly by up to so much either way, with so
    much standard deviation (normal), or by a heavy-tailed excess of that mean (pareto, shape 3). cut: what becomes of a
    delay drawn below zero: set to zero (clip), or drawn again (redraw). loss: independent of each other; burst: instead
    by a chain of two states, as (good to bad, bad to good, loss in bad, loss in good). reorder: with that probability a
    packet skips the delay. corrupt: one bit flipped. rate_bps: bits of frames a second, 0 for no limit. limit: packets
    held at most. seed: of every draw. by: netem, the wire, or whichever there is (any).

    Raises UsageError for what contradicts itself.
    """

    delay_ns: int = 0
    ipdv_ns: int = 0
    dist: str = "uniform"
    cut: str | None = None
    loss: float = 0.0
    burst: tuple[float, float, float, float] | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate_bps: int = 0
    limit: int = 1000
    seed: int = 0
    by: str = "any"

    def __post_init__(self) -> None:
        pick("distribution", self.dist, DISTRIBUTIONS)
        pick("means", self.by, MEANS)
        if self.cut is not None:
            pick("cut", self.cut, CUTS)
        for name in ("delay_ns", "ipdv_ns"):
            if not 0 <= getattr(self, name) <= _MAX_DELAY_NS:
                raise UsageError(f"{name.removesuffix('_ns')} of {getattr(self, name)} ns: give 0 to 60s")
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            _check_fraction(name, getattr(self, name))
        for value in self.burst or ():
            _check_fraction("loss", value)
        if self.burst and self.loss:
            raise UsageError("loss by chance and in bursts together: give one")
        if self.ipdv_ns > self.delay_ns and self.dist != "pareto" and self.cut is None:
            raise UsageError(
                "ipdv above delay draws delays below zero: add cut=clip (they count as zero) or cut=redraw, or a "
                "greater delay"
            )
        if self.reorder and not self.delay_ns:
            raise UsageError("reorder without delay: there is nothing to overtake; add a delay")
        if self.rate_bps and not _MIN_RATE_BPS <= self.rate_bps <= _MAX_RATE_BPS:
            raise UsageError("rate out of range: give 1kbit to 1000Gbit")
        if not 1 <= self.limit <= _MAX_LIMIT:
            raise UsageError(f"limit={self.limit}: give 1 to {_MAX_LIMIT:,} packets")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed={self.seed}: give 0 to 2**63 - 1")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Impairment:
        """The impairment that ``dataclasses.asdict`` and JSON made `value` of."""
        return cls(**{**value, "burst": tuple(value["burst"]) if value["burst"] else None})

    def __str__(self) -> str:
        """As it is written; whatever is as by default is left out, but for the seed."""
        told = []
        for option in fields(self):
            value = getattr(self, option.name)
            if value != option.default or option.name == "seed":
                told.append(f"{_KEYS[option.name].key}={_KEYS[option.name].write(value)}")
        return ",".join(told)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name}={_percent(value)}: give 0% to 100%")


def _percent(value: float) -> str:
    """``0.07`` → ``"7%"``: every digit, as ``_fraction`` must read the same number."""
    return f"{Decimal(repr(value)).scaleb(2):f}%"


def _fraction(text: str) -> float:
    """``"1%"`` → 0.01. Raises ValueError, also without the sign: 0.5 might be meant either way."""
    if not text.endswith("%"):
        raise ValueError(text)
    return float(f"{text[:-1]}e-2")


def _burst(text: str) -> tuple[float, float, float, float]:
    values = [_fraction(part) for part in text.removeprefix(_BURST_PREFIX).split(":")]
    if len(values) not in (2, 4):
        raise ValueError(text)
    return (*values, 1.0, 0.0)[:4] if len(values) == 2 else tuple(values)  # type: ignore[return-value]


def _write_burst(values: tuple[float, ...]) -> str:
    return _BURST_PREFIX + ":".join(map(_percent, values))


class _Key(NamedTuple):
    """How one field is written: its key, how its value is read (ValueError, UsageError) and written, an example."""

    key: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    example: str


_KEYS = {
    "delay_ns": _Key("delay", duration, format_duration, "delay=5ms"),
    "ipdv_ns": _Key("ipdv", duration, format_duration, "ipdv=500us"),
    "dist": _Key("dist", str, str, "dist=normal"),
    "cut": _Key("cut", str, str, "cut=clip"),
    "loss": _Key("loss", _fraction, _percent, "loss=1%, or in bursts loss=ge:1%:30%"),
    "burst": _Key("loss", _burst, _write_burst, "loss=ge:1%:30% (good to bad, bad to good)"),
    "duplicate": _Key("duplicate", _fraction, _percent, "duplicate=1%"),
    "reorder": _Key("reorder", _fraction, _percent, "reorder=5%"),
    "corrupt": _Key("corrupt", _fraction, _percent, "corrupt=0.1%"),
    "rate_bps": _Key("rate", bit_rate, format_rate, "rate=100Mbit"),
    "limit": _Key("limit", int, str, "limit=1000"),
    "seed": _Key("seed", int, str, "seed=7"),
    "by": _Key("by", str, str, "by=wire"),
}


#: The keys that can be given.
KEYS = tuple(dict.fromkeys(known.key for known in _KEYS.values()))


def parse_impairment(text: str) -> Impairment:
    """``"delay=5ms,loss=1%"`` → an Impairment; without a seed, one is drawn. Raises UsageError."""
    options: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        names = [name for name, known in _KEYS.items() if known.key == key]
        if not names or not equals:
            raise UsageError(
                f"impairment {part.strip()!r}: give key=value, of {', '.join(KEYS)}, as in delay=5ms,loss=1%"
            )
        name = "burst" if key == "loss" and value.startswith(_BURST_PREFIX) else names[0]
        if name in options:
            raise UsageError(f"impairment {text!r}: {key} is given twice")
        try:
            options[name] = _KEYS[name].read(value)
        except (ValueError, UsageError):
            raise UsageError(
                f"impairment {part.strip()!r} cannot be read: write it as in {_KEYS[name].example}"
            ) from None
    options.setdefault("seed", secrets.randbelow(2**32))
    return Impairment(**options)
