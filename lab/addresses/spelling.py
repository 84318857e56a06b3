"""How different programs read a number as an IPv4 address: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.

Four numbers from 0 to 255 in decimal, without zeros in front, are read alike by all. Beyond that, C's inet_aton(3),
which most old programs use, allows fewer numbers (the last one then fills all bytes that are left), hexadecimal (0x…)
and octal (0…), as does the URL standard. inet_pton(3) and what was written since refuse all that, and a few old
parsers skip zeros in front. So one text can lead to two machines, which has let requests past many a filter.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Reading", "explain", "looks_numeric", "readings", "url_reading"]

_MAX_IPV4 = 0xFFFFFFFF
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """What one way of reading makes of a text: an address, or None where it refuses.

    asked: whether it was really asked just now; else it follows from the rules of what is not at hand here.
    """

    reader: str
    programs: str
    address: str | None
    asked: bool

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def looks_numeric(text: str) -> bool:
    """Whether a host's last part is a number, so that it can be no name (URL standard; RFC 1123, 2.1)."""
    parts = text.removesuffix(".").split(".")
    return _NUMERIC.fullmatch(parts[-1]) is not None


def readings(text: str) -> tuple[Reading, ...]:
    """What each makes of a text without a colon."""
    asked: tuple[tuple[str, str, Callable[[str], str]], ...] = (
        ("inet_aton", "ping, ssh and most C programs", _inet_aton),
        ("getaddrinfo", "programs that take names", _getaddrinfo),
        ("inet_pton", "strict C programs", _inet_pton),
        ("ipaddress", "Python, and alike in Go and Rust", lambda text: str(ipaddress.IPv4Address(text))),
    )
    found = [Reading(name, who, _address_of(read, text), True) for name, who, read in asked]
    found.append(Reading("URL standard", "browsers and Node.js", url_reading(text), False))
    if (skipping := _decimal(text)) is not None:
        found.append(Reading("decimal", "old parsers that skip zeros", skipping, False))
    return tuple(found)


def _address_of(read: Callable[[str], str], text: str) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return read(text)
    return None


def _inet_aton(text: str) -> str:
    return socket.inet_ntoa(socket.inet_aton(text))


def _inet_pton(text: str) -> str:
    return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))


def _getaddrinfo(text: str) -> str:
    """Asks nobody: the flag keeps it from looking for a name."""
    found = socket.getaddrinfo(text, None, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    return str(found[0][4][0])


def url_reading(text: str) -> str | None:
    """The URL standard's IPv4 parser (url.spec.whatwg.org, "IPv4 parser"): one dot may follow, each part has a base."""
    parts = text.removesuffix(".").split(".")
    numbers = [_url_number(part) for part in parts]
    if len(parts) > 4:
        return None
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or any(number > 255 for number in known[:-1]):
        return None
    if known[-1] >= 256 ** (5 - len(known)):
        return None
    value = known[-1] + sum(number * 256 ** (3 - at) for at, number in enumerate(known[:-1]))
    return str(ipaddress.IPv4Address(value))


def _url_number(part: str) -> int | None:
    if not part or not part.isascii():
        return None
    base, digits = 10, part
    if part[:2] in ("0x", "0X"):
        base, digits = 16, part[2:]
    elif len(part) > 1 and part[0] == "0":
        base, digits = 8, part[1:]
    if not digits:
        return 0
    known = "0123456789abcdef"[:base]
    return int(digits, base) if all(digit in known for digit in digits.lower()) else None


def _decimal(text: str) -> str | None:
    parts = text.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdecimal() and int(part) < 256 for part in parts):
        return ".".join(str(int(part)) for part in parts)
    return None


def explain(text: str) -> str:
    """Why nobody reads a text as an IPv4 address."""
    parts = text.split(".")
    if len(parts) > 4:
        return f"it has {len(parts)} parts"
    for at, part in enumerate(parts):
        number = _url_number(part)
        if not part:
            return "a number is missing between its dots"
        if number is None:
            octal = part.isdecimal()
            return f"{part} is no {'octal number, as which a 0 in front marks it' if octal else 'number'}"
        most = 255 if at < len(parts) - 1 else 256 ** (5 - len(parts)) - 1
        if number > most:
            return f"{part} is above {most}"
    return "only parsers that skip zeros in front read it"
