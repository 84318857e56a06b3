"""What the fields of TCP, UDP and DNS mean, and the bytes that are carried.

TCP: RFC 9293, its options RFC 2018 (SACK) and RFC 7323 (window scale, timestamps), ECN RFC 3168. UDP: RFC 768. DNS:
RFC 1035, RFC 2181, RFC 4035, RFC 6762. Ports: IANA, and Linux's net.ipv4.ip_local_port_range.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.flow.anatomy.meanings_ip import address_kind, header_words
from lab.flow.anatomy.meanings_link import Rule
from lab.flow.anatomy.placing import Place
from lab.taps.packets import Packet

__all__ = ["TRANSPORT_LAYERS"]

_UDP_HEADER = 8
_EPHEMERAL = range(32768, 61000)
#: What is usually behind a port, of TCP or UDP.
_SERVICES = {
    7: "echo", 9: "discard", 22: "SSH", 25: "SMTP", 53: "DNS", 67: "DHCP, the server's", 68: "DHCP, the client's",
    80: "HTTP", 123: "NTP", 161: "SNMP", 443: "HTTPS", 546: "DHCPv6, the client's", 547: "DHCPv6, the server's",
    3306: "MySQL", 4789: "VXLAN", 5353: "mDNS", 5432: "PostgreSQL", 6379: "Redis", 8080: "HTTP, by custom",
    8888: "Jupyter, by custom", 11211: "memcached",
}  # fmt: skip
_POINTER_BITS = 16
_FLAGS = {
    "S": "SYN: opens a connection, and counts as one byte",
    "F": "FIN: no more data from this side; counts as one byte",
    "R": "RST: the connection is off",
    "P": "PSH: hand it to the application now",
    "A": "ACK: the acknowledgement number counts",
    "U": "URG: the urgent pointer counts",
    "E": "ECE: congestion was met",
    "C": "CWR: I send less now",
    "N": "AE: accurate ECN",
}
#: With SYN, these two say something else (RFC 3168, 6.1.1).
_FLAGS_OF_SYN = {"E": "ECE: ECN is understood", "C": "CWR: and wanted"}


def _port(place: Place) -> str:
    if place.value in _EPHEMERAL:
        return "a client's, as Linux chooses them (32768 to 60999)"
    return _SERVICES.get(place.value, "")


def _data_length(segment: Packet) -> int:
    """Bytes of data that a TCP segment had when it was sent, by IP; if that does not tell, those that are there."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    headers, layer = 4 * segment.dataofs, segment.underlayer
    while layer is not None and not isinstance(layer, (IP, IPv6)):
        headers += len(layer.raw_packet_cache or b"")
        layer = layer.underlayer
    if isinstance(layer, IP) and layer.len:
        return int(layer.len - 4 * layer.ihl - headers)
    if isinstance(layer, IPv6) and layer.plen:
        return int(layer.plen - headers)
    return len(segment.payload.original) if segment.payload else 0


def _sequence(place: Place) -> str:
    flags, data = place.owner.flags, _data_length(place.owner)
    following = (place.value + data + int(bool(flags.S)) + int(bool(flags.F))) & 0xFFFF_FFFF
    if flags.S:
        return f"where this side begins to count; its next byte is {following}"
    if data:
        return f"the number of the first of its {data:,} bytes; the sender's next byte is {following}"
    if flags.R:
        return "0 in answer to a segment without ACK, else the number that the other side waits for"
    return "no data: the number of the byte that the sender would send next" + (
        f"; its FIN makes that {following}" if flags.F else ""
    )


def _acknowledged(place: Place) -> str:
    return "all bytes before this one have come; it is expected next" if place.owner.flags.A else "without ACK, nothing"


def _flags(place: Place) -> str:
    said = _FLAGS | (_FLAGS_OF_SYN if place.value.S else {})
    return "; ".join(said[each] for each in sorted(str(place.value), key=list(_FLAGS).index)) or "none"


def _window(place: Place) -> str:
    if place.owner.flags.S:
        return f"room for {place.value:,} bytes, never scaled in a SYN"
    if not place.value:
        return "none: there is no connection" if place.owner.flags.R else "no room: wait"
    return f"room for {place.value:,} bytes, times the scale that its SYN told"


def _blocks(place: Place) -> str:
    edges = place.value
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return "; ".join(f"bytes {left} to {right - 1} have come too" for left, right in pairs)


def _name(place: Place) -> str:
    if place.bits == _POINTER_BITS and len(place.value) > 1:
        return "a pointer to where the name is written already (compression)"
    return "the name that is asked for" if place.key[1] == "qname" else "the name that it is about"


def _record_data(place: Place) -> str:
    return address_kind(place) if place.owner.type in (1, 28) else ""


def _recursion_available(place: Place) -> str:
    if not place.owner.qr:
        return "" if place.value else "answers only say whether"
    return "this server finds out for others" if place.value else "this server does not find out for others"


def _carried(place: Place) -> str:
    count = f"{len(place.value):,} byte{'s' if len(place.value) > 1 else ''}"
    around = place.owner.underlayer
    if type(around).__name__ == "ICMP" and around.type in (0, 8):
        return f"{count}, which the reply must repeat" if around.type == 8 else f"{count}, those of the request"
    return count


def _count(one: str, many: str) -> Callable[[Place], str]:
    return lambda place: f"{place.value:,} {one if place.value == 1 else many}"


_RECORD_TYPES = {
    1: "an IPv4 address",
    2: "a name server",
    5: "an alias",
    6: "the beginning of a zone",
    12: "the name of an address",
    15: "a mail server",
    16: "text",
    28: "an IPv6 address",
    33: "a service",
    41: "no record: what the sender can do (EDNS, RFC 6891)",
    65: "how to reach a web service",
    255: "all there is",
}
_INTERNET = {1: "of the Internet"}
_PORTS = {"sport": _port, "dport": _port}

TRANSPORT_LAYERS: dict[str, dict[str, Rule]] = {
    "TCP": {
        **_PORTS,
        "seq": _sequence,
        "ack": _acknowledged,
        "dataofs": header_words,
        "reserved": {0: "0, as it must be"},
        "flags": _flags,
        "window": _window,
        "urgptr": lambda p: f"{p.value} bytes from here on are urgent" if p.owner.flags.U else "without URG, nothing",
        "options": lambda p: "" if p.value else "none",
        "options.MSS": lambda p: f"send at most {p.value:,} bytes of data a segment",
        "options.SAckOK": "selective acknowledgements are understood",
        "options.SAck": _blocks,
        "options.Timestamp": lambda p: (
            f"its clock shows {p.value[0]}; the last that it saw of the other was {p.value[1]}"
        ),
        "options.WScale": lambda p: f"its windows are counted in {1 << min(p.value, 14):,} bytes, but in SYNs",
        "options.NOP": "fills one byte, so that what follows is aligned",
        "options.EOL": "no more options",
        "options.padding": "fills up to a multiple of 4 bytes",
    },
    "UDP": {
        **_PORTS,
        "len": lambda p: (
            f"{p.value:,} bytes: {_UDP_HEADER} of this header, {p.value - _UDP_HEADER:,} of data"
            if p.value >= _UDP_HEADER
            else "less than the header has: not told, or wrong"
        ),
    },
    "Raw": {"load": _carried},
    "Padding": {"load": lambda p: f"{len(p.value):,} bytes behind the packet: Ethernet fills frames up to 60"},
    "VXLAN": {"vni": lambda p: f"virtual network {p.value}"},
    "DNS": {
        "length": lambda p: f"{p.value:,} bytes follow, as always over TCP",
        "id": "the answer has the same as the question",
        "qr": {0: "a question", 1: "an answer"},
        "opcode": {0: "a plain query", 4: "notify: a zone has changed", 5: "a zone is to be changed"},
        "aa": {0: "", 1: "by a server that is responsible for the name"},
        "tc": {0: "all of it is here", 1: "cut: ask again over TCP"},
        "rd": {0: "answer by what you know", 1: "please find it out for me (recursion)"},
        "ra": _recursion_available,
        "z": {0: "0, as it must be"},
        "ad": {0: "", 1: "checked by DNSSEC, or to be told whether"},
        "cd": {0: "", 1: "do not check by DNSSEC"},
        "rcode": {
            0: "no error",
            1: "the question can't be read",
            2: "the server failed",
            3: "there is no such name (NXDOMAIN)",
            4: "the server can't do that",
            5: "refused",
        },
        "qdcount": _count("question", "questions"),
        "ancount": _count("answer", "answers"),
        "nscount": _count("record about who is responsible", "records about who is responsible"),
        "arcount": _count("more record", "more records"),
        **{name: lambda p: "" if p.value else "none" for name in ("qd", "an", "ns", "ar")},
    },
    "DNSQR": {
        "qname": _name,
        "qtype": _RECORD_TYPES,
        "unicastresponse": {0: "", 1: "answer to me alone (mDNS)"},
        "qclass": _INTERNET,
    },
    "DNSRR": {
        "rrname": _name,
        "type": _RECORD_TYPES,
        "cacheflush": {0: "", 1: "forget what you knew of it (mDNS)"},
        "rclass": _INTERNET,
        "ttl": lambda p: f"may be remembered for {p.value:,} s",
        "rdlen": lambda p: f"{p.value:,} bytes of data follow",
        "rdata": _record_data,
    },
}
