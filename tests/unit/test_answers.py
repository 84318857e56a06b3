"""What is taken for a request and for its answer, on captures made by hand with scapy."""

from __future__ import annotations

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from lab.taps.frames import FrameFile
from lab.taps.matching import COLUMNS, KINDS, find_answers, find_requests

NEAR, FAR = {4: "127.0.0.1", 6: "::1"}, {4: "127.0.0.2", 6: "::2"}

ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


class Scene:
    """Packets between two ends of a family, and the capture that has them."""

    def __init__(self, family, folder):
        self.family, self.folder = family, folder
        self.layer = IP if family == 4 else IPv6

    def out(self, upper, **fields):
        return ETHERNET / self.layer(src=NEAR[self.family], dst=FAR[self.family], **fields) / upper

    def back(self, upper, **fields):
        return ETHERNET / self.layer(src=FAR[self.family], dst=NEAR[self.family], **fields) / upper

    def ask(self, number, id_=7):
        kind = ICMP(id=id_, seq=number) if self.family == 4 else ICMPv6EchoRequest(id=id_, seq=number)
        return self.out(kind / Raw(bytes(56)))

    def reply(self, number, id_=7):
        kind = ICMP(type=0, id=id_, seq=number) if self.family == 4 else ICMPv6EchoReply(id=id_, seq=number)
        return self.back(kind / Raw(bytes(56)))

    def error(self, request, source=None):
        """Port unreachable, with what Linux quotes of the request."""
        quoted = bytes(request[self.layer])[:548]
        kind = ICMP(type=3, code=3) if self.family == 4 else ICMPv6DestUnreach(code=4)
        return self.back(kind / Raw(quoted))

    def file(self, name, packets):
        path = self.folder / f"{name}.pcap"
        for number, packet in enumerate(packets):
            packet.time = 1_000 + number / 1_000_000
        wrpcap(str(path), packets, nano=True)
        return FrameFile(path)

    def match(self, sent, seen):
        """For each request its place in `seen`, that of its answer, and the kind of that; and what repeats answers."""
        with self.file("sent", sent) as asked, self.file("seen", seen) as frames:
            columns = frames.columns(*COLUMNS)
            numbers = find_requests(frames, columns, asked)
            found = find_answers(frames, columns, np.flatnonzero(numbers >= 0))
            kinds = [KINDS[kind] if row >= 0 else None for kind, row in zip(found.kind, found.answer, strict=True)]
            rows = zip(found.request.tolist(), found.answer.tolist(), kinds, strict=True)
            return list(rows), found.repeated.tolist()


@pytest.fixture
def scene(family, tmp_path):
    return Scene(family, tmp_path)


def test_echoes_go_by_id_and_number_in_any_order(scene):
    sent = [scene.ask(1), scene.ask(2), scene.ask(2, id_=8)]
    seen = [*sent, scene.reply(2, id_=8), scene.reply(2), scene.reply(3), scene.reply(1)]
    assert scene.match(sent, seen) == ([(0, 6, "echo"), (1, 4, "echo"), (2, 3, "echo")], [])


def test_what_answers_nothing_that_was_sent_is_no_answer(scene):
    stranger = scene.ask(1, id_=99)
    sent = [scene.ask(1), scene.ask(2)]
    seen = [scene.reply(1), stranger, scene.reply(1, id_=99), *sent, scene.ask(2, id_=3), scene.reply(2)]
    assert scene.match(sent, seen) == ([(3, -1, None), (4, 6, "echo")], [])


def test_the_first_answer_counts_and_others_repeat_it(scene):
    sent = [scene.ask(1), scene.ask(2)]
    seen = [sent[0], scene.reply(1), scene.reply(1), sent[1], scene.reply(2), scene.reply(1)]
    assert scene.match(sent, seen) == ([(0, 1, "echo"), (3, 4, "echo")], [2, 5])


def test_datagrams_of_a_flow_are_answered_in_their_order(scene):
    one = [scene.out(UDP(sport=1, dport=9) / Raw(bytes([number]))) for number in range(3)]
    other = scene.out(UDP(sport=2, dport=9))
    answers = [scene.back(UDP(sport=9, dport=1) / Raw(b"answer")) for _ in range(3)]
    seen = [answers[0], one[0], answers[1], answers[2], one[1], other, one[2], answers[0], answers[0]]
    rows, repeated = scene.match([*one, other], seen)
    assert rows == [(1, 2, "udp"), (4, 7, "udp"), (5, -1, None), (6, 8, "udp")]
    assert repeated == [3]


@pytest.mark.parametrize(
    ("flags", "answer", "kind"),
    [
        ("S", {"flags": "SA", "seq": 5, "ack": 1001}, "syn-ack"),
        ("S", {"flags": "RA", "seq": 0, "ack": 1001}, "reset"),
        ("PA", {"flags": "A", "ack": 1005}, "ack"),
        ("PA", {"flags": "R", "seq": 70}, "reset"),
        ("FA", {"flags": "FA", "ack": 1001}, "ack"),
        ("A", {"flags": "R", "seq": 70}, "reset"),
        ("S", {"flags": "SA", "ack": 1002}, None),
        ("S", {"flags": "R", "seq": 70}, None),
        ("R", {"flags": "A", "ack": 1000}, None),
    ],
)
def test_segments_are_answered_by_what_acknowledges_them(scene, flags, answer, kind):
    payload = Raw(b"data!") if "P" in flags else b""
    request = scene.out(TCP(sport=5, dport=80, seq=1000, ack=70, flags=flags) / payload)
    reply = scene.back(TCP(sport=80, dport=5, **answer))
    elsewhere = scene.back(TCP(sport=80, dport=6, **answer))
    assert scene.match([request], [request, elsewhere, reply]) == ([(0, 2 if kind else -1, kind)], [])


def test_sequence_numbers_wrap(scene):
    request = scene.out(TCP(sport=5, dport=80, seq=2**32 - 1, flags="S"))
    answer = scene.back(TCP(sport=80, dport=5, flags="SA", ack=0))
    assert scene.match([request], [request, answer]) == ([(0, 1, "syn-ack")], [])


def test_errors_answer_what_they_quote(scene):
    sent = [scene.out(UDP(sport=1, dport=port) / Raw(bytes(600))) for port in (9, 10)]
    sent += [scene.out(TCP(sport=1, dport=9, seq=seq, flags="S")) for seq in (1, 2)]
    sent += [scene.ask(1), scene.ask(2)]
    seen = [*sent, *(scene.error(request) for request in sent[::-2])]
    rows, repeated = scene.match(sent, seen)
    assert [(row, answer) for row, answer, _ in rows] == [(0, -1), (1, 8), (2, -1), (3, 7), (4, -1), (5, 6)]
    assert {kind for _, _, kind in rows} == {"error", None}
    assert repeated == []


def test_an_error_goes_by_the_whole_header_that_it_quotes(family, scene):
    request = scene.out(UDP(sport=1, dport=9))
    other = scene.layer(src=NEAR[family], dst=NEAR[family]) / UDP(sport=1, dport=9)
    seen = [request, scene.error(ETHERNET / other)]
    assert scene.match([request], seen) == ([(0, -1, None)], [])


def test_an_ipv4_header_with_options_is_quoted_whole(tmp_path):
    scene = Scene(4, tmp_path)
    sent = [scene.out(UDP(sport=1, dport=port), options=b"\x01" * 8) for port in (9, 10)]
    seen = [*sent, scene.error(sent[1])]
    assert scene.match(sent, seen) == ([(0, -1, None), (1, 2, "error")], [])


def test_requests_are_told_by_their_bytes_but_for_what_the_kernel_fills_in(tmp_path):
    scene = Scene(4, tmp_path)
    sent = [scene.out(UDP(sport=1, dport=9) / Raw(bytes([number])), id=0, chksum=1) for number in range(3)]
    seen = [scene.out(UDP(sport=1, dport=9) / Raw(bytes([number])), id=50 + number) for number in (2, 0, 7, 1, 2)]
    with scene.file("sent", sent) as asked, scene.file("seen", seen) as frames:
        assert find_requests(frames, frames.columns(*COLUMNS), asked).tolist() == [2, 0, -1, 1, 5]


def test_what_varies_does_not_tell_requests(scene):
    base = scene.ask(0)
    varying = np.zeros(len(base), bool)
    varying[-62:-56] = True  # checksum, id and number
    seen = [scene.ask(3, id_=1), scene.reply(3, id_=1), scene.ask(4, id_=2), scene.out(UDP())]
    with scene.file("sent", [base]) as asked, scene.file("seen", seen) as frames:
        numbers = find_requests(frames, frames.columns(*COLUMNS), asked, varying)
        assert numbers.tolist() == [0, -1, 1, -1]


def test_packets_sent_several_times_keep_their_order(scene):
    sent = [scene.ask(1), scene.ask(2), scene.ask(1)]
    with scene.file("sent", sent) as asked, scene.file("seen", [*sent, *sent]) as frames:
        assert find_requests(frames, frames.columns(*COLUMNS), asked).tolist() == list(range(6))


def test_a_capture_of_nothing_matches_nothing(scene):
    assert scene.match([scene.ask(1)], [scene.reply(1)]) == ([], [])


def test_each_of_many_alike_is_answered_once_and_by_what_came_later():
    """Against a queue that serves one after the other."""
    from lab.taps.matching import _queued

    random = np.random.default_rng(1)
    for _ in range(200):
        size = int(random.integers(0, 40))
        numbers, asks = random.integers(0, 3, size), random.random(size) < 0.5
        waiting: dict[int, list[int]] = {}
        served, again = [], []
        for place, (number, asking) in enumerate(zip(numbers.tolist(), asks.tolist(), strict=True)):
            if asking:
                waiting.setdefault(number, []).append(place)
            elif waiting.get(number):
                served.append((waiting[number].pop(0), place))
            elif number in waiting:
                again.append(place)
        at, by, over = _queued(numbers, asks)
        assert sorted(zip(at.tolist(), by.tolist(), strict=True)) == sorted(served)
        assert sorted(over.tolist()) == again
