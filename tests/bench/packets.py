"""The packets that are injected by all contenders of `injecting.py`: frames of 64 bytes, and echo requests."""

from __future__ import annotations

from typing import Any

from receiving import ADDRESSES, PORT
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

FIRST_PORT = 40_000
PAYLOAD = {4: 22, 6: 2}  # of 64 bytes


def ip(family: int) -> Any:
    address = ADDRESSES[family]
    return (IP if family == 4 else IPv6)(src=address, dst=address)


def datagram(family: int, flow: int = 0) -> Any:
    """An IP packet for the listener; with the 14 bytes of Ethernet it has 64. flow: by its source port."""
    return ip(family) / UDP(sport=FIRST_PORT + flow, dport=PORT) / Raw(bytes(PAYLOAD[family]))


def frame(family: int, flow: int = 0) -> Any:
    """The same as lo has it: all its addresses are zero."""
    zero = "00:00:00:00:00:00"
    return Ether(src=zero, dst=zero) / datagram(family, flow)


def echo_request(family: int, seq: int = 0) -> Any:
    """With 8 bytes of payload."""
    echo = ICMP(id=7, seq=seq) if family == 4 else ICMPv6EchoRequest(id=7, seq=seq, data=bytes(8))
    return ip(family) / echo / Raw(bytes(8)) if family == 4 else ip(family) / echo
