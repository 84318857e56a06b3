"""The packet that an ICMP error quotes, as scapy builds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from lab.flow.ladder.quoted import Quoted, read_quoted

ENDS = {4: ("198.18.0.1", "198.18.0.2"), 6: ("2001:2::1", "2001:2::2")}
HEADER = {4: IP, 6: IPv6}
ECHO = {4: ICMP(id=7), 6: ICMPv6EchoRequest(id=7)}


def quote(family, inner):
    source, destination = ENDS[family]
    return bytes(HEADER[family](src=source, dst=destination) / inner)


@pytest.mark.parametrize(("kind", "number"), [(UDP, 17), (TCP, 6)])
def test_ports(family, kind, number):
    told = read_quoted(quote(family, kind(sport=40000, dport=9) / Raw(b"hello"))[: (28 if family == 4 else 48)])
    assert told == Quoted(family, number, *ENDS[family], (40000, 9))


def test_an_echo_has_its_id(family):
    assert read_quoted(quote(family, ECHO[family])).ports == (7, 7)


def test_other_protocols_have_none(family):
    assert read_quoted(quote(family, Raw(b"12345678"))).ports is None


def test_a_later_fragment_tells_nothing():
    assert read_quoted(bytes(IP(src="198.18.0.1", dst="198.18.0.2", frag=10, proto=17) / Raw(b"12345678"))) is None


@given(st.binary(max_size=80))
def test_any_bytes_do_no_harm(data):
    read_quoted(data)
