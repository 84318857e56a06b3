"""All that there is to say of one address; see ``to_json`` for the document.

The JSON document of an address, format 1:

=================  =====================================================================================================
given              what was asked for; name: the name that it came from, or null
address, family    as RFC 5952 writes it, with its zone; 4 or 6
zone, prefix       null if none was given
kind, meaning      what it is for, in a word and a sentence; public: whether it may be somebody's on the Internet
scope              how far it is valid: host, link-local, global, or a group's
registry           the narrowest entry that it lies in, with the columns of ``registry.Entry``; null if there is none
within             the wider entries around that one; registry_as_of: the state of the registries
network            ``forms.Network``: by the prefix that was given, else the entry's block; null if neither
forms              ``forms.Forms``
ipv4               the IPv4 address that an IPv6 one stands for, or null
route              ``routing.Way``: what the kernel would do; nothing is sent
loopback           ``routing.Loopback``: registry (by the rules) and here (in truth), and why
readings           what different programs make of it, where they differ (``spelling.Reading``); else empty
world              whose network: host, new, or a process
notes              what else is worth knowing, in sentences
=================  =====================================================================================================
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from lab.addresses import registry
from lab.addresses.forms import Forms, Network, embedded_ipv4, forms, network, rfc5952, scope
from lab.addresses.notes import notes
from lab.addresses.parsing import Literal
from lab.addresses.registry import MEANINGS, Entry, IPAddress
from lab.addresses.routing import Loopback, Net, Way, loopback, way
from lab.addresses.sheet import Sheet, Shown
from lab.addresses.spelling import Reading
from lab.addresses.wording import address_rows

__all__ = ["AddressFacts", "facts"]


@dataclass(frozen=True, repr=False)
class AddressFacts(Shown):
    """What an address is, how it is written, and what the kernel does with it. Fields: see the module's table."""

    given: str
    name: str | None
    value: IPAddress
    zone: str | None
    prefix: int | None
    entry: Entry | None
    within: tuple[Entry, ...]
    network: Network | None
    forms: Forms
    ipv4: str | None
    route: Way
    loopback: Loopback
    readings: tuple[Reading, ...]
    world: str
    notes: tuple[str, ...]

    @property
    def address(self) -> str:
        """As RFC 5952 writes it, with its zone."""
        return self.forms.text

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.value.version

    @property
    def kind(self) -> str:
        """What it is for, in a word: a key of ``registry.MEANINGS``."""
        return registry.kind_of(self.value)

    @property
    def public(self) -> bool:
        """Whether the registries let it be somebody's on the Internet."""
        return self.kind == "public" or bool(self.entry and self.entry.globally_reachable)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "given": self.given,
            "name": self.name,
            "address": self.address,
            "family": self.family,
            "zone": self.zone,
            "prefix": self.prefix,
            "kind": self.kind,
            "meaning": MEANINGS[self.kind],
            "public": self.public,
            "scope": scope(self.value),
            "registry_as_of": registry.AS_OF,
            "registry": self.entry and self.entry.to_json(),
            "within": [entry.to_json() for entry in self.within],
            "network": self.network and self.network.to_json(),
            "forms": self.forms.to_json(),
            "ipv4": self.ipv4,
            "route": self.route.to_json(),
            "loopback": self.loopback.to_json(),
            "readings": [reading.to_json() for reading in self.readings],
            "world": self.world,
            "notes": list(self.notes),
        }

    def _sheet(self) -> Sheet:
        given = f", given as {self.given}" if self.readings else ""
        return f"{self.address}  IPv{self.family}, {self.kind}{given}", address_rows(self), self.notes


def facts(literal: Literal, net: Net, world: str, name: str | None = None) -> AddressFacts:
    """What there is to say of an address, in a network. Raises UsageError for a zone that there is not; Unavailable."""
    value = literal.address
    found_in = tuple(registry.entries(value))
    first = found_in[0] if found_in else None
    block = None
    if literal.prefix is not None:
        block = network(ipaddress.ip_network((value, literal.prefix), strict=False))
    elif first is not None:
        block = network(first.network, first.block)
    inner = embedded_ipv4(value)
    found = way(net, value, literal.zone)
    stays = loopback(net, value, found)
    return AddressFacts(
        given=literal.given,
        name=name,
        value=value,
        zone=literal.zone,
        prefix=literal.prefix,
        entry=first,
        within=found_in[1:],
        network=block,
        forms=forms(value, literal.zone),
        ipv4=None if inner is None else rfc5952(inner),
        route=found,
        loopback=stays,
        readings=literal.readings,
        world=world,
        notes=tuple(notes(literal, net, found, stays)),
    )
