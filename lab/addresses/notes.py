"""What else is worth knowing of an address, in sentences: what surprises, and what mends it."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator

from lab.addresses.forms import embedded_ipv4, rfc5952, scope
from lab.addresses.parsing import Literal
from lab.addresses.registry import IPAddress, entries, kind_of
from lab.addresses.routing import Loopback, Net, Way
from lab.taps.rtnetlink import IFF_LOOPBACK, IFF_UP

__all__ = ["NOBODYS", "notes"]

#: Kinds that no machine should have an address of.
NOBODYS = ("documentation", "reserved", "deprecated", "unassigned", "discard", "dummy")


def notes(literal: Literal, net: Net, way: Way, stays: Loopback) -> Iterator[str]:
    """Sentences about an address, in a network."""
    address = literal.address
    yield from _of_readings(literal)
    yield from _of_kind(address, literal.zone)
    yield from _of_network(literal)
    yield from _of_way(net, address, way, stays)


def _of_readings(literal: Literal) -> Iterator[str]:
    if not literal.readings:
        return
    text, found = rfc5952(literal.address), {reading.address for reading in literal.readings if reading.address}
    if len(found) > 1:
        others = ", ".join(sorted(found - {text}))
        yield f"programs do not agree on {literal.given}: some go to {text}, others to {others}; write {text}"
    else:
        yield f"some programs refuse {literal.given}: write {text}, which all read alike"


def _of_kind(address: IPAddress, zone: str | None) -> Iterator[str]:
    kind = kind_of(address)
    if kind == "unspecified":
        both = ", of IPv4 too unless it is set to IPv6 only (IPV6_V6ONLY)" if address.version == 6 else ""
        yield f"a server bound to {address} takes connections to every address of the machine{both}"
    elif kind == "mapped":
        yield f"a socket of IPv6 sends IPv4 to {embedded_ipv4(address)}, unless it is set to IPv6 only (IPV6_V6ONLY)"
    elif address.version == 6 and zone is None and scope(address) in ("link-local", "interface-local"):
        yield f"{address} means something else on every interface: give one as its zone, {address}%INTERFACE"
    elif kind in ("translation", "6to4") and (inner := embedded_ipv4(address)) and kind_of(inner) != "public":
        yield f"the IPv4 address in it, {inner}, is no public one: {kind_of(inner)}"
    if zone is not None:
        yield "a % in a URL is %25; so zones were written by RFC 6874, which RFC 9844 took back: curl takes them so"


def _of_network(literal: Literal) -> Iterator[str]:
    if literal.prefix is None:
        return
    net = ipaddress.ip_network((literal.address, literal.prefix), strict=False)
    if net.network_address != literal.address:
        alone = f"{net.network_address}/{net.prefixlen}"
        yield f"{literal.given} is a machine and its network; the network alone is {alone}"
    for entry in entries(literal.address):
        if entry.network.prefixlen > net.prefixlen:
            yield f"{net.network_address}/{net.prefixlen} reaches beyond {entry.block}: the entry is not of all of it"
        break


def _of_way(net: Net, address: IPAddress, way: Way, stays: Loopback) -> Iterator[str]:
    own = [each for each in net.addresses if ipaddress.ip_address(each.address) == address]
    if own and kind_of(address) in NOBODYS:
        yield f"{net.name(own[0].interface)} has it here, though it is set aside, and means nothing elsewhere"
    if stays.here and way.kind == "broadcast":
        yield "it is the broadcast address of its network: a socket may send to it after SO_BROADCAST only"
    if not stays.registry or stays.here:
        return
    lo = next((each for each in net.interfaces if each.flags & IFF_LOOPBACK), None)
    inner = embedded_ipv4(address) or address
    if lo is None or way.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, None):
        return
    if not lo.flags & IFF_UP:
        yield f"{lo.name} is down: ip link set {lo.name} up"
    elif not any(
        each.interface == lo.index and (":" in each.address) == (inner.version == 6) for each in net.addresses
    ):
        fix = f"ip address add {'127.0.0.1/8' if inner.version == 4 else '::1/128'} dev {lo.name}"
        if inner.version == 6:
            fix += f", after sysctl -w net.ipv6.conf.{lo.name}.disable_ipv6=0 where it is off"
        yield f"{lo.name} has no address of IPv{inner.version}: {fix}"
