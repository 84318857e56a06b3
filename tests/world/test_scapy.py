"""scapy's own functions, called as any script would, on the lab's sockets: on a world's lo and veth, both families."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import pytest

import lab
from lab.taps.filters import SNAPLEN

PATIENCE_S = 20
NO_MACS = {"src": "00:00:00:00:00:00", "dst": "00:00:00:00:00:00"}
DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module")
def scapy():
    import scapy.all as names

    names.conf.verb = 0
    return names


@pytest.fixture
def inside(world, scapy):
    """scapy in the world, at its near end."""
    with lab.scapy_sockets(world):
        yield scapy


@pytest.fixture(params=["lo", "veth"])
def link(request, world):
    """Its name, which is its device's at the near end too, and the address to ask."""
    name = request.param
    found = world.links[name]
    assert found.devices["near"] == name
    return found


def echo(scapy, family, address, **fields):
    if family == 4:
        return scapy.IP(dst=address) / scapy.ICMP(**fields) / b"echo"
    return scapy.IPv6(dst=address) / scapy.ICMPv6EchoRequest(data=b"echo", **fields)


def replies(scapy, packet):
    return packet[scapy.ICMP].type == 0 if scapy.ICMP in packet else scapy.ICMPv6EchoReply in packet


@contextlib.contextmanager
def sniffing(scapy, **options):
    """An AsyncSniffer that has started, and is stopped."""
    started = threading.Event()
    sniffer = scapy.AsyncSniffer(started_callback=started.set, **options)
    sniffer.start()
    try:
        assert started.wait(PATIENCE_S)
        yield sniffer
    finally:
        if sniffer.running:
            sniffer.stop()


def send_datagrams(world, family, address, payloads, port=9):
    with world.socket(DOMAINS[family], socket.SOCK_DGRAM) as out:
        for payload in payloads:
            out.sendto(payload, (address, port))


# ---- asking ----


def test_sr1_gets_the_reply(inside, link, family):
    request = echo(inside, family, link.far[family], id=7, seq=3)
    reply = inside.sr1(request, timeout=PATIENCE_S)
    assert replies(inside, reply)
    assert reply.answers(request)
    assert reply.direction == 1


def test_times_are_the_kernels_to_the_nanosecond_and_in_order(inside, link, family):
    for _ in range(20):
        before_ns = time.time_ns()
        request = echo(inside, family, link.far[family])
        answered, _ = inside.sr(request, timeout=PATIENCE_S)
        sent, reply = answered[0]
        assert before_ns <= sent.sent_time * 1_000_000_000 < reply.time * 1_000_000_000 <= time.time_ns()
        assert reply.time * 1_000_000_000 % 1 == 0


def test_any_address_of_lo_is_asked_over_lo(inside, world):
    own = world.links["veth"].near
    for address, family in (("127.0.0.5", 4), ("127.255.255.254", 4), (own[4], 4), (own[6], 6)):
        request = echo(inside, family, address)
        assert request.route()[0] == "lo"
        assert replies(inside, inside.sr1(request, timeout=PATIENCE_S))


def test_one_sr_asks_over_several_interfaces_and_families(inside, world):
    asked = [
        echo(inside, family, world.links[name].far[family], seq=seq)
        for seq, (name, family) in enumerate([("lo", 4), ("veth", 4), ("veth", 6), ("lo", 6)] * 5)
    ]
    answered, unanswered = inside.sr(asked, timeout=PATIENCE_S)
    assert len(answered) == len(asked)
    assert not unanswered


def test_what_nobody_answers_is_unanswered(inside, world):
    answered, unanswered = inside.sr(inside.IP(dst=world.links["veth"].far[4]) / inside.ICMP(type=3), timeout=0.2)
    assert (len(answered), len(unanswered)) == (0, 1)


def test_a_handshake_gets_its_reset(inside, link, family):
    """Nobody listens at port 9; the address is that of the link's far end, on lo its own."""
    ip = inside.IP if family == 4 else inside.IPv6
    reply = inside.sr1(ip(dst=link.far[family]) / inside.TCP(dport=9, flags="S"), timeout=PATIENCE_S)
    assert "R" in reply[inside.TCP].flags


def test_srp1_asks_at_layer_2_and_finds_the_neighbour(inside, world, family):
    reply = inside.srp1(
        inside.Ether() / echo(inside, family, world.links["veth"].far[family]), iface="veth", timeout=PATIENCE_S
    )
    assert isinstance(reply, inside.Ether)
    assert replies(inside, reply)


def test_srp1_on_lo_is_answered_over_ipv6(inside):
    request = inside.Ether(**NO_MACS) / echo(inside, 6, "::1")
    assert replies(inside, inside.srp1(request, iface="lo", timeout=PATIENCE_S))


def test_a_packet_larger_than_the_mtu_is_fragmented(inside, world):
    big = inside.IP(dst=world.links["veth"].far[4], id=4660) / inside.ICMP() / bytes(4000)
    with sniffing(inside, iface="veth", filter="icmp", lfilter=lambda p: p[inside.IP].id == 4660, count=3) as sniffer:
        inside.send(big)
        sniffer.join(PATIENCE_S)
    assert sorted(packet[inside.IP].frag for packet in sniffer.results) == [0, 185, 370]


# ---- listening ----


def test_sniff_sees_one_copy_on_lo_and_both_ways_on_veth(inside, world, link, family):
    def ask():
        for seq in range(10):
            assert inside.sr1(echo(inside, family, link.far[family], id=42, seq=seq), timeout=PATIENCE_S)

    sniffed = inside.sniff(
        iface=link.name,
        filter="icmp or icmp6",
        lfilter=lambda p: b"echo" in bytes(p),
        count=20,
        timeout=PATIENCE_S,
        started_callback=threading.Thread(target=ask).start,
    )
    assert len(sniffed) == 20
    assert [replies(inside, packet) for packet in sniffed] == [False, True] * 10
    assert [packet.direction for packet in sniffed] == ([1, 1] if link.name == "lo" else [2, 1]) * 10
    assert all(packet.sniffed_on == link.name for packet in sniffed)
    times = [packet.time for packet in sniffed]
    assert times == sorted(times)


def test_filters_are_honoured_from_the_first_frame(inside, world, family):
    address = world.links["lo"].far[family]
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            send_datagrams(world, family, address, [b"other"], port=10)
            send_datagrams(world, family, address, [b"this"], port=9)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for _ in range(5):
            sniffed = inside.sniff(iface="lo", filter="udp dst port 9", count=20, timeout=PATIENCE_S)
            assert {packet[inside.UDP].dport for packet in sniffed} == {9}
            opened = inside.conf.L3socket(iface="lo", filter="udp dst port 9")
            sniffed = inside.sniff(opened_socket=opened, count=20, timeout=PATIENCE_S)
            opened.close()
            assert {packet[inside.UDP].dport for packet in sniffed} == {9}
    finally:
        stop.set()
        flooding.join()


def test_what_conf_excludes_is_not_seen(inside, world, monkeypatch):
    monkeypatch.setattr(inside.conf, "except_filter", "udp port 10")
    with sniffing(inside, iface="lo", filter="udp", count=1) as sniffer:
        send_datagrams(world, 4, "127.0.0.1", [b"hidden"], port=10)
        send_datagrams(world, 4, "127.0.0.1", [b"seen"], port=9)
        sniffer.join(PATIENCE_S)
    assert [bytes(packet[inside.UDP].payload) for packet in sniffer.results] == [b"seen"]


def test_a_burst_is_kept_whole_and_in_order(inside, world, family):
    """Many more than a socket's own queue holds, and than Python dissects while they come."""
    payloads = [struct.pack("!I", number) for number in range(5000)]
    with sniffing(inside, iface="lo", filter="udp dst port 9", count=len(payloads)) as sniffer:
        send_datagrams(world, family, world.links["lo"].far[family], payloads)
        sniffer.join(60)
    assert [bytes(packet[inside.UDP].payload) for packet in sniffer.results] == payloads


def test_the_largest_frame_of_lo_is_whole(inside, world):
    payload = bytes(range(256)) * 255 + bytes(227)
    listening, talking = inside.conf.L2listen(iface="lo", filter="udp"), inside.conf.L2socket(iface="lo", filter="udp")
    with contextlib.closing(listening), contextlib.closing(talking):
        send_datagrams(world, 4, "127.0.0.1", [payload])
        for opened in (listening, talking):
            (packet,) = inside.sniff(opened_socket=opened, count=1, timeout=PATIENCE_S)
            assert len(packet) == 65_549
            assert bytes(packet[inside.UDP].payload) == payload
    assert SNAPLEN > 65_549


def test_prn_store_and_stop_filter_work_as_ever(inside, world):
    seen = []
    with sniffing(
        inside, iface="lo", filter="udp port 9", store=False, prn=lambda p: seen.append(bytes(p[inside.UDP].payload)),
        stop_filter=lambda p: b"end" in bytes(p),
    ) as sniffer:  # fmt: skip
        send_datagrams(world, 4, "127.0.0.1", [b"a", b"b", b"end"])
        sniffer.join(PATIENCE_S)
    assert seen == [b"a", b"b", b"end"]
    assert len(sniffer.results) == 0


def test_a_sniffer_that_nothing_comes_to_ends_in_time(inside):
    assert len(inside.sniff(iface="lo", filter="udp port 1", timeout=0.1)) == 0


def test_several_interfaces_at_once(inside, world):
    with sniffing(inside, iface=["lo", "veth"], filter="icmp", count=4) as sniffer:
        for name in ("lo", "veth"):
            inside.sr1(echo(inside, 4, world.links[name].far[4]), timeout=PATIENCE_S)
        sniffer.join(PATIENCE_S)
    assert [packet.sniffed_on for packet in sniffer.results] == ["lo", "lo", "veth", "veth"]


def test_a_vlan_tag_is_seen_where_it_was(inside, world):
    """The kernel takes it out of the frame for the receiving tap."""
    far, near = (world.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, end=end) for end in ("far", "near"))
    with far, near:
        device = world.links["veth"].devices["far"]
        frame = inside.Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01") / inside.Dot1Q(vlan=5) / b"tagged"
        sockets = [inside.conf.L2listen(iface="veth"), inside.conf.L2socket(iface="veth")]
        far.bind((device, 3))
        far.send(bytes(frame))
        for opened in sockets:
            (seen,) = inside.sniff(
                opened_socket=opened, lfilter=lambda p: inside.Dot1Q in p, count=1, timeout=PATIENCE_S
            )
            opened.close()
            assert seen[inside.Dot1Q].vlan == 5
            assert bytes(seen).startswith(bytes(frame))


# ---- which network ----


def test_interfaces_and_routes_are_those_of_the_world(inside, world):
    names = [name for _index, name in socket.if_nameindex()]
    assert set(inside.conf.ifaces) == {"lo", "veth"}
    assert "veth" not in names
    assert inside.get_if_addr("veth") == world.links["veth"].near[4]
    assert inside.get_if_hwaddr("veth") != "00:00:00:00:00:00"
    assert inside.conf.route.route(world.links["veth"].far[4])[:2] == ("veth", world.links["veth"].near[4])
    assert inside.conf.route6.route(world.links["veth"].far[6])[:2] == ("veth", world.links["veth"].near[6])
    assert inside.conf.route.route("127.0.0.5")[0] == inside.conf.route6.route("::1")[0] == "lo"


def test_the_far_end_is_another_network(world, scapy):
    veth = world.links["veth"]
    with lab.scapy_sockets(world, end="far"):
        assert scapy.get_if_addr(veth.devices["far"]) == veth.far[4]
        assert replies(scapy, scapy.sr1(echo(scapy, 4, veth.near[4]), timeout=PATIENCE_S))


def test_a_private_world_can_be_made_for_the_purpose(scapy):
    with lab.scapy_sockets("new"):
        assert set(scapy.conf.ifaces) == {"lo"}
        assert replies(scapy, scapy.sr1(echo(scapy, 4, "127.0.0.1"), timeout=PATIENCE_S))


def state(scapy):
    return (
        dict(vars(scapy.conf)),
        dict(scapy.conf.ifaces),
        list(scapy.conf.route.routes),
        list(scapy.conf.route6.routes),
    )


def test_afterwards_scapy_is_as_it_was(world, scapy):
    before = state(scapy)
    with lab.scapy_sockets(world):
        outer = state(scapy)
        assert outer != before
        scapy.sr1(echo(scapy, 4, world.links["veth"].far[4]), timeout=PATIENCE_S)
        with lab.scapy_sockets(world, end="far"):
            assert state(scapy) != outer
        assert state(scapy) == outer
    assert state(scapy) == before
    with pytest.raises(ZeroDivisionError), lab.scapy_sockets(world):
        raise ZeroDivisionError
    assert state(scapy) == before
    for name, value in before[0].items():
        assert vars(scapy.conf)[name] is value


def test_sockets_opened_within_live_on(world, scapy):
    with lab.scapy_sockets(world):
        opened = scapy.conf.L3socket(iface="lo", filter="icmp")
    with contextlib.closing(opened):
        assert replies(scapy, opened.sr1(echo(scapy, 4, "127.0.0.1"), timeout=PATIENCE_S))


# ---- bad input ----


def test_what_cannot_work_is_told_in_one_line(inside, world):
    with pytest.raises(lab.UsageError, match="syntax error"):
        inside.sniff(iface="lo", filter="icmp or", timeout=1)
    with pytest.raises(lab.UsageError, match="syntax error"):
        inside.sr1(echo(inside, 4, "127.0.0.1"), filter="(", timeout=1)
    with pytest.raises(ValueError, match="'nowhere' not found"):
        inside.sniff(iface="nowhere", timeout=1)
    with pytest.raises(lab.UsageError, match="ARP is no IP packet: send it at layer 2"):
        inside.send(inside.ARP())
    with (
        pytest.raises(lab.UsageError, match="unknown end 'left': choose from near, far, middle"),
        lab.scapy_sockets(world, end="left"),
    ):
        pass
    with pytest.raises(lab.UsageError, match="unknown world 'moon'"), lab.scapy_sockets("moon"):
        pass


def test_after_bad_input_scapy_is_as_it_was(scapy):
    before = state(scapy)
    with pytest.raises(lab.UsageError), lab.scapy_sockets("moon"):
        pass
    assert state(scapy) == before


def test_a_world_that_has_ended_is_told(scapy):
    before = state(scapy)
    with lab.World(["lo"]) as ended:
        pass
    with pytest.raises(lab.Unavailable, match="this world has ended"), lab.scapy_sockets(ended):
        pass
    assert state(scapy) == before
