"""Ladders of captures that scapy wrote: what no traffic of a world's own has in it."""

from __future__ import annotations

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.tftp import TFTP, TFTP_RRQ
from scapy.packet import Raw
from scapy.utils import wrpcap

import lab
from lab.errors import UsageError

CLIENT, SERVER = "127.0.0.1", "127.0.0.2"
THERE, BACK = {"src": CLIENT, "dst": SERVER}, {"src": SERVER, "dst": CLIENT}
MSS = 1460


@pytest.fixture
def ladder(tmp_path):
    """The ladder of packets, from IP on, and of those of their conversations that are named."""

    def ladder(packets, *flows):
        wrpcap(str(tmp_path / "made.pcap"), [Ether() / packet for packet in packets])
        with lab.read(tmp_path / "made.pcap") as capture:
            return capture.ladder(*flows)

    return ladder


def segment(ends, flags, seq, ack=0, data=b"", options=()):
    ports = {"sport": 40_000, "dport": 80} if ends is THERE else {"sport": 80, "dport": 40_000}
    return IP(**ends) / TCP(**ports, flags=flags, seq=seq, ack=ack, options=list(options)) / Raw(data)


def unreachable():
    request = IP(**THERE) / UDP(sport=5_000, dport=9) / b"hello"
    return [request, IP(**BACK) / ICMP(type=3, code=3) / request]


@pytest.mark.parametrize("flows", [(0,), (1,), (0, 1), (1, 0)])
def test_an_error_is_shown_with_what_it_is_about_whichever_is_named(ladder, flows):
    found = ladder(unreachable(), *flows)
    assert [(step.title, step.flow) for step in found.steps] == [("UDP", 0), ("port unreachable", 0)]
    assert len(found.participants) == 2


@pytest.mark.parametrize("flow", [2, -1, "0", None])
def test_what_is_not_there_can_not_be_named(ladder, flow):
    with pytest.raises(UsageError, match=f"no conversation {flow!r}"):
        ladder(unreachable(), flow)


@pytest.mark.parametrize(("stamped", "size"), [(True, MSS - 12), (False, MSS)])
def test_a_full_segment_is_one_whatever_options_the_syn_offered(ladder, stamped, size):
    stamps = [("Timestamp", (1, 1)), ("NOP", None), ("NOP", None)]
    told = stamps if stamped else []
    found = ladder(
        [
            segment(THERE, "S", 100, options=[("MSS", MSS), *stamps]),
            segment(BACK, "SA", 500, 101, options=[("MSS", MSS), *told]),
            segment(THERE, "A", 101, 501, options=told),
            segment(BACK, "A", 501, 101, bytes(size), told),
            segment(BACK, "A", 501 + size, 101, bytes(size + 1), told),
        ]
    )
    assert [step.marks for step in found.steps[-2:]] == [(), ("2 segments in one frame",)]


def test_connections_from_the_same_port_are_not_told_apart_by_it(ladder):
    tries = [segment(*each) for seq in (100, 5_000) for each in ((THERE, "S", seq), (BACK, "RA", 0, seq + 1))]
    found = ladder(tries)
    assert {step.flow for step in found.steps} == {0, 1}
    assert not any(fact.startswith("port") for step in found.steps for fact in step.facts)


def test_a_title_names_no_interface_where_the_file_has_no_name_for_it(ladder):
    assert ladder([segment(THERE, "S", 100)]).title == f"TCP {CLIENT}:40000 → {SERVER}:80"


def test_what_scapy_tells_beside_its_summary_is_not_shown(ladder):
    (step,) = ladder([IP(**THERE) / UDP(sport=5_000, dport=69) / TFTP() / TFTP_RRQ(filename=b"a.txt")]).steps
    assert step.payload.startswith("RRQ")


@pytest.mark.parametrize("answers", [False, True])
def test_dns_that_ends_within_its_first_record_is_shown_without_it(ladder, answers):
    whole = bytes(DNS(qd=DNSQR(qname="example.org")))
    header = whole[:2] + (b"\x80\0\0\0\0\1" if answers else b"\0\0\0\1\0\0") + bytes(4)
    for size in range(1, 12):
        (step,) = ladder([IP(**THERE) / UDP(sport=5_000, dport=53) / Raw(header + whole[12 : 12 + size])]).steps
        assert step.title == "UDP"


def test_of_more_conversations_than_are_looked_at_the_rest_is_counted(ladder, monkeypatch):
    monkeypatch.setattr("lab.flow.ladder.choosing._LOOKED_AT", 4)
    sent = [IP(src=f"127.0.1.{number}", dst=SERVER) / UDP(sport=1, dport=number) for number in range(20)]
    found = ladder(sent)
    shown = {step.flow for step in found.steps}
    assert shown == {0, 1, 2}
    assert any(text.startswith(f"{20 - len(shown)} more conversations") for text in found.warnings)
