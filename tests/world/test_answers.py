"""Packets sent, and what answers them: every kind, on lo and on veth, complete, in part and not at all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from scapy.plist import PacketList, SndRcvList

import lab

DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}


class Way:
    """A link of a world in a family: packets from its near end to its far one, and sockets there."""

    def __init__(self, world, name, family):
        self.world, self.name, self.family = world, name, family
        link = world.links[name]
        self.near, self.far, self.end = link.near[family], link.far[family], link.far_end
        self.mtu = link.mtu

    def ip(self, **fields):
        return (IP if self.family == 4 else IPv6)(src=self.near, dst=self.far, **fields)

    def echo(self, number, payload=b""):
        kind = ICMP(id=7, seq=number) if self.family == 4 else ICMPv6EchoRequest(id=7, seq=number)
        return self.ip() / kind / Raw(payload)

    def echoes(self, count):
        """A template of so many echo requests."""
        name = "ICMP.seq" if self.family == 4 else "ICMPv6EchoRequest.seq"
        return lab.Template(self.echo(0, bytes(56)), {name: range(count)})

    def bound(self, kind):
        """A socket at the far end, bound to a port that it is given."""
        made = self.world.socket(DOMAINS[self.family], kind, end=self.end)
        made.bind((self.far, 0))
        return made

    def sr(self, packets, **options):
        return self.world.sr(packets, self.name, **options)


@pytest.fixture(params=["lo", "veth"])
def way(world, family, request):
    return Way(world, request.param, family)


class Service:
    """Answers datagrams at the far end, as `answer` says: called with each and a function that sends one back."""

    def __init__(self, way, answer):
        self.socket, self._answer = way.bound(socket.SOCK_DGRAM), answer
        self.port = self.socket.getsockname()[1]
        self.socket.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._ended.is_set():
            try:
                data, sender = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            self._answer(data, lambda text, to=sender: self.socket.sendto(text, to))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.socket.close()


def kinds(answers):
    return answers.to_polars()["kind"].to_list()


# ---- what answers ----


def test_a_template_of_echo_requests_is_answered_to_the_last(way):
    answers = way.sr(way.echoes(5000))
    assert len(answers.answered) == len(answers.rtt_ns) == 5000
    assert len(answers.unanswered) == answers.duplicates == 0
    assert answers.warnings == ()
    assert (answers.rtt_ns > 0).all()
    assert answers.capture.lossless
    assert answers.to_polars()["number"].to_list() == list(range(5000))
    for place in (0, 4999):
        request, answer = (packet.payload.payload for packet in answers.answered[place])
        assert request.seq == answer.seq == place


def test_packets_of_scapy_are_answered_each_by_its_own(way):
    answered, unanswered = way.sr([way.echo(number, b"lab") for number in range(300)])
    assert len(answered) == 300
    assert len(unanswered) == 0
    assert [request.payload.payload.seq for request, _ in answered] == list(range(300))
    assert all(answer.answers(request) for request, answer in answered)
    assert all(answer.time > request.time for request, answer in answered)


def test_scapy_fills_in_what_the_way_there_asks_for(way):
    bare = (IP if way.family == 4 else IPv6)(dst=way.far) / TCP(sport=40000, dport=1)
    made = [bare] if way.name == "lo" else [bare, Ether() / bare]  # for lo, scapy would choose the broadcast address
    answered, unanswered = way.sr(made)
    assert (len(answered), len(unanswered)) == (len(made), 0)
    for request, _answer in answered:
        assert request[type(bare)].src == way.near


def test_segments_to_open_and_to_closed_ports(way):
    with way.bound(socket.SOCK_STREAM) as server:
        server.listen()
        port = server.getsockname()[1]
        with way.bound(socket.SOCK_STREAM) as deaf:  # bound, and nobody listens
            ports = [port, deaf.getsockname()[1]] * 20
            sent = [way.ip() / TCP(sport=2000 + n, dport=port, seq=n << 26) for n, port in enumerate(ports)]
            answers = way.sr(sent)
    assert kinds(answers) == ["syn-ack", "reset"] * 20
    assert all(answer[TCP].ack == request[TCP].seq + 1 for request, answer in answers.answered)


def test_datagrams_to_a_server_and_to_nobody(way):
    with Service(way, lambda data, send: send(data.upper())) as service, way.bound(socket.SOCK_DGRAM) as left:
        nobody = left.getsockname()[1]
        left.close()
        ports = [service.port] * 50 + [nobody]
        answers = way.sr([way.ip() / UDP(sport=3000, dport=port) / Raw(b"text%d" % n) for n, port in enumerate(ports)])
    assert kinds(answers) == ["udp"] * 50 + ["error"]
    assert [answer[Raw].load for _, answer in answers.answered[:50]] == [b"TEXT%d" % n for n in range(50)]


def test_what_comes_late_is_waited_for(way):
    """The last one's answer is that to the first, so none is there when all are sent."""
    waiting = []

    def answer(data, send):
        waiting.append((data, send))
        if len(waiting) == 20:
            for text, back in reversed(waiting):
                back(text)

    with Service(way, answer) as service:
        sent = [way.ip() / UDP(sport=3000 + n, dport=service.port) / Raw(b"%d" % n) for n in range(20)]
        answers = way.sr(sent, timeout="30s")
    assert len(answers.answered) == 20
    assert all(answer[Raw].load == request[Raw].load for request, answer in answers.answered)
    assert (np.diff(answers.rtt_ns) < 0).all()


def test_of_two_answers_the_first_counts(way):
    def answer(data, send):
        send(data)
        send(b"again")

    with Service(way, answer) as service:
        answers = way.sr(
            [way.ip() / UDP(sport=3000 + n, dport=service.port) / Raw(b"one") for n in range(20)],
            timeout="30s",
        )
    assert [answer[Raw].load for _, answer in answers.answered] == [b"one"] * 20
    assert answers.duplicates in (19, 20)  # the last one may come after all are answered


def test_what_has_columns_of_no_kind_is_matched_by_scapy(world):
    link = world.links["veth"]
    question = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=link.near[4], pdst=link.far[4])
    answers = world.sr([question], "veth", allow_external=True)  # as it is a broadcast
    assert kinds(answers) == ["other"]
    assert answers.answered[0][1][ARP].psrc == link.far[4]


def test_layer_2_is_answered_too(world, family):
    way = Way(world, "lo", family)
    answers = way.sr([Ether(dst="00:00:00:00:00:00", src="00:00:00:00:00:00") / way.echo(n) for n in range(10)])
    assert answers.injection.path == "l2"
    assert kinds(answers) == ["echo"] * 10


def test_frames_of_a_file_are_sent_and_answered(way, tmp_path):
    with way.world.capture(f"near:{way.world.links[way.name].devices['near']}", file=tmp_path / "once.pcapng"):
        way.sr(way.echoes(20))
    with lab.read(tmp_path / "once.pcapng", filter="icmp[0] == 8 or icmp6[0] == 128") as once:
        assert len(once) == 20
        answers = way.sr(once, loop=3)
    assert len(answers.answered) == 60
    assert answers.to_polars()["number"].to_list() == list(range(60))


# ---- what does not ----


def test_what_is_not_answered_is_told(way):
    with way.bound(socket.SOCK_DGRAM) as silent:
        deaf = way.ip() / UDP(sport=3000, dport=silent.getsockname()[1]) / Raw(b"hear me")
        answers = way.sr([way.echo(1), deaf, way.echo(2)], timeout="200ms")
    answered, unanswered = answers
    assert kinds(answers) == ["echo", None, "echo"]
    assert len(answered) == 2
    assert [packet[Raw].load for packet in unanswered] == [b"hear me"]
    assert not answers.interrupted
    table = answers.to_polars()
    assert table["rtt_ns"].null_count() == table["answer_frame"].null_count() == 1
    assert "3 sent into" in str(answers)
    assert "2 answered, 1 unanswered" in answers._repr_html_()


def test_what_was_left_out_is_unanswered_with_the_reason(world, family):
    way = Way(world, "veth", family)
    large = way.ip() / UDP(sport=1, dport=9) / Raw(bytes(way.mtu))
    answers = way.sr([way.echo(1), large, way.echo(2)], timeout="200ms")
    assert kinds(answers) == ["echo", "echo"]
    assert answers.to_polars()["number"].to_list() == [0, 2]
    assert [packet[UDP].dport for packet in answers.unanswered] == [9]
    assert any("larger than the MTU" in text for text in answers.warnings)
    assert any("1 of 3 packets were not seen" in text for text in answers.warnings)


def test_what_was_not_seen_is_listed_as_often_as_it_was_sent(way):
    answers = way.sr([way.echo(n) for n in range(4)], count=6, filter="udp", timeout="50ms")
    assert [packet.payload.seq for packet in answers.unanswered] == [0, 1, 2, 3, 0, 1]
    few = way.sr([way.echo(n) for n in range(4)], count=2, filter="udp", timeout="50ms")
    assert [packet.payload.seq for packet in few.unanswered] == [0, 1]


def test_strangers_are_no_answers(way, tool):
    """Others ask and are answered meanwhile."""
    noise = way.world.popen([tool("ping"), "-q", "-f", "-w", "60", way.far], stdout=subprocess.DEVNULL)
    try:
        answers = way.sr(way.echoes(5000), timeout="30s")
    finally:
        noise.kill()
        noise.wait()
    assert kinds(answers) == ["echo"] * 5000
    assert answers.duplicates == 0


def test_ctrl_c_keeps_what_was_answered(way):
    count = 10

    def answer(data, send):
        if data == b"last":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            send(data)

    with Service(way, answer) as service:
        texts = [b"%d" % n for n in range(count)] + [b"last"]
        answers = way.sr([way.ip() / UDP(sport=3000 + n, dport=service.port) / Raw(t) for n, t in enumerate(texts)])
    assert answers.interrupted
    assert kinds(answers) == ["udp"] * count + [None]
    assert "interrupted" in str(answers)


# ---- what it returns ----


def test_answers_convert(way):
    answers = way.sr([way.echo(number) for number in range(30)])
    answered, unanswered = answers.to_scapy()
    assert isinstance(answered, SndRcvList)
    assert isinstance(unanswered, PacketList)
    assert len(answered) == 30
    assert [len(each) for each in (answers.answered[5:], answers.answered[::-1], answers.unanswered[:3])] == [25, 30, 0]
    assert answers.answered[-1][0] == answers.answered[::-1][0][0]
    assert (answers.answered[5:].rtt_ns == answers.rtt_ns[5:]).all()
    assert answers.to_pandas()["rtt_ns"].tolist() == answers.rtt_ns.tolist()
    with pytest.raises(IndexError):
        answers.answered[30]
    assert "and 20 more" in str(answers)


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "0s"}, "no time at all"),
        ({"timeout": "5"}, "not a duration"),
        ({"count": 0}, "count"),
        ({"filter": "nonsense here"}, "filter"),
        ({"rate": 0}, "not a rate"),
        ({"where": "nope"}, "no interface 'nope'"),
        ({"where": 3}, "3 names no interface"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(world, options, said):
    given = {"where": "lo", **options}
    with pytest.raises(lab.UsageError, match=said) as refused:
        world.sr(IP(dst="127.0.0.1") / ICMP(), given.pop("where"), **given)
    assert "\n" not in str(refused.value)


def test_requests_from_another_networks_address_are_told(world):
    near, far = (link[4] for link in (world.links["veth"].near, world.links["veth"].far))
    packets = [IP(src=source, dst=far) / ICMP(seq=seq) for seq, source in enumerate(["192.0.2.7", near, "192.0.2.8"])]
    answers = world.sr(packets, "veth", timeout="100ms")
    assert len(answers.answered) == 1
    assert [text for text in answers.warnings if "2 packets" in text and "192.0.2.7" in text and "src=" in text]


def test_nothing_to_send_is_refused(world):
    with pytest.raises(lab.UsageError, match="no packets"):
        world.sr([])
    with pytest.raises(lab.UsageError, match="larger than the MTU"):
        world.sr(IP(dst="198.18.3.2", src="198.18.3.1") / UDP() / Raw(bytes(3000)), "veth")
