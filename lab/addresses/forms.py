"""How an address is written, where its network begins and ends, and what IPv4 address an IPv6 one holds."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass
from typing import Any

from lab.addresses.registry import IPAddress, IPNetwork

__all__ = ["Forms", "Network", "embedded_ipv4", "forms", "network", "rfc5952", "scope", "with_zone"]

#: Where the last 32 bits are an IPv4 address by the prefix alone, and so are written as one (RFC 5952, section 5).
_MIXED = tuple(
    ipaddress.IPv6Network(each)
    for each in (
        "::ffff:0:0/96",  # RFC 4291, 2.5.5.2
        "::ffff:0:0:0/96",  # RFC 2765
        "64:ff9b::/96",  # RFC 6052
    )
)
_6TO4, _TEREDO = ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("2001::/32")
#: By the last four bits of the second byte (RFC 4291, 2.7; RFC 7346).
_MULTICAST_SCOPES = {
    1: "interface-local", 2: "link-local", 3: "realm-local", 4: "admin-local", 5: "site-local", 8: "organization-local",
    14: "global",
}  # fmt: skip


@dataclass(frozen=True)
class Forms:
    """The ways to write one address.

    text: the form for people, for IPv6 that of RFC 5952. expanded: with all digits. integer, hexadecimal: the number
    that it is. url: as the host of a URL (RFC 3986, 3.2.2). reverse: the name that DNS has of it (RFC 1035, RFC 3596).
    """

    text: str
    expanded: str
    integer: int
    hexadecimal: str
    url: str
    reverse: str

    def to_json(self) -> dict[str, Any]:
        """All of them."""
        return asdict(self)


@dataclass(frozen=True)
class Network:
    """A network or block, and its edges.

    given: whether it is by the prefix that was given; else it is the registry's block. hosts: the first and the last
    address that a machine can have, of IPv4; both are None for IPv6, where nearly all can be had. broadcast: IPv4 only,
    and none below four addresses (RFC 3021).
    """

    given: bool
    cidr: str
    prefix: int
    mask: str
    size: int
    first: str
    last: str
    first_host: str | None
    last_host: str | None
    broadcast: str | None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def with_zone(text: str, zone: str | None) -> str:
    """``fe80::1%eth0`` (RFC 4007, 11)."""
    return text if zone is None else f"{text}%{zone}"


def rfc5952(address: IPAddress) -> str:
    """The form that RFC 5952 recommends, without a zone; dotted decimal for IPv4."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    groups = [f"{address.packed[at] << 8 | address.packed[at + 1]:x}" for at in range(0, 16, 2)]
    tail = ""
    if any(address in prefix for prefix in _MIXED):
        tail = str(ipaddress.IPv4Address(address.packed[12:]))
        groups = groups[:6]
    # 4.2: the longest run of zeros, the first of equal ones, and never a single zero
    runs = [match.span() for match in re.finditer(r"1+", "".join("1" if group == "0" else "0" for group in groups))]
    start, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    groups += [tail] if tail else []
    if end - start < 2:
        return ":".join(groups)
    return f"{':'.join(groups[:start])}::{':'.join(groups[end:])}"


def forms(address: IPAddress, zone: str | None = None) -> Forms:
    """The ways to write an address; `zone` belongs to all of them but to the numbers and to the name."""
    text = rfc5952(address)
    if address.version == 4:
        expanded, url = text, text
    else:
        expanded = address.exploded
        # RFC 6874 wrote a zone so; RFC 9844 took that back, and nothing has come in its place.
        url = f"[{with_zone(text, None if zone is None else f'25{zone}')}]"
    hexadecimal = f"0x{address.packed.hex()}"
    return Forms(
        with_zone(text, zone), with_zone(expanded, zone), int(address), hexadecimal, url, address.reverse_pointer
    )


def network(net: IPNetwork, block: str | None = None) -> Network:
    """What there is to say of a network; block: as the registry writes it, if it is one of its blocks."""
    first, last = net.network_address, net.broadcast_address
    hosts: tuple[IPAddress, IPAddress] | None = None
    if net.version == 4:
        hosts = (first + 1, last - 1) if net.prefixlen <= 30 else (first, last)
    return Network(
        given=block is None,
        cidr=block or f"{rfc5952(first)}/{net.prefixlen}",
        prefix=net.prefixlen,
        mask=rfc5952(net.netmask),
        size=net.num_addresses,
        first=rfc5952(first),
        last=rfc5952(last),
        first_host=hosts and str(hosts[0]),
        last_host=hosts and str(hosts[1]),
        broadcast=str(last) if net.version == 4 and net.prefixlen <= 30 else None,
    )


def embedded_ipv4(address: IPAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, translated (NAT64), 6to4, or a Teredo client's."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in prefix for prefix in _MIXED):
        return ipaddress.IPv4Address(address.packed[12:])
    if address in _6TO4:
        return ipaddress.IPv4Address(address.packed[2:6])
    if address in _TEREDO:  # RFC 4380, 4: written inverted, so that no NAT translates it
        return ipaddress.IPv4Address(int.from_bytes(address.packed[12:], "big") ^ 0xFFFFFFFF)
    return None


def scope(address: IPAddress) -> str:
    """How far an address is valid (RFC 4007, 4; RFC 7346 for groups): "link-local", "global" and others.

    "host" is Linux's word for loopback; "none" is the scope of no address.
    """
    if address.is_unspecified:
        return "none"
    if address == ipaddress.IPv4Address(0xFFFFFFFF):
        return "link-local"
    if address.is_loopback:
        return "host"
    if address.is_link_local:
        return "link-local"
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_multicast:
            return _MULTICAST_SCOPES.get(address.packed[1] & 15, "unassigned")
        if address.is_site_local:
            return "site-local"
    elif address.is_multicast and address in ipaddress.IPv4Network("224.0.0.0/24"):
        return "link-local"
    return "global"
