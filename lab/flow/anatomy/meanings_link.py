"""What the fields of link layers mean.

Ethernet: IEEE 802.3, RFC 894. VLAN tags: IEEE 802.1Q. ARP: RFC 826, RFC 5227. What is said of Linux's cooked captures
and of BSD's loopback: the list of link-layer header types of tcpdump (LINKTYPE_LINUX_SLL, LINKTYPE_NULL).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.flow.anatomy.placing import Place

__all__ = ["LINK_LAYERS", "Rule"]

#: What is said of a field: always the same; by its number; or what a function says of its place.
Rule = str | Mapping[int, str] | Callable[[Place], str]

#: What follows, by EtherType.
_ETHERTYPES = {
    0x0800: "an IPv4 packet follows",
    0x0806: "ARP follows",
    0x8100: "a VLAN tag follows",
    0x86DD: "an IPv6 packet follows",
    0x88A8: "an outer VLAN tag follows",
    0x88CC: "LLDP follows: a device describes itself",
}

#: Bits of the first byte of a hardware address.
_GROUP, _LOCAL = 1, 2
_NOBODY, _EVERYBODY = "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"


def _hardware(place: Place) -> str:
    address = str(place.value)
    if address == _NOBODY:
        return "all zeros: lo has no hardware address"
    if address == _EVERYBODY:
        return "everybody on the link (broadcast)"
    first = int(address[:2], 16)
    if first & _GROUP:
        return "a group (multicast): the lowest bit of the first byte is set"
    return "one device, whose address was given by software" if first & _LOCAL else "one device, by its maker's number"


def _asks(place: Place) -> bool:
    return bool(place.owner.op == 1)


def _arp_source(place: Place) -> str:
    if place.value == "0.0.0.0":  # noqa: S104 - no address yet
        return "none yet: a probe whether somebody has the address already (RFC 5227)"
    return (
        "the sender's address, which is announced to all" if place.owner.pdst == place.value else "the sender's address"
    )


def _vlan(place: Place) -> str:
    return f"VLAN {place.value}" if place.value else "no VLAN: the tag is there for the priority only"


LINK_LAYERS: dict[str, dict[str, Rule]] = {
    "Ether": {"dst": _hardware, "src": _hardware, "type": _ETHERTYPES},
    "Dot3": {
        "dst": _hardware,
        "src": _hardware,
        "len": lambda p: f"{p.value:,} bytes follow; a type would be 1,536 or more",
    },
    "Dot1Q": {
        "prio": lambda p: f"priority {p.value} of 0 to 7" + (", best effort" if p.value == 0 else ""),
        "dei": {0: "not to be dropped before others", 1: "to be dropped before others, if anything is"},
        "vlan": _vlan,
        "type": _ETHERTYPES,
    },
    "ARP": {
        "hwtype": {1: "hardware addresses are those of Ethernet"},
        "ptype": {0x0800: "for addresses of IPv4"},
        "hwlen": lambda p: f"hardware addresses have {p.value} bytes",
        "plen": lambda p: f"protocol addresses have {p.value} bytes",
        "op": {1: "a request: who has this address?", 2: "a reply: I have it"},
        "hwsrc": "the sender's hardware address",
        "psrc": _arp_source,
        "hwdst": lambda p: "not known: it is what is asked for" if _asks(p) else "whom the reply is for",
        "pdst": lambda p: "the address that is asked for" if _asks(p) else "the address of whom the reply is for",
    },
    "CookedLinux": {
        "pkttype": {
            0: "to this machine",
            1: "to everybody on the link (broadcast)",
            2: "to a group (multicast)",
            3: "to another machine",
            4: "sent by this machine",
        },
        "lladdrtype": {
            1: "a device like Ethernet (ARPHRD_ETHER)",
            772: "lo (ARPHRD_LOOPBACK)",
            65534: "no link header",
        },
        "lladdrlen": lambda p: f"{p.value} bytes of a hardware address, of 8 that are there for it",
        "src": "the sender's hardware address, filled up with zeros",
        "proto": _ETHERTYPES,
        "ifindex": lambda p: f"seen on interface {p.value}",
        "reserved": "0, as it must be",
    },
    "Loopback": {
        "type": {
            2: "IPv4 (AF_INET)",
            10: "IPv6 (AF_INET6)",
            24: "IPv6 (AF_INET6)",
            28: "IPv6 (AF_INET6)",
            30: "IPv6 (AF_INET6)",
        }
    },
}
