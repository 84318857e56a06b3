"""What the name localhost is: by /etc/hosts, and by what programs are given, in which order, and by which source."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.addresses.looking import address
from lab.addresses.names import NameFacts
from lab.checkup.findings import Item
from lab.checkup.network import LOOPBACK, Network, is_loopback
from lab.errors import Unavailable, UsageError, errno_name
from lab.texts import printable

__all__ = ["NAME", "Line", "Names", "look_up", "naming"]

NAME = "localhost"
_WINDOWS = "C:\\Windows\\System32\\drivers\\etc\\hosts, as administrator (localhost is answered without a line, too)"
_MACOS = "/etc/hosts, by sudo"
_COST = "programs that ask localhost fail; until then, give them 127.0.0.1"
_STATUSES = {
    "not-found": "knows no such name",
    "not-asked": "not asked, as it is another machine's and names of localhost stay on this one",
    "not-installed": "not installed",
    "no-answer": "silent",
}


@dataclass(frozen=True)
class Line:
    """A line of /etc/hosts that has the name: its number, from 1, and its address."""

    number: int
    address: str
    text: str

    def __str__(self) -> str:
        return f"line {self.number} ({printable(self.text)})"


@dataclass(frozen=True)
class Names:
    """What is known of a name: localhost, or one below it.

    lines: of /etc/hosts that have it; unread: the errno of reading that. addresses: what programs are given, in order;
    decided_by: the source that this is from, by its name in nsswitch.conf(5), if it is known. sources: what each of
    them says, in turn. failure: why nobody could be asked.
    """

    name: str
    lines: tuple[Line, ...] = ()
    unread: int | None = None
    addresses: tuple[str, ...] = ()
    decided_by: str | None = None
    sources: tuple[str, ...] = ()
    failure: str = ""


def look_up(network: Network, name: str = NAME) -> Names:
    """Asks each source of names in that network, but no DNS beyond this machine; see ``lab.address``."""
    try:
        told = address(name, world=network.place)
    except (Unavailable, UsageError) as error:
        return Names(name, failure=str(error))
    if not isinstance(told, NameFacts):
        return Names(name, failure=f"{name} is no name")
    lines = [Line(each["number"], each["address"], each["text"]) for each in told.hosts_file["lines"] if each["valid"]]
    default = " (127.0.0.1, as /etc/resolv.conf names no server)" if told.resolver["default"] else ""
    return Names(
        name,
        tuple(lines),
        told.hosts_file["errno"],
        told.programs.addresses,
        told.decided_by,
        tuple(_said(each.service or "", each.status, each.addresses, each.text, default) for each in told.sources),
    )


def _said(service: str, status: str, addresses: Sequence[str], text: str | None, default: str) -> str:
    """What one source says."""
    server = default if service == "dns" else ""
    return f"{service}{server}: {', '.join(addresses) or _STATUSES.get(status) or text or status}"


def naming(known: Names, families: tuple[int, ...]) -> Iterator[Item]:
    """The items hosts and localhost. families: those that loopback has here."""
    if known.failure:
        yield Item("localhost", "partial", known.failure, "Examine it from there", "what localhost is isn't known")
        return
    yield _hosts(known, families)
    yield _localhost(known, families)


def _hosts(known: Names, families: tuple[int, ...]) -> Item:
    """Whether /etc/hosts says what it should; no trouble if it says nothing, and another service does."""
    if known.unread or not known.lines:
        evidence = "/etc/hosts has no line for localhost"
        if known.unread:
            evidence = f"/etc/hosts can't be read: {errno_name(known.unread)}"
        fix = f"Add to /etc/hosts, as root: {_wanted([LOOPBACK[family] for family in families or (4,)])}"
        if known.unread == errno.EACCES:
            fix = "chmod a+r /etc/hosts, as root"
        if known.addresses and all(map(is_loopback, known.addresses)):
            cost = "it rests on another source, which programs that read the file alone don't ask"
            return Item("hosts", "partial", evidence, fix, cost)
        return Item("hosts", "missing", evidence, fix, _COST, windows=_WINDOWS, macos=_MACOS)
    astray = [line for line in known.lines if not is_loopback(line.address)]
    if astray:
        evidence = f"/etc/hosts, {', '.join(map(str, astray))}: not loopback"
        line = _wanted([LOOPBACK[6] if ":" in astray[0].address else LOOPBACK[4]])
        fix = f"Have line {astray[0].number} of /etc/hosts say {line}, as root; and ask who changed it"
        return Item("hosts", "missing", evidence, fix, _COST, windows=_WINDOWS, macos=_MACOS)
    evidence = f"/etc/hosts, {', '.join(map(str, known.lines))}"
    have = {*known.addresses, *(line.address for line in known.lines)}
    lacking = [LOOPBACK[family] for family in families if LOOPBACK[family] not in have]
    if not lacking:
        return Item("hosts", "ok", evidence)
    return Item(
        "hosts",
        "partial",
        f"{evidence}; no line for {' or '.join(lacking)}",
        f"Add to /etc/hosts, as root: {_wanted(lacking)}",
        f"a server that listens on {' or '.join(lacking)} alone isn't reached as localhost",
    )


def _localhost(known: Names, families: tuple[int, ...]) -> Item:
    """What programs are given."""
    if not known.addresses:
        evidence = f"localhost has no address: {'; '.join(known.sources)}"
        return Item("localhost", "missing", evidence, "See hosts, above", _COST, windows=_WINDOWS, macos=_MACOS)
    told = ", then ".join(known.addresses)
    evidence = f"localhost is {told}, by {_source(known)}"
    astray = [address for address in known.addresses if not is_loopback(address)]
    if astray:
        fix = "See hosts, above"
        if known.decided_by != "files":
            fix = f"Add {_wanted([LOOPBACK[4]])} to /etc/hosts; or mend the source {known.decided_by}"
        evidence += f": {', '.join(astray)} is not loopback"
        cost = "programs that ask localhost go elsewhere"
        return Item("localhost", "missing", evidence, fix, cost, windows=_WINDOWS, macos=_MACOS)
    dead = [address for address in known.addresses if (6 if ":" in address else 4) not in families]
    if dead:
        return Item(
            "localhost",
            "partial",
            f"{evidence}, but this network has no {', '.join(dead)}",
            "See host-ipv4 and host-ipv6, above",
            "programs that try the first address alone fail",
        )
    return Item("localhost", "ok", evidence)


def _source(known: Names) -> str:
    """Which source decides, and by which lines, if it is the file."""
    numbers = [str(line.number) for line in known.lines if line.address in known.addresses]
    if known.decided_by == "files" and numbers:
        return f"/etc/hosts, line{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
    return f"{known.decided_by} of /etc/nsswitch.conf" if known.decided_by else "a source that isn't known"


def _wanted(addresses: Sequence[str]) -> str:
    return ", ".join(f"“{each} {NAME}”" for each in addresses)
