"""Anatomies as text: what is in the boxes, where their borders are, and that all fits."""

from __future__ import annotations

import re

import pytest
from scapy import all as scapy

import lab

SYN = scapy.IP(src="127.0.0.1", dst="127.0.0.1") / scapy.TCP(sport=40000, dport=80, options=[("MSS", 65495)])
QUESTION = scapy.UDP(sport=40000, dport=53) / scapy.DNS(qd=[scapy.DNSQR(qname="a-rather-long-name.example.org")])
ANSWER = scapy.DNS(qr=1, an=[scapy.DNSRR(rrname=f"{n}.example.org", rdata="192.0.2.1") for n in range(40)])
PACKETS = {
    "syn": SYN,
    "dns": scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / scapy.IPv6(dst="::1") / QUESTION,
    "answers": scapy.IP() / scapy.UDP(sport=53, dport=40000) / ANSWER,
    "long": scapy.IP() / scapy.UDP(sport=40000, dport=40001) / bytes(1401),
    "extensions": scapy.IPv6(dst="::1") / scapy.IPv6ExtHdrHopByHop(options=[scapy.RouterAlert()]) / scapy.ICMPv6ND_RA(),
    "arp": scapy.Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / scapy.ARP(psrc="192.0.2.1"),
    "snmp": scapy.IP() / scapy.UDP(sport=161) / scapy.SNMP(),
    "raw": scapy.Raw(b"a note: $x$ <b> \n\x1b[31m"),
}


def diagram(lines, title):
    """The lines of a layer's diagram, from its first border on."""
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{title}: bytes")) + 3
    last = next(number for number in range(first, len(lines)) if not lines[number])
    return lines[first:last]


@pytest.mark.parametrize("kind", PACKETS)
def test_all_fits_and_can_be_printed(kind):
    anatomy = lab.anatomy(PACKETS[kind])
    names = [field.name for layer in anatomy.layers for field in layer.shown]
    for each in (anatomy, anatomy.blank(names[0]), anatomy.beside(SYN)):
        assert all(len(line) <= 80 and (not line or line.isprintable()) for line in each.lines())
        assert str(each) == repr(each) == "\n".join(each.lines())
    text = re.sub(r"\s", "", str(anatomy))
    told = [each for each in names if each in text]
    more = sum(map(int, re.findall(r"and(\d+)morefields", text)))
    assert told == names[: len(names) - more]
    assert (more > 0) == (kind == "answers")


@pytest.mark.parametrize("kind", PACKETS)
def test_bytes_are_those_of_the_packet(kind):
    anatomy = lab.anatomy(PACKETS[kind])
    for layer in anatomy.layers:
        shown = [line[67:] for line in diagram(anatomy.lines(), layer.title) if not line.startswith("+")]
        rows = [line for line in shown if re.fullmatch(r"([0-9a-f]{2} ?)+", line)]
        if any("…" in line for line in shown):
            assert layer.data.startswith(bytes.fromhex(rows[0]))
        else:
            assert bytes.fromhex("".join(rows)) == layer.data


def test_borders_are_where_fields_are():
    lines = diagram(lab.anatomy(SYN).lines(), "IPv4")
    assert lines[0] == "+-" * 32 + "+"
    places = [[0, 4, 8, 16, 32], [0, 16, 19, 32], [0, 8, 16, 32], [0, 32], [0, 32]]
    for row, bits in zip(lines[1::2], places, strict=False):
        assert [match.start() // 2 for match in re.finditer(r"\|", row[:65])] == bits
    assert "ihl 5" in lines[1]
    assert "45 00 00" in lines[1]


def test_a_field_over_several_rows_is_one_box():
    lines = diagram(lab.anatomy(PACKETS["arp"]).lines(), "Ethernet")
    assert lines[2] == "|                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+"
    address = diagram(lab.anatomy(PACKETS["extensions"]).lines(), "IPv6")
    assert [line.startswith("+") for line in address[-6:]] == [True, False, False, False, False, True]


def test_what_is_too_narrow_is_explained_below():
    lines = lab.anatomy(PACKETS["dns"]).lines()
    row = diagram(lines, "DNS")[1]
    for name in ("qr", "aa", "rd"):
        key = next(line for line in lines if re.match(rf"\S  {name} ", line))[0]
        assert f"|{key}|" in row
    assert "|z|" in row


def test_long_payloads_are_folded():
    rows = diagram(lab.anatomy(PACKETS["long"]).lines(), "payload")
    assert len(rows) == 1 + 2 + 1 + 1
    assert f"… {1401 - 8:,} bytes" in rows[-2]


def test_blank_fields_tell_nothing():
    anatomy = lab.anatomy(SYN)
    text = str(anatomy.blank("TCP.dport", "IP.src", "IP.dst"))
    assert "dport ?" in text
    assert "9c 40 ·· ··" in text
    for told in ("HTTP", "127.0.0.1", "80 "):
        assert told not in text
    assert str(anatomy.blank("TCP.dport").solution) == str(anatomy)


def test_verdicts_have_signs():
    packet = scapy.IP(bytes(SYN))
    assert str(lab.anatomy(packet)).count("✓") == 2
    packet[scapy.TCP].chksum ^= 1
    assert "✗ wrong: it should be" in str(lab.anatomy(packet))


def test_what_could_not_be_told_is_noted():
    lines = lab.anatomy(PACKETS["snmp"]).lines()
    assert any(line.startswith("note: where the fields of SNMP") for line in lines)
    assert " bytes  " in diagram(lines, "SNMP")[1]


def test_comparison_shows_what_differs():
    echo = {"id": 1, "seq": 2}
    left = scapy.IP(src="127.0.0.1", dst="127.0.0.1") / scapy.ICMP(**echo) / b"payload"
    right = scapy.IPv6(src="::1", dst="::1") / scapy.ICMPv6EchoRequest(**echo, data=b"payload")
    lines = lab.anatomy(left).beside(right).lines()
    told = {re.split(r"\s{2,}", line)[1]: line[0] for line in lines if line[:1] in "=≠<>" and line[1:3] == "  "}
    assert told["ttl / hlim"] == "="
    assert told["version"] == "≠"
    assert (told["ihl"], told["fl"]) == ("<", ">")
    assert told["load / data"] == "="
