"""Where names come from, as files say: hosts(5), nsswitch.conf(5), resolv.conf(5)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

__all__ = ["HostsLine", "is_loopback", "lines_for", "nameservers", "services"]

#: What glibc asks where nsswitch.conf doesn't tell (nss/nss_database.c).
_DEFAULT_SERVICES = ("files", "dns")


@dataclass(frozen=True)
class HostsLine:
    """A line of /etc/hosts: its number, from 1, the address and the names."""

    number: int
    address: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"line {self.number} ({self.address} {' '.join(self.names)})"


def lines_for(text: str, name: str) -> list[HostsLine]:
    """The lines that give a name an address; case doesn't matter, and lines of no valid address count for nothing."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if name.lower() in (each.lower() for each in words[1:]) and _is_address(words[0]):
            found.append(HostsLine(number, words[0], tuple(words[1:])))
    return found


def services(text: str, database: str = "hosts") -> tuple[str, ...]:
    """The services that are asked in turn, without what is to be done in between ([NOTFOUND=return])."""
    for line in text.splitlines():
        name, colon, rest = line.partition("#")[0].partition(":")
        if colon and name.strip() == database:
            plain = "".join(f" {part.split(']')[-1]}" for part in rest.split("["))
            return tuple(plain.split())
    return _DEFAULT_SERVICES


def nameservers(text: str) -> list[str]:
    """Those of /etc/resolv.conf; with none, resolv.conf(5) says that this machine's own is asked."""
    words = (line.split() for line in text.splitlines())
    return [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]


def is_loopback(address: str) -> bool:
    """127.0.0.0/8, ::1, and 127.0.0.0/8 mapped into IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
