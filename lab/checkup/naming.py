"""What the name localhost is: by /etc/hosts, and by what programs are given, in which order, and by which source."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from lab.checkup.findings import Item
from lab.checkup.hosts import HostsLine, is_loopback, lines_for, nameservers, services
from lab.checkup.network import LOOPBACK, Network
from lab.errors import errno_name
from lab.texts import printable

__all__ = ["NAME", "Names", "look_up", "naming"]

NAME = "localhost"
_PATIENCE_S = 3.0
_WINDOWS = "C:\\Windows\\System32\\drivers\\etc\\hosts, as administrator (localhost is answered without a line, too)"
_MACOS = "/etc/hosts, by sudo"
_COST = "programs that ask localhost fail; until then, give them 127.0.0.1"


@dataclass(frozen=True)
class Names:
    """What is known of a name: localhost, or one below it.

    lines: of /etc/hosts that have it; unread: why there are none, if that can't be read. services: what nsswitch.conf
    has asked, in turn. servers: of resolv.conf. given: what getaddrinfo(3) gives programs, in its order, or None where
    it isn't asked, as in the network of another process; failure: what it says instead.
    """

    name: str
    lines: tuple[HostsLine, ...]
    unread: str
    services: tuple[str, ...]
    servers: tuple[str, ...]
    given: tuple[str, ...] | None
    failure: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """What programs are given, or would be by the file."""
        if self.given is not None:
            return self.given
        return tuple(line.address for line in self.lines) if "files" in self.services else ()


def look_up(network: Network, name: str = NAME) -> Names:
    """Reads the files, and asks the resolver if this is the network of its own; takes three seconds at most."""
    unread = ""
    try:
        lines = lines_for(network.file("/etc/hosts").read_text(errors="replace"), name)
    except OSError as error:
        lines, unread = [], errno_name(error.errno or 0)
    switch, resolv = (_read(network, path) for path in ("/etc/nsswitch.conf", "/etc/resolv.conf"))
    given, failure = _resolve(name) if network.own else (None, "")
    return Names(name, tuple(lines), unread, services(switch), tuple(nameservers(resolv)), given, failure)


def _read(network: Network, path: str) -> str:
    """A file that need not be there: what is asked without it is known."""
    try:
        return network.file(path).read_text(errors="replace")
    except OSError:
        return ""


def _resolve(name: str) -> tuple[tuple[str, ...], str]:
    """What getaddrinfo gives, each address once, or what it says; a dead resolver is waited for briefly."""
    answers: queue.Queue[tuple[tuple[str, ...], str]] = queue.Queue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:  # gaierror is one
            answers.put(((), f"getaddrinfo: {error.strerror}"))
        else:
            answers.put((tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)), ""))

    # Nothing can end it before its own time is over: it is left behind, and doesn't keep the process.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=_PATIENCE_S)
    except queue.Empty:
        return (), f"getaddrinfo has no answer within {_PATIENCE_S:.0f} s"


def naming(known: Names, families: tuple[int, ...]) -> Iterator[Item]:
    """The items hosts and localhost. families: those that loopback has here."""
    yield _hosts(known, families)
    yield _localhost(known, families)


def _hosts(known: Names, families: tuple[int, ...]) -> Item:
    """Whether /etc/hosts says what it should; no trouble if it says nothing, and another service does."""
    if known.unread or not known.lines:
        evidence = (
            f"/etc/hosts can't be read: {known.unread}" if known.unread else "/etc/hosts has no line for localhost"
        )
        lines = ", ".join(f"“{LOOPBACK[family]} {NAME}”" for family in families or (4,))
        fix = f"Add to /etc/hosts, as root: {lines}"
        if known.addresses and all(map(is_loopback, known.addresses)):
            cost = "it rests on another service, which programs that read the file alone don't ask"
            return Item("hosts", "partial", evidence, fix, cost, windows=_WINDOWS, macos=_MACOS)
        return Item("hosts", "missing", evidence, fix, _COST, windows=_WINDOWS, macos=_MACOS)
    astray = [line for line in known.lines if not is_loopback(line.address)]
    if astray:
        evidence = f"/etc/hosts, {_said(astray)}: not loopback"
        line = f"“{_instead(astray[0])} {NAME}”"
        fix = f"Have line {astray[0].number} of /etc/hosts say {line}, as root; and ask who changed it"
        return Item("hosts", "missing", evidence, fix, _COST, windows=_WINDOWS, macos=_MACOS)
    evidence = f"/etc/hosts, {_said(known.lines)}"
    lacking = [
        LOOPBACK[family] for family in families if LOOPBACK[family] not in {line.address for line in known.lines}
    ]
    if not lacking:
        return Item("hosts", "ok", evidence)
    return Item(
        "hosts",
        "partial",
        f"{evidence}; no line for {' or '.join(lacking)}",
        f"Add to /etc/hosts, as root: {', '.join(f'“{address} {NAME}”' for address in lacking)}",
        f"a server that listens on {' or '.join(lacking)} alone isn't reached as localhost",
    )


def _localhost(known: Names, families: tuple[int, ...]) -> Item:
    """What programs are given."""
    addresses = known.addresses
    if not addresses:
        asked = f"{known.failure}; " if known.failure else ""
        evidence = f"localhost is nothing: {asked}asked in turn: {_services(known)}"
        if known.given is None:
            evidence = f"the files say nothing of localhost, and {_services(known)} aren't asked in another's network"
        return Item("localhost", "missing", evidence, "See hosts, above", _COST, windows=_WINDOWS, macos=_MACOS)
    told = "; ".join(f"{address} by {_source(known, address)}" for address in addresses)
    astray = [address for address in addresses if not is_loopback(address)]
    if astray:
        fix = (
            "See hosts, above" if known.lines else f"Add “127.0.0.1 {NAME}” to /etc/hosts; or mend {_source(known, '')}"
        )
        evidence = f"localhost is {told}: {', '.join(astray)} is not loopback"
        return Item(
            "localhost",
            "missing",
            evidence,
            fix,
            "programs that ask localhost go elsewhere",
            windows=_WINDOWS,
            macos=_MACOS,
        )
    order = " (programs try them in this order)" if len(addresses) > 1 else ""
    dead = [address for address in addresses if (6 if ":" in address else 4) not in families]
    if dead:
        return Item(
            "localhost",
            "partial",
            f"localhost is {told}{order}, but this network has no {', '.join(dead)}",
            "See host-ipv4 and host-ipv6, above",
            "programs that try the first address alone fail",
        )
    return Item("localhost", "ok", f"localhost is {told}{order}")


def _source(known: Names, address: str) -> str:
    """Which source an address of localhost is from: the file, or whatever is asked beside it."""
    lines = [line for line in known.lines if line.address == address]
    if lines and "files" in known.services:
        return f"/etc/hosts, line {lines[0].number}"
    others = [service for service in known.services if service != "files"]
    return f"{' or '.join(others) or 'no service'} of nsswitch.conf"


def _services(known: Names) -> str:
    """Services, and what DNS rests on."""
    texts = []
    for service in known.services:
        if service == "dns":
            servers = ", ".join(known.servers) or "no nameserver in /etc/resolv.conf, so 127.0.0.1"
            texts.append(f"dns ({servers})")
        else:
            texts.append(service)
    return printable(", ".join(texts))


def _said(lines: list[HostsLine] | tuple[HostsLine, ...]) -> str:
    return printable(", ".join(map(str, lines)))


def _instead(line: HostsLine) -> str:
    return LOOPBACK[6] if ":" in line.address else LOOPBACK[4]
