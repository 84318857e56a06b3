"""How a field of a template varies, as it is written in Python and on the command line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import UsageError

__all__ = ["Numbers", "Variation", "read_variation"]

_BITS = 64  # that can vary of a field
_COUNTER_ENDS = 1 << _BITS
_EVERY = re.compile(r"(.*?)\s+every\s+(\S+)", re.DOTALL)
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a field of a packet can be. name: its own. bits: of its value. address: "IPv4", "IPv6", "MAC" or None."""

    name: str
    bits: int
    address: str | None = None

    def read(self, given: object) -> int:
        """A value, as an integer or text. Raises UsageError for what the field can't be."""
        value = given if isinstance(given, int) and not isinstance(given, bool) else self._from_text(str(given))
        if not 0 <= value < 1 << self.bits:
            most = (1 << self.bits) - 1
            raise UsageError(f"{self.name}: {given} is out of range; give values from 0 to {most:,}")
        return value

    def _from_text(self, text: str) -> int:
        text = text.strip()
        try:
            if self.address == "MAC" and _MAC.fullmatch(text):
                return int(text.replace(":", ""), 16)
            if self.address == "IPv4":
                return int(ipaddress.IPv4Address(text))
            if self.address == "IPv6":
                return int(ipaddress.IPv6Address(text))
            return int(text, 0)
        except ValueError:
            kind = f"{self.address} address" if self.address else "number"
            raise UsageError(f"{self.name}: {text!r} is no {kind}; give {self.examples}") from None

    def written(self, value: int) -> int | str:
        """A value as scapy takes it."""
        if self.address == "IPv4":
            return str(ipaddress.IPv4Address(value))
        if self.address == "IPv6":
            return str(ipaddress.IPv6Address(value))
        return value.to_bytes(6).hex(":") if self.address == "MAC" else value

    @property
    def examples(self) -> str:
        """What could be said of it."""
        few = {
            "IPv4": "127.0.0.0/8, 127.0.0.1-127.0.0.9",
            "IPv6": "fd00::/64, fd00::1-fd00::9",
            "MAC": "02:00:00:00:00:01-02:00:00:00:00:ff",
            None: "a range such as 1-7",
        }
        return f"{few[self.address]}, a list such as A,B, random:RANGE, or counter"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """The values of a field, packet by packet: as ``lab.native.injection.Field`` has them.

    upper: what is above the low 64 bits of every value, of an IPv6 address. text: as it is shown.
    """

    text: str
    kind: str
    first: int = 0
    step: int = 1
    count: int = 0
    every: int = 1
    values: tuple[int, ...] = ()
    upper: int | None = None

    def value(self, n: int) -> int:
        """That of packet n, from 0. Raises UsageError if it is not known before it is sent."""
        if self.kind not in ("counting", "listed"):
            raise UsageError(f"what varies as {self.text!r} is not known before it is sent: look at a capture of it")
        k = n // self.every
        if self.kind == "listed":
            return self.values[k % len(self.values)]
        return self.first + self.step * (k % (self.count or _COUNTER_ENDS))


def read_variation(given: Any, numbers: Numbers) -> Variation:
    """How a field varies.

    given: a range, or a list of values; or text, which is a range "1024-65535", a prefix "127.0.0.0/8", values
    "80,443", a number; "random:" before a range or a prefix; "counter", from 0; or "clock", the time of day in ns, of
    eight bytes. All but "clock" may say for how many packets each value stays: "1024-65535 every 64".

    Raises UsageError if it can't be that.
    """
    if isinstance(given, str):
        return _from_text(given, numbers)
    if isinstance(given, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return _from_text(str(given), numbers)
    if isinstance(given, range):
        if not given:
            raise UsageError(f"{numbers.name}: {given} is empty; give {numbers.examples}")
        step = f" in steps of {given.step}" if given.step != 1 else ""
        return _counting(given, numbers, f"{given[0]}-{given[-1]}{step}")
    if isinstance(given, Sequence) and not isinstance(given, (bytes, bytearray)):
        return _listed(given, numbers, 1)
    raise UsageError(f"{numbers.name}: can't vary as {given!r}; give {numbers.examples}")


def _from_text(text: str, numbers: Numbers) -> Variation:
    values, every = text.strip(), 1
    if match := _EVERY.fullmatch(values):
        values = match[1]
        every = int(match[2]) if match[2].isdecimal() else 0
        if not 1 <= every < 1 << 63:
            raise UsageError(f"{numbers.name}: each value can't stay for {match[2]!r} packets; give a number from 1 up")
    if values == "clock":
        if numbers.bits != _BITS or match:
            raise UsageError(f"{numbers.name}: the clock takes eight bytes, in each packet; give it payload[0:8], say")
        return Variation(text=text, kind="clock")
    if values == "counter":
        return Variation(text=text, kind="counting", every=every)
    drawn = values.startswith("random:")
    values = values.removeprefix("random:")
    if "/" in values:
        return _counting(_prefix(values, numbers), numbers, text, every=every, drawn=drawn)
    if "-" in values:
        first, last = map(numbers.read, values.split("-", 1))
        if last < first:
            raise UsageError(f"{numbers.name}: {values} is empty; give the lower value first")
        return _counting(range(first, last + 1), numbers, text, every=every, drawn=drawn)
    if drawn:
        raise UsageError(f"{numbers.name}: {text!r} draws from no range; give one, such as random:1-7")
    return _listed(values.split(","), numbers, every)


def _prefix(text: str, numbers: Numbers) -> range:
    """All its addresses."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{numbers.name}: {error}; give a prefix such as 127.0.0.0/8 or fd00::/64") from None
    if numbers.address != f"IPv{network.version}":
        raise UsageError(f"{numbers.name}: {text} is a prefix of IPv{network.version}; give {numbers.examples}")
    first, count = int(network.network_address), min(network.num_addresses, 1 << _BITS)
    return range(first, first + count)


def _counting(chosen: range, numbers: Numbers, text: str, *, every: int = 1, drawn: bool = False) -> Variation:
    ends = [numbers.read(value) for value in (chosen[0], chosen[-1])]
    upper, (first, last) = _split(ends, numbers)
    return Variation(
        text=text,
        kind="random" if drawn else "counting",
        first=first,
        step=chosen.step,
        count=((last - first) // chosen.step + 1) % _COUNTER_ENDS,  # 0: all of them
        every=every,
        upper=upper,
    )


def _listed(given: Sequence[Any], numbers: Numbers, every: int) -> Variation:
    if not given:
        raise UsageError(f"{numbers.name}: an empty list; give {numbers.examples}")
    upper, values = _split([numbers.read(value) for value in given], numbers)
    more = f",… ({len(given):,} values)" if len(given) > _SHOWN else ""
    stays = f" every {every}" if every > 1 else ""
    text = ",".join(str(value).strip() for value in given[:_SHOWN]) + more + stays
    return Variation(text=text, kind="listed", values=tuple(values), every=every, upper=upper)


def _split(values: list[int], numbers: Numbers) -> tuple[int | None, list[int]]:
    """What all values have above their low 64 bits, and these. Raises UsageError if it is not the same."""
    uppers = {value >> _BITS for value in values}
    if len(uppers) > 1:
        raise UsageError(f"{numbers.name}: only the low {_BITS} bits can vary; give values that begin alike")
    low = [value & (_COUNTER_ENDS - 1) for value in values]
    return (uppers.pop() if numbers.bits > _BITS else None), low
