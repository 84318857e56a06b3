"""The examination: which checks there are, of what, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lab.checkup.facts import Facts, gather
from lab.checkup.filtering import firewall
from lab.checkup.findings import Item, Report, guarded
from lab.checkup.interface import interface
from lab.checkup.naming import Names, look_up, naming
from lab.checkup.network import Network
from lab.checkup.pings import pings
from lab.checkup.targets import Target, parse_target
from lab.checkup.web import web
from lab.errors import UsageError
from lab.world import Place, visit

__all__ = ["CHECKS", "doctor"]

#: The ids of what is told of loopback and of a server, in order. Further rules are firewall-2 and so on; server-asked
#: (another address of 127.0.0.0/8), server-firewall and browser are told where they matter.
CHECKS = (
    "lo", "host-ipv4", "host-ipv6", "routes", "echo", "firewall", "ping-ipv4", "ping-range", "ping-ipv6", "transport",
    "hosts", "localhost", "web-ipv4", "web-ipv6", "web-localhost",
    "port", "server-firewall", "server-ipv4", "server-ipv6", "server-asked", "server-name", "browser",
)  # fmt: skip


def doctor(
    server: str | int | None = None, *, world: str | int | Place | None = None, loopback: bool = False
) -> Report:
    """Examines loopback, and what the lab can measure. Nothing is changed.

    server: a port, or the URL of a web server of this machine that doesn't answer as it should: it is examined in place
    of what the lab can measure. world: whose loopback: "host", the number of a process, or an open ``World``; of
    another than the machine's own, loopback alone is examined. loopback: examine that alone. Raises UsageError,
    Unavailable.
    """
    if world == "new":
        raise UsageError("a new network is well: give --world host, or the number of a process")
    target = None if server is None else parse_target(server)
    with visit("host" if world is None else world, ["lo"]) as (place, _warnings):
        network = Network(place)
        items = [*_loopback(network, target)]
        if network.own and not loopback and target is None:
            from lab.checkup.measuring import measurements

            items += measurements()
    return Report(tuple(items))


def _loopback(network: Network, target: Target | None) -> Iterator[Item]:
    """How this network's loopback is, and a server on it."""
    known: list[tuple[Facts, Names]] = []

    def loopback() -> Iterator[Item]:
        facts = gather(network)
        causes = list(_causes(facts))
        yield from causes
        yield from pings(facts, causes)
        names = look_up(network)
        known.append((facts, names))
        yield from naming(names, facts.families)
        yield from web(network, names, [item.id for item in causes if not item.well])

    def server() -> Iterator[Item]:
        if target is None or not known:
            return
        from lab.checkup.serving import serving
        from lab.checkup.viewing import browser

        facts, names = known[0]
        if target.named and target.host != names.name:
            names = look_up(network, target.host)
        items = list(serving(facts, names, target))
        yield from items
        if any(item.status == "ok" for item in items if item.id != "port"):
            yield browser(network, target)

    for item in guarded(loopback, "loopback"):
        yield replace(item, group="loopback", fix=network.remedy(item.fix))
    for item in guarded(server, "server"):
        yield replace(item, group="server", fix=network.remedy(item.fix))


def _causes(facts: Facts) -> Iterator[Item]:
    """What may keep loopback from answering."""
    yield from interface(facts)
    yield from firewall(facts)
