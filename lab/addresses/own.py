"""The machine's own addresses, by interface; see ``to_json``.

The JSON document, format 1: address and family, null, as none was asked for; interfaces: name, index, up, carrier,
loopback, mac (null: it has none) and addresses, each with address, family, prefix, scope, states, kind, public and
registry (``registry.Entry``, or null); public_address: asked (false) and why; world; notes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from lab.addresses import registry
from lab.addresses.notes import NOBODYS
from lab.addresses.registry import Entry
from lab.addresses.routing import Net
from lab.addresses.sheet import Row, Sheet, Shown
from lab.taps.rtnetlink import IFF_LOOPBACK, IFF_LOWER_UP, IFF_UP, Address, Interface

__all__ = ["OwnAddress", "OwnAddresses", "own_addresses"]

_NO_MAC = "00:00:00:00:00:00"
_WHY_NOT = (
    "not asked for: behind NAT, the address that others see is the router's, and only somebody outside could tell it; "
    "lab asks nobody outside"
)


@dataclass(frozen=True)
class OwnAddress:
    """An address of an interface. scope: how far the kernel takes it for valid. states: such as tentative."""

    address: str
    family: int
    prefix: int
    scope: str
    states: tuple[str, ...]
    kind: str
    public: bool
    entry: Entry | None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "address": self.address,
            "family": self.family,
            "prefix": self.prefix,
            "scope": self.scope,
            "states": list(self.states),
            "kind": self.kind,
            "public": self.public,
            "registry": self.entry and self.entry.to_json(),
        }


@dataclass(frozen=True)
class OwnInterface:
    """An interface and its addresses. carrier: whether there is anything at the other end of its cable."""

    name: str
    index: int
    up: bool
    carrier: bool
    loopback: bool
    mac: str | None
    addresses: tuple[OwnAddress, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "name": self.name,
            "index": self.index,
            "up": self.up,
            "carrier": self.carrier,
            "loopback": self.loopback,
            "mac": self.mac,
            "addresses": [each.to_json() for each in self.addresses],
        }


@dataclass(frozen=True, repr=False)
class OwnAddresses(Shown):
    """All interfaces of a network, with their addresses."""

    interfaces: tuple[OwnInterface, ...]
    world: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is worth knowing, in sentences."""
        found = []
        for each in self.interfaces:
            if each.loopback and not each.up:
                found.append(
                    f"{each.name} is down, so that nothing answers on 127.0.0.1 or ::1: ip link set {each.name} up"
                )
            found += [
                f"{each.name} has {own.address}, which is set aside ({own.kind}): it means nothing elsewhere"
                for own in each.addresses
                if own.kind in NOBODYS
            ]
        if not any(own.kind == "loopback" for each in self.interfaces for own in each.addresses):
            found.append("no interface has a loopback address: ip address add 127.0.0.1/8 dev lo")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "address": None,
            "family": None,
            "interfaces": [each.to_json() for each in self.interfaces],
            "public_address": {"asked": False, "why": _WHY_NOT},
            "world": self.world,
            "notes": list(self.notes),
        }

    def _sheet(self) -> Sheet:
        width = max((len(_with_prefix(own)) for each in self.interfaces for own in each.addresses), default=0)
        rows: list[Row] = [(each.name, _lines(each, width)) for each in self.interfaces]
        known = [own.address for each in self.interfaces for own in each.addresses if own.public]
        public = [f"{address}, an own one, is public by its block" for address in known]
        rows += [("", []), ("public", [*public, _WHY_NOT])]
        whose = {"host": "this machine", "new": "a private world"}.get(self.world, f"process {self.world}")
        return f"addresses of {whose}", rows, self.notes


def _with_prefix(own: OwnAddress) -> str:
    return f"{own.address}/{own.prefix}"


def _lines(interface: OwnInterface, width: int) -> list[str]:
    """width: of the addresses of all interfaces, so that they stand in columns."""
    state = "up" if interface.up else "down"
    if interface.up and not interface.carrier:
        state += ", no carrier"
    lines = [f"{state}{', loopback' if interface.loopback else ''}{f', {interface.mac}' if interface.mac else ''}"]
    for own in interface.addresses:
        states = f" ({', '.join(own.states)})" if own.states else ""
        block = f", {own.entry.block}" if own.entry else ""
        lines.append(f"{_with_prefix(own):{width}}  {own.scope:6}  {own.kind}{block}{states}")
    return lines


def own_addresses(net: Net, world: str) -> OwnAddresses:
    """All interfaces of a network, with their addresses."""
    return OwnAddresses(tuple(_interface(each, net.addresses) for each in net.interfaces), world)


def _interface(each: Interface, addresses: tuple[Address, ...]) -> OwnInterface:
    return OwnInterface(
        name=each.name,
        index=each.index,
        up=bool(each.flags & IFF_UP),
        carrier=bool(each.flags & IFF_LOWER_UP),
        loopback=bool(each.flags & IFF_LOOPBACK),
        mac=None if each.mac == _NO_MAC else each.mac,
        addresses=tuple(_address(address) for address in addresses if address.interface == each.index),
    )


def _address(own: Address) -> OwnAddress:
    value = ipaddress.ip_address(own.address)
    kind, entry = registry.kind_of(value), next(registry.entries(value), None)
    return OwnAddress(
        address=own.address,
        family=value.version,
        prefix=own.prefix,
        scope=own.scope,
        states=own.states,
        kind=kind,
        public=kind == "public" or bool(entry and entry.globally_reachable),
        entry=entry,
    )
