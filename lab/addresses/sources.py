"""What the machine's files say of who knows names: nsswitch.conf(5), hosts(5), resolv.conf(5). Parses only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["HostsLine", "Resolver", "Service", "deciding", "hosts_lines", "nsswitch", "resolver"]

_TOKEN = re.compile(r"\[([^\]]*)\]|([^\s\[\]]+)")
#: What glibc does when a source has found something, and when it has not (nsswitch.conf(5)).
_DEFAULTS = {"success": "return", "notfound": "continue", "unavail": "continue", "tryagain": "continue"}
#: resolv.conf(5): servers that are taken at most, and what holds where it says nothing else.
_MAX_SERVERS, _TIMEOUT_S, _ATTEMPTS, _DEFAULT_SERVER = 3, 5, 2, "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """A source of names, and what follows from what it says: by status, "return", "continue" or "merge"."""

    name: str
    actions: dict[str, str] = field(default_factory=lambda: dict(_DEFAULTS))


@dataclass(frozen=True)
class HostsLine:
    """A line of /etc/hosts that has a name. valid: whether its address is one; else it is passed over."""

    number: int
    address: str
    text: str
    valid: bool


@dataclass(frozen=True)
class Resolver:
    """How DNS is asked. default: whether no server was named, so that glibc asks this machine. patience_s: how long one
    question may take before it is given up, if no server says anything.
    """

    servers: tuple[str, ...]
    default: bool
    search: tuple[str, ...]
    patience_s: int

    @property
    def leaves(self) -> bool:
        """Whether any server is another machine."""
        return not all(_is_loopback(server) for server in self.servers)


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def nsswitch(lines: Iterable[str]) -> tuple[int, str, tuple[Service, ...]] | None:
    """The number of the line of nsswitch.conf that tells who knows hosts, what it says, and its sources in order."""
    for number, line in enumerate(lines, 1):
        database, colon, rest = line.partition("#")[0].partition(":")
        if colon and database.strip() == "hosts":
            return number, " ".join(rest.split()), tuple(_services(rest))
    return None


def _services(text: str) -> Iterator[Service]:
    found: list[Service] = []
    for match in _TOKEN.finditer(text):
        criteria, name = match.groups()
        if name is not None:
            found.append(Service(name))
        elif found:
            for criterion in criteria.lower().split():
                status, _, action = criterion.partition("=")
                chosen = [status] if status[:1] != "!" else [each for each in _DEFAULTS if each != status[1:]]
                found[-1].actions.update(dict.fromkeys(chosen, action))
    return iter(found)


def hosts_lines(lines: Iterable[str], name: str) -> list[HostsLine]:
    """Those of /etc/hosts that have a name, whatever the case of its letters."""
    wanted, found = name.lower().removesuffix("."), []
    for number, line in enumerate(lines, 1):
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (each.lower().removesuffix(".") for each in names):
            found.append(HostsLine(number, address, " ".join(line.split()), _is_address(address)))
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolver(lines: Iterable[str]) -> Resolver:
    """What resolv.conf says; of several `search` lines the last one holds, and of servers the first three."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options = {"timeout": _TIMEOUT_S, "attempts": _ATTEMPTS}
    for line in lines:
        words = re.split("[#;]", line)[0].split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            servers.append(words[1])
        elif words[:1] in (["search"], ["domain"]):
            search = tuple(words[1:])
        elif words[:1] == ["options"]:
            for option in words[1:]:
                key, _, value = option.partition(":")
                if key in options and value.isdecimal():
                    options[key] = int(value)
    asked = tuple(servers[:_MAX_SERVERS]) or (_DEFAULT_SERVER,)
    return Resolver(asked, not servers, search, len(asked) * options["timeout"] * options["attempts"])


def deciding(services: Iterable[Service], statuses: dict[str, str]) -> str | None:
    """The source at which getaddrinfo stops, by what each of them says: "success", "notfound", "unavail", "tryagain".

    None if all are asked and none knows.
    """
    last = None
    for service in services:
        status = statuses.get(service.name, "unavail")
        if status == "success":
            last = service.name
        if service.actions.get(status) == "return":
            return service.name
    return last
