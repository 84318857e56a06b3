"""``lab.address``: from a text, or none, to what there is to say of it in a network."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from lab.addresses.facts import AddressFacts, facts
from lab.addresses.names import Answer, NameFacts, Start, ask_for
from lab.addresses.own import OwnAddresses, own_addresses
from lab.addresses.parsing import Literal, Name, parse
from lab.addresses.routing import Net, look
from lab.errors import UsageError
from lab.taps.places import SocketAt

if TYPE_CHECKING:
    from lab.world import Place

__all__ = ["address"]


@overload
def address(text: None = None, *, world: str | int | Place | None = None) -> OwnAddresses: ...
@overload
def address(text: str, *, world: str | int | Place | None = None) -> AddressFacts | NameFacts: ...
def address(
    text: str | None = None, *, world: str | int | Place | None = None
) -> AddressFacts | NameFacts | OwnAddresses:
    """What an address is, or a name means, and what the kernel would do with packets for it; nothing is sent there.

    text: an address (``"127.50.50.50"``, ``"::1"``, ``"fe80::1%eth0"``), one with the length of its network's prefix
    (``"10.1.2.3/8"``), or a name (``"localhost"``), for which each source of names is asked by itself, DNS too if it is
    one; None: the machine's own addresses. world: whose network: "host" (None), "new", the number of a process, or an
    open ``World``.

    A name that has no address is an answer, too: ``NameFacts`` without addresses. Raises UsageError for what is neither
    address nor name, and for a zone that there is not; Unavailable if the kernel, or a process, can't be asked.
    """
    wanted = None if text is None else parse(text)
    with _visited(world) as place:
        net = look(place.socket_at)
        if wanted is None:
            return own_addresses(net, place.kind)
        if isinstance(wanted, Literal):
            return facts(wanted, net, place.kind)
        return _name(wanted, place, net)


@dataclass(frozen=True)
class _Visited:
    """A network that is looked at: which, and how sockets and programs are started in it. start: None if they can't be
    from outside, as in a process's.
    """

    kind: str
    socket_at: SocketAt
    start: Start | None


@contextlib.contextmanager
def _visited(world: str | int | Place | None) -> Iterator[_Visited]:
    """The network that ``--world`` names. Raises what ``visit`` does."""
    if world is None or world == "host":  # for which nothing has to be made, or imported
        yield _Visited("host", socket.socket, subprocess.Popen)
        return
    from lab.world import visit

    with visit(world, []) as (place, _warnings):
        start: Any = subprocess.Popen if place.kind == "host" else getattr(place, "popen", None)
        yield _Visited(place.kind, place.socket, start)


def _name(name: Name, place: _Visited, net: Net) -> NameFacts:
    if name.name in {each.name for each in net.interfaces}:
        raise UsageError(
            f"{name.name} is an interface here; lab address alone tells its addresses: for the name give '{name.name}.'"
        )
    told = ask_for(name, place.kind, place.start)
    programs = Answer.from_json(told["programs"])
    return NameFacts(
        given=name.given,
        name=name.name,
        addresses=tuple(_of_name(each, name, net, place.kind) for each in programs.addresses),
        order=told["order"],
        sources=tuple(Answer.from_json(each) for each in told["services"]),
        hosts_file={"errno": told["hosts_errno"], "lines": told["hosts"]},
        resolver=told["resolver"],
        programs=programs,
        addrconfig=Answer.from_json(told["addrconfig"]),
        decided_by=told["decided_by"],
        withheld=tuple(told["withheld"]),
        world=place.kind,
    )


def _of_name(text: str, name: Name, net: Net, world: str) -> AddressFacts:
    body, _, zone = text.partition("%")
    return facts(Literal(text, ipaddress.ip_address(body), zone or None, None, ()), net, world, name.name)
