"""What a user gives: a port, ranges of ports, and addresses to ask, which must be this network's own. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from lab.errors import UsageError
from lab.listeners.reach import Surroundings

__all__ = ["MAX_PORT", "as_text", "own_address", "parse_addresses", "parse_port", "parse_ranges"]

MAX_PORT = (1 << 16) - 1
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_HOW = "as in 22,80,8000-8100"


def parse_port(text: str | int) -> int:
    """``"8080"`` → 8080. Raises UsageError."""
    if isinstance(text, bool) or not _DIGITS.fullmatch(str(text)):
        raise UsageError(f"{text!r} is no port: give a number from 1 to {MAX_PORT}")
    port = int(text)
    if not 1 <= port <= MAX_PORT:
        raise UsageError(f"port {port}: give 1 to {MAX_PORT}")
    return port


def parse_ranges(text: str) -> list[range]:
    """``"22,80,8000-8100"`` → ranges in order, none of which touches another. Raises UsageError."""
    found: list[tuple[int, int]] = []
    for part in str(text).split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        if not first or (dash and not last):
            raise UsageError(f"{text!r} is no range of ports: give ports and ranges with commas between, {_HOW}")
        low = parse_port(first)
        high = parse_port(last) if dash else low
        if high < low:
            raise UsageError(f"{part.strip()} runs backwards: give {high}-{low}")
        found.append((low, high))
    return _merged(sorted(found))


def _merged(pairs: Iterable[tuple[int, int]]) -> list[range]:
    made: list[range] = []
    for low, high in pairs:
        if made and low <= made[-1].stop:
            made[-1] = range(made[-1].start, max(made[-1].stop, high + 1))
        else:
            made.append(range(low, high + 1))
    return made


def as_text(ports: Iterable[int | range]) -> str:
    """What ``parse_ranges`` reads as the same: ``[22, 80, 81]`` → ``"22,80-81"``."""
    pairs = [(each, each) if isinstance(each, int) else (each[0], each[-1]) for each in ports]
    merged = _merged(sorted(pairs))
    return ",".join(f"{each[0]}" if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in merged)


def parse_addresses(given: str | Sequence[str]) -> list[str]:
    """``"127.0.0.1,[::1]"`` → the addresses as the kernel writes them, each once. Raises UsageError."""
    parts = given.split(",") if isinstance(given, str) else list(given)
    if not parts:
        raise UsageError("no address to ask: leave at out, or give 127.0.0.1 or another of its own")
    return list(dict.fromkeys(_address(part.strip()) for part in parts))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise UsageError(
            f"{text!r} is no address: give a numeric one of this network, such as 127.0.0.1 or ::1"
        ) from None


def own_address(address: str, around: Surroundings) -> str:
    """The address, if it is one of this network's own, else raises UsageError: no other is ever asked."""
    zone = address.partition("%")[2]
    if zone and zone not in around.names.values():
        raise UsageError(f"{address}: there is no interface {zone!r}; there are {', '.join(around.names.values())}")
    found = ipaddress.ip_address(address.partition("%")[0])
    if found.is_unspecified or found.is_multicast or around.of(address) is None:
        raise UsageError(
            f"{address} is no address of this network's own, and ports of others are not asked: give one of its own "
            "(127.0.0.1, ::1, or as ip address shows)"
        )
    if found.is_link_local and found.version == 6 and not zone:
        raise UsageError(f"{address} is of one link: give it with its interface, as in {address}%{around.of(address)}")
    return address
