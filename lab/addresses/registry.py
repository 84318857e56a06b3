"""What addresses are set aside for: the registries of IANA, as tables, and the entries that an address lies in.

The columns are those of the IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), as of 2025-10-09,
when they were last changed. Multicast and what else has a meaning by its prefix alone stands in registries of its own,
which have no such columns: they are None there, as they are for blocks that were given back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

__all__ = ["AS_OF", "ENTRIES", "GLOBAL_UNICAST", "MEANINGS", "Entry", "IPAddress", "IPNetwork", "entries", "kind_of"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The state of the registries that the tables below are of.
AS_OF = "2025-10-09"
#: IPv6 addresses that are given to networks (RFC 4291, 2.4); whatever else has no entry is held back by the IETF.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

#: What each kind of address is for, in a sentence.
MEANINGS = {
    "loopback": "the machine itself: such a packet must never be seen on a network",
    "unspecified": "no address: a socket that is bound to it takes every address; nobody can have it",
    "this-network": "the network that one is on: a source before one has an address, never a destination",
    "private": "for any site's own use: routed inside of it, never on the Internet",
    "unique-local": "for any site's own use, as private IPv4 addresses are: never routed on the Internet",
    "link-local": "valid on one link only: every link has them, and no router forwards them",
    "shared": "between a provider and its customers' routers (carrier-grade NAT): not public, and no site's own",
    "documentation": "for examples in texts: nobody has it, and it is not public",
    "benchmarking": "for measuring devices in a laboratory: never routed on the Internet",
    "multicast": "a group: every member receives, and nobody sends from it",
    "broadcast": "everybody on the link that it is sent to",
    "translation": "an IPv4 address as IPv6 hosts write it, behind a translator (NAT64)",
    "mapped": "an IPv4 address inside of an IPv6 socket: what is sent is IPv4",
    "compatible": "an IPv4 address in IPv6 clothes, an early way over that was given up",
    "6to4": "IPv6 inside of IPv4, to and from the IPv4 address that it holds",
    "teredo": "IPv6 inside of UDP, through NAT",
    "discard": "thrown away by the routers that are told to: a sink for unwanted traffic",
    "dummy": "stands for no address, where a packet has to have one",
    "orchid": "the hash of a key, not a place: an identifier that looks like an address",
    "protocol": "held for a protocol of the IETF",
    "anycast": "a service that many machines offer under one address: the nearest answers",
    "segments": "a segment of a route (SRv6), inside of one operator's network",
    "site-local": "for one site, an early form of unique-local that was given up",
    "deprecated": "had a purpose once, which was given up",
    "reserved": "held back for uses that never came: many systems refuse to send to it",
    "public": "an address as any other: whoever it was given to can be reached there from the Internet",
    "unassigned": "held back by the IETF: nobody has been given it",
}  # fmt: skip

_SPECIAL = "special-purpose"
_MULTICAST = "multicast"
_SPACE = "address space"


@dataclass(frozen=True)
class Entry:
    """A block and what it is for.

    block: in CIDR form. kind: a key of ``MEANINGS``. rfc: where it is laid down. registry: "special-purpose",
    "multicast" or "address space". allocated, terminated: months. source, destination, forwardable,
    globally_reachable, reserved_by_protocol: the registry's columns; None where it has none, or says N/A.
    """

    block: str
    name: str
    kind: str
    rfc: str
    registry: str
    allocated: str | None = None
    terminated: str | None = None
    source: bool | None = None
    destination: bool | None = None
    forwardable: bool | None = None
    globally_reachable: bool | None = None
    reserved_by_protocol: bool | None = None

    @property
    def network(self) -> IPNetwork:
        """The block."""
        return ipaddress.ip_network(self.block)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def _special(block: str, name: str, kind: str, rfc: str, allocated: str, columns: str) -> Entry:
    """columns: the five in order, y, n, or - where the registry says N/A."""
    values = [{"y": True, "n": False, "-": None}[letter] for letter in columns]
    return Entry(block, name, kind, rfc, _SPECIAL, allocated, None, *values)


def _ended(block: str, name: str, rfc: str, allocated: str, terminated: str) -> Entry:
    return Entry(block, name, "deprecated", rfc, _SPECIAL, allocated, terminated)


def _group(block: str, name: str, rfc: str) -> Entry:
    return Entry(block, name, "multicast", rfc, _MULTICAST)


#: Columns: as a source, as a destination, forwardable, globally reachable, reserved by protocol.
ENTRIES = (
    _special("0.0.0.0/8", "This network", "this-network", "RFC 791, section 3.2", "1981-09", "ynnny"),
    _special("0.0.0.0/32", "This host on this network", "unspecified", "RFC 1122, section 3.2.1.3", "1981-09", "ynnny"),
    _special("10.0.0.0/8", "Private-Use", "private", "RFC 1918", "1996-02", "yyynn"),
    _special("100.64.0.0/10", "Shared Address Space", "shared", "RFC 6598", "2012-04", "yyynn"),
    _special("127.0.0.0/8", "Loopback", "loopback", "RFC 1122, section 3.2.1.3", "1981-09", "nnnny"),
    _special("169.254.0.0/16", "Link Local", "link-local", "RFC 3927", "2005-05", "yynny"),
    _special("172.16.0.0/12", "Private-Use", "private", "RFC 1918", "1996-02", "yyynn"),
    _special("192.0.0.0/24", "IETF Protocol Assignments", "protocol", "RFC 6890, section 2.1", "2010-01", "nnnnn"),
    _special("192.0.0.0/29", "IPv4 Service Continuity Prefix", "protocol", "RFC 7335", "2011-06", "yyynn"),
    _special("192.0.0.8/32", "IPv4 dummy address", "dummy", "RFC 7600", "2015-03", "ynnnn"),
    _special("192.0.0.9/32", "Port Control Protocol Anycast", "anycast", "RFC 7723", "2015-10", "yyyyn"),
    _special("192.0.0.10/32", "Traversal Using Relays around NAT Anycast", "anycast", "RFC 8155", "2017-02", "yyyyn"),
    _special(
        "192.0.0.170/32", "NAT64/DNS64 Discovery", "protocol", "RFC 8880; RFC 7050, section 2.2", "2013-02", "nnnny"
    ),
    _special(
        "192.0.0.171/32", "NAT64/DNS64 Discovery", "protocol", "RFC 8880; RFC 7050, section 2.2", "2013-02", "nnnny"
    ),
    _special("192.0.2.0/24", "Documentation (TEST-NET-1)", "documentation", "RFC 5737", "2010-01", "nnnnn"),
    _special("192.31.196.0/24", "AS112-v4", "anycast", "RFC 7535", "2014-12", "yyyyn"),
    _special("192.52.193.0/24", "AMT", "anycast", "RFC 7450", "2014-12", "yyyyn"),
    _ended("192.88.99.0/24", "Deprecated (6to4 Relay Anycast)", "RFC 7526", "2001-06", "2015-03"),
    _special("192.88.99.2/32", "6a44-relay anycast address", "anycast", "RFC 6751", "2012-10", "yyynn"),
    _special("192.168.0.0/16", "Private-Use", "private", "RFC 1918", "1996-02", "yyynn"),
    _special("192.175.48.0/24", "Direct Delegation AS112 Service", "anycast", "RFC 7534", "1996-01", "yyyyn"),
    _special("198.18.0.0/15", "Benchmarking", "benchmarking", "RFC 2544", "1999-03", "yyynn"),
    _special("198.51.100.0/24", "Documentation (TEST-NET-2)", "documentation", "RFC 5737", "2010-01", "nnnnn"),
    _special("203.0.113.0/24", "Documentation (TEST-NET-3)", "documentation", "RFC 5737", "2010-01", "nnnnn"),
    _special("240.0.0.0/4", "Reserved", "reserved", "RFC 1112, section 4", "1989-08", "nnnny"),
    _special(
        "255.255.255.255/32", "Limited Broadcast", "broadcast", "RFC 8190; RFC 919, section 7", "1984-10", "nynny"
    ),
    _group("224.0.0.0/4", "Multicast", "RFC 5771"),
    _group("224.0.0.0/24", "Local Network Control Block", "RFC 5771, section 4"),
    _group("224.0.0.1/32", "All Systems on this Subnet", "RFC 1112, section 4"),
    _group("232.0.0.0/8", "Source-Specific Multicast Block", "RFC 4607"),
    _group("233.252.0.0/24", "MCAST-TEST-NET, for documentation", "RFC 6676"),
    _group("239.0.0.0/8", "Administratively Scoped Block", "RFC 2365"),
    _special("::1/128", "Loopback Address", "loopback", "RFC 4291, section 2.5.3", "2006-02", "nnnny"),
    _special("::/128", "Unspecified Address", "unspecified", "RFC 4291, section 2.5.2", "2006-02", "ynnny"),
    _special("::ffff:0:0/96", "IPv4-mapped Address", "mapped", "RFC 4291, section 2.5.5.2", "2006-02", "nnnny"),
    _special("64:ff9b::/96", "IPv4-IPv6 Translat.", "translation", "RFC 6052", "2010-10", "yyyyn"),
    _special("64:ff9b:1::/48", "IPv4-IPv6 Translat.", "translation", "RFC 8215", "2017-06", "yyynn"),
    _special("100::/64", "Discard-Only Address Block", "discard", "RFC 6666", "2012-06", "yyynn"),
    _special("100:0:0:1::/64", "Dummy IPv6 Prefix", "dummy", "RFC 9780", "2025-04", "ynnnn"),
    _special("2001::/23", "IETF Protocol Assignments", "protocol", "RFC 2928", "2000-09", "nnnnn"),
    _special("2001::/32", "TEREDO", "teredo", "RFC 4380; RFC 8190", "2006-01", "yyy-n"),
    _special("2001:1::1/128", "Port Control Protocol Anycast", "anycast", "RFC 7723", "2015-10", "yyyyn"),
    _special("2001:1::2/128", "Traversal Using Relays around NAT Anycast", "anycast", "RFC 8155", "2017-02", "yyyyn"),
    _special(
        "2001:1::3/128", "DNS-SD Service Registration Protocol Anycast", "anycast", "RFC 9665", "2024-04", "yyyyn"
    ),
    _special("2001:2::/48", "Benchmarking", "benchmarking", "RFC 5180, erratum 1752", "2008-04", "yyynn"),
    _special("2001:3::/32", "AMT", "anycast", "RFC 7450", "2014-12", "yyyyn"),
    _special("2001:4:112::/48", "AS112-v6", "anycast", "RFC 7535", "2014-12", "yyyyn"),
    _ended("2001:10::/28", "Deprecated (previously ORCHID)", "RFC 4843", "2007-03", "2014-03"),
    _special("2001:20::/28", "ORCHIDv2", "orchid", "RFC 7343", "2014-07", "yyyyn"),
    _special(
        "2001:30::/28", "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "orchid", "RFC 9374", "2022-12", "yyyyn"
    ),
    _special("2001:db8::/32", "Documentation", "documentation", "RFC 3849", "2004-07", "nnnnn"),
    _special("2002::/16", "6to4", "6to4", "RFC 3056", "2001-02", "yyy-n"),
    _special("2620:4f:8000::/48", "Direct Delegation AS112 Service", "anycast", "RFC 7534", "2011-05", "yyyyn"),
    _special("3fff::/20", "Documentation", "documentation", "RFC 9637", "2024-07", "nnnnn"),
    _special("5f00::/16", "Segment Routing (SRv6) SIDs", "segments", "RFC 9602", "2024-04", "yyynn"),
    _special("fc00::/7", "Unique-Local", "unique-local", "RFC 4193; RFC 8190", "2005-10", "yyynn"),
    _special("fe80::/10", "Link-Local Unicast", "link-local", "RFC 4291, section 2.5.6", "2006-02", "yynny"),
    _group("ff00::/8", "Multicast", "RFC 4291, section 2.7"),
    _group("ff02::1/128", "All Nodes on the link", "RFC 4291, section 2.7.1"),
    _group("ff02::2/128", "All Routers on the link", "RFC 4291, section 2.7.1"),
    _group("ff02::1:ff00:0/104", "Solicited-Node", "RFC 4291, section 2.7.1"),
    Entry("::/96", "IPv4-compatible (deprecated)", "compatible", "RFC 4291, section 2.5.5.1", _SPACE),
    Entry("fec0::/10", "Site-Local (deprecated)", "site-local", "RFC 3879", _SPACE),
)


@cache
def _narrowest_first() -> tuple[tuple[IPNetwork, Entry], ...]:
    by_length = sorted(ENTRIES, key=lambda entry: -entry.network.prefixlen)
    return tuple((entry.network, entry) for entry in by_length)


def entries(address: IPAddress) -> Iterator[Entry]:
    """Those whose blocks have this address (without a zone), the narrowest first: it is the one that holds."""
    for network, entry in _narrowest_first():
        if address.version != network.version or address not in network:
            continue
        if entry.kind != "compatible" or int(address) > 1:  # RFC 4291, 2.5.5.1: :: and ::1 are none of these
            yield entry


def kind_of(address: IPAddress) -> str:
    """A key of ``MEANINGS``, also where no entry has this address."""
    for entry in entries(address):
        return entry.kind
    return "public" if address.version == 4 or address in GLOBAL_UNICAST else "unassigned"
