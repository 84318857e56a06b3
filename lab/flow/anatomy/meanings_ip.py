"""What the fields of IP and ICMP mean.

IPv4: RFC 791; IPv6 and its extension headers: RFC 8200; traffic class: RFC 2474, RFC 3168; flow label: RFC 6437.
ICMP: RFC 792, RFC 1122, RFC 1191 and RFC 1812; ICMPv6: RFC 4443; neighbor discovery: RFC 4861; listeners: RFC 2710.
"""

from __future__ import annotations

import ipaddress

from lab.flow.anatomy.meanings_link import Rule
from lab.flow.anatomy.placing import Place

__all__ = ["IP_LAYERS", "address_kind", "header_words"]

#: What follows, by protocol number (IANA).
_PROTOCOLS = {
    0: "hop-by-hop options follow, which each router may read",
    1: "it carries ICMP",
    2: "it carries IGMP",
    4: "it carries another IPv4 packet",
    6: "it carries TCP",
    17: "it carries UDP",
    41: "it carries another IPv6 packet",
    43: "a routing header follows",
    44: "a fragment header follows",
    47: "it carries GRE",
    50: "it carries ESP: encrypted",
    58: "it carries ICMPv6",
    59: "nothing follows",
    60: "options for the destination follow",
    132: "it carries SCTP",
}

_ECN = {0: "no ECN", 1: "ECN understood, ECT(1)", 2: "ECN understood, ECT(0)", 3: "congestion met (ECN CE)"}
_DSCP = {0: "best effort", 10: "AF11", 18: "AF21", 26: "AF31", 34: "AF41", 44: "voice admit", 46: "expedited (EF)"}
#: What a hop limit may have begun with: that of Linux, of Windows, and the most.
_HOPS = {64: "as Linux sends it", 128: "as Windows sends it", 255: "the most that there is"}
_DOCUMENTATION = tuple(
    ipaddress.ip_network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
_GROUPS = {
    "224.0.0.1": "all machines on the link",
    "224.0.0.2": "all routers on the link",
    "224.0.0.251": "mDNS",
    "ff02::1": "all machines on the link",
    "ff02::2": "all routers on the link",
    "ff02::16": "all routers that listen to MLDv2",
    "ff02::fb": "mDNS",
    "255.255.255.255": "everybody on the link (broadcast)",
}
_SOLICITED = ipaddress.ip_network("ff02::1:ff00:0/104")


def address_kind(place: Place) -> str:
    """What kind of address it is (RFC 6890, RFC 4291)."""
    address = ipaddress.ip_address(place.value)
    if str(address) in _GROUPS:
        return _GROUPS[str(address)]
    if address in _SOLICITED:
        return "the group of those whose address has the same last 3 bytes (solicited-node)"
    if any(address in each for each in _DOCUMENTATION):
        return "an address for documentation"
    kinds = {
        "is_unspecified": "none yet",
        "is_loopback": "this machine itself (loopback)",
        "is_multicast": "a group (multicast)",
        "is_link_local": "valid on this link only (link-local)",
        "is_private": "a private address",
        "is_global": "an address of the Internet",
    }
    return next((said for kind, said in kinds.items() if getattr(address, kind)), "")


def header_words(place: Place) -> str:
    """Of the length of a header, in words of 4 bytes, of which 5 are always there."""
    options = 4 * place.value - 20
    if options < 0:
        return "less than the 5 words of 4 bytes that there must be"
    return f"{place.value} words of 4 bytes: " + (f"{options} bytes of options" if options else "no options")


def _traffic_class(place: Place) -> str:
    dscp = place.value >> 2
    name = _DSCP.get(dscp) or (f"class selector {dscp >> 3}" if dscp % 8 == 0 else f"DSCP {dscp}")
    return f"{name}; {_ECN[place.value & 3]}"


def _hops(place: Place) -> str:
    value = place.value
    if value in _HOPS:
        return f"{_HOPS[value]}; each router takes one away"
    if value <= 1:
        return "no router passes it on"
    begun = next(each for each in _HOPS if each > value)
    routers = "1 router" if begun - value == 1 else f"{begun - value} routers"
    return f"{routers} behind it, if it began with {begun}; {value - 1} more may pass it on"


def _hops_ipv6(place: Place) -> str:
    if place.value == 255 and type(place.owner.payload).__name__.startswith("ICMPv6ND"):
        return "no router has passed it on, or it would be less: so a neighbor sent it (RFC 4861)"
    return _hops(place)


def _total_length(place: Place) -> str:
    if not place.value:
        return "not told: the packet is longer than 65,535 bytes, or the device was to fill it in"
    header = 4 * place.owner.ihl
    return f"{place.value:,} bytes: {header} of this header, and {place.value - header:,} that it carries"


def _payload_length(place: Place) -> str:
    return (
        f"{place.value:,} bytes behind this header of 40" if place.value else "not told here: more than 65,535, or none"
    )


def _identification(place: Place) -> str:
    flags, frag = place.owner.flags, place.owner.frag
    if flags.DF and not flags.MF and not frag:
        return "for fragments, which this packet never becomes (RFC 6864)"
    return "fragments of one packet have the same"


def _fragmenting(place: Place) -> str:
    said = {"DF": "must not be fragmented", "MF": "more fragments follow", "evil": "reserved bit, which must be 0"}
    found = [f"{name}: {words}" for name, words in said.items() if getattr(place.value, name)]
    if not found:
        return "the last fragment" if place.owner.frag else "routers may fragment it"
    return "; ".join(found)


def _fragment_offset(place: Place) -> str:
    more = getattr(place.owner, "m", 0) or getattr(getattr(place.owner, "flags", None), "MF", False)
    if place.value == 0:
        return "the first fragment" if more else "it is whole"
    return f"counted in 8 bytes: it continues at byte {8 * place.value:,}"


def _code(place: Place) -> str:
    only = place.value == 0 and place.owner.type in _ONE_CODE
    return _ICMP_CODES.get((place.owner.type, place.value), _CODE_0[0] if only else "")


def _extension_length(place: Place) -> str:
    return f"{8 * (place.value + 1)} bytes: 8, and {place.value} times 8 more"


def _quoted_length(place: Place) -> str:
    size = 4 if type(place.owner).__name__ == "ICMP" else 8
    said = f"{place.value} words of {size} bytes of the packet are quoted"
    return f"{said} (RFC 4884)" if place.value else "0: not told (RFC 4884)"


def _seconds(place: Place) -> str:
    return f"{place.value:,} s"


def _milliseconds(place: Place) -> str:
    return f"{place.value:,} ms" if place.value else "not told"


_ICMP_TYPES = {
    0: "echo reply: the answer to a ping",
    3: "a packet could not be delivered",
    4: "source quench: send less (obsolete, RFC 6633)",
    5: "redirect: another router is better",
    8: "echo request: a ping, to be answered",
    9: "router advertisement",
    10: "router solicitation",
    11: "a packet took too long",
    12: "a packet with a wrong header",
    13: "timestamp request",
    14: "timestamp reply",
    17: "address mask request (obsolete, RFC 6918)",
    18: "address mask reply (obsolete, RFC 6918)",
}
_ONE_CODE = (0, 4, 8, 10, 13, 14, 17, 18)
_ICMP_CODES = {
    (3, 0): "no way to its network",
    (3, 1): "its machine did not answer",
    (3, 2): "that machine does not know the protocol",
    (3, 3): "nobody listens at that port",
    (3, 4): "too long for the next link, and must not be fragmented",
    (3, 5): "the route that it asked for can't be taken",
    (3, 9): "its network is forbidden by an administrator",
    (3, 10): "its machine is forbidden by an administrator",
    (3, 13): "a filter forbids it",
    (5, 0): "for all of that network",
    (5, 1): "for that machine",
    (11, 0): "its TTL ran out on the way",
    (11, 1): "not all of its fragments came in time",
    (12, 0): "a pointer tells where",
}
_ICMPV6_TYPES = {
    1: "a packet could not be delivered",
    2: "a packet was too big for the next link",
    3: "a packet took too long",
    4: "a packet with a wrong header",
    128: "echo request: a ping, to be answered",
    129: "echo reply: the answer to a ping",
    130: "multicast listener query: who listens?",
    131: "multicast listener report: I do",
    132: "multicast listener done: I no longer do",
    133: "router solicitation: is there a router?",
    134: "router advertisement: I am one",
    135: "neighbor solicitation: who has this address?",
    136: "neighbor advertisement: I have it",
    137: "redirect: another way is better",
    143: "multicast listener report, version 2: I do",
}
_UNREACHABLE_V6 = {
    0: "no way to it",
    1: "an administrator forbids it",
    2: "its address is of a wider scope than the sender's",
    3: "its machine did not answer",
    4: "nobody listens at that port",
    5: "its source address is forbidden",
    6: "the route to it is one that rejects",
}
_ECHO: dict[str, Rule] = {
    "id": "which ping it belongs to; the reply has the same",
    "seq": "which request of that ping; the reply has the same",
}
_CODE_0 = {0: "the only code of this type"}
_TARGET = "the address that it is about"
_RESERVED = {0: "0, as it must be"}

_ICMPV6: dict[str, Rule] = {"type": _ICMPV6_TYPES, "code": _CODE_0, "res": _RESERVED, "reserved": _RESERVED}
_CODED: dict[str, Rule] = {"type": _ICMPV6_TYPES, "length": _quoted_length, "unused": _RESERVED}
_EXTENSION: dict[str, Rule] = {"nh": _PROTOCOLS, "len": _extension_length}

IP_LAYERS: dict[str, dict[str, Rule]] = {
    "IP": {
        "version": lambda p: f"version {p.value}",
        "ihl": header_words,
        "tos": _traffic_class,
        "len": _total_length,
        "id": _identification,
        "flags": _fragmenting,
        "frag": _fragment_offset,
        "ttl": _hops,
        "proto": _PROTOCOLS,
        "src": address_kind,
        "dst": address_kind,
        "options": lambda p: "" if p.value else "none",
    },
    "IPv6": {
        "version": lambda p: f"version {p.value}",
        "tc": _traffic_class,
        "fl": lambda p: (
            "packets of a flow have the same, and take the same way" if p.value else "the flow is not marked"
        ),
        "plen": _payload_length,
        "nh": _PROTOCOLS,
        "hlim": _hops_ipv6,
        "src": address_kind,
        "dst": address_kind,
    },
    "IPv6ExtHdrHopByHop": _EXTENSION,
    "IPv6ExtHdrDestOpt": _EXTENSION,
    "IPv6ExtHdrRouting": {
        **_EXTENSION,
        "segleft": lambda p: f"{p.value} addresses are still to be visited",
        "addresses": "the addresses on its way",
    },
    "IPv6ExtHdrSegmentRouting": {
        **_EXTENSION,
        "segleft": lambda p: f"{p.value} addresses are still to be visited",
        "addresses": "the addresses on its way, the last one first (RFC 8754)",
    },
    "IPv6ExtHdrFragment": {
        "nh": _PROTOCOLS,
        "res1": _RESERVED,
        "offset": _fragment_offset,
        "res2": _RESERVED,
        "m": {0: "no more fragments follow", 1: "more fragments follow"},
        "id": "fragments of one packet have the same",
    },
    "Pad1": {"otype": "fills one byte"},
    "PadN": {"otype": "fills up to a multiple of 8 bytes", "optlen": lambda p: f"and {p.value} bytes more"},
    "RouterAlert": {"otype": "routers, look inside (RFC 2711)", "optlen": lambda p: f"its value has {p.value} bytes"},
    "ICMP": {
        "type": _ICMP_TYPES,
        "code": _code,
        **_ECHO,
        "ts_ori": "when it was sent, in ms since midnight UTC",
        "ts_rx": "when it arrived, in ms since midnight UTC",
        "ts_tx": "when it was answered, in ms since midnight UTC",
        "gw": "the better router",
        "ptr": lambda p: f"byte {p.value} of the packet is wrong",
        "reserved": _RESERVED,
        "length": _quoted_length,
        "nexthopmtu": lambda p: f"at most {p.value:,} bytes fit the next link" if p.value else "not used",
        "unused": lambda p: "0, as it must be" if p.value == 0 else "",
        "addr_mask": "of the network that it is in",
    },
    "ICMPv6EchoRequest": {
        **_ICMPV6,
        **_ECHO,
        "data": lambda p: f"{len(p.value):,} bytes, which the reply must repeat" if p.value else "none",
    },
    "ICMPv6EchoReply": {
        **_ICMPV6,
        **_ECHO,
        "data": lambda p: f"{len(p.value):,} bytes, those of the request" if p.value else "none",
    },
    "ICMPv6DestUnreach": {**_CODED, "code": _UNREACHABLE_V6},
    "ICMPv6PacketTooBig": {**_ICMPV6, "mtu": lambda p: f"at most {p.value:,} bytes fit the next link"},
    "ICMPv6TimeExceeded": {
        **_CODED,
        "code": {0: "its hop limit ran out on the way", 1: "not all of its fragments came in time"},
    },
    "ICMPv6ParamProblem": {
        **_CODED,
        "code": {0: "a field is wrong", 1: "an unknown next header", 2: "an unknown option"},
        "ptr": lambda p: f"byte {p.value} of the packet is wrong",
    },
    "ICMPv6ND_RS": _ICMPV6,
    "ICMPv6ND_RA": {
        **_ICMPV6,
        "chlim": lambda p: f"send with a hop limit of {p.value}" if p.value else "not told",
        "M": {0: "no addresses from DHCPv6", 1: "addresses come from DHCPv6"},
        "O": {0: "nothing else from DHCPv6", 1: "other settings come from DHCPv6"},
        "routerlifetime": lambda p: f"a way out for {p.value:,} s" if p.value else "no way out: not a default router",
        "reachabletime": _milliseconds,
        "retranstimer": _milliseconds,
    },
    "ICMPv6ND_NS": {**_ICMPV6, "tgt": "the address that is asked for"},
    "ICMPv6ND_NA": {
        **_ICMPV6,
        "R": {0: "not from a router", 1: "from a router"},
        "S": {0: "nobody asked", 1: "an answer to a solicitation"},
        "O": {0: "does not replace what is known already", 1: "replaces what is known already"},
        "tgt": _TARGET,
    },
    "ICMPv6ND_Redirect": {**_ICMPV6, "tgt": "the better next hop", "dst": "for packets to this address"},
    "ICMPv6NDOptSrcLLAddr": {
        "type": {1: "the sender's hardware address", 2: "the hardware address of the target"},
        "len": lambda p: f"{p.value} times 8 bytes",
        "lladdr": "so packets for it go there on this link",
    },
    "ICMPv6NDOptMTU": {
        "len": lambda p: f"{p.value} times 8 bytes",
        "mtu": lambda p: f"packets of {p.value:,} bytes fit",
    },
    "ICMPv6NDOptPrefixInfo": {
        "len": lambda p: f"{p.value} times 8 bytes",
        "prefixlen": lambda p: f"the first {p.value} bits of the prefix count",
        "L": {0: "", 1: "addresses with this prefix are on this link"},
        "A": {0: "not for making up addresses", 1: "addresses may be made up with it (SLAAC, RFC 4862)"},
        "validlifetime": _seconds,
        "preferredlifetime": _seconds,
    },
}
