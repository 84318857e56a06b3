"""Which way frames leave, what is left out, what would not arrive and what is refused: of files made here, unsent."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from lab.errors import UsageError
from lab.injector.source import Source
from lab.injector.survey import survey
from lab.injector.towards import Towards
from lab.native.injection import WAYS, Field
from lab.taps.frames import FrameFile

LEFT_OUT, L2, RAW4, RAW6, TAP = (WAYS[name] for name in ("left out", "l2", "raw4", "raw6", "tap"))
ETHERNET, LOOPBACK, NONE, IPIP = 1, 772, 65534, 768  # ARPHRD_*
LINK_NULL, LINK_ETHERNET, LINK_RAW, LINK_SLL, LINK_WIFI = 0, 1, 101, 113, 105
ZEROS, FAR, ELSEWHERE = "00:00:00:00:00:00", "02:00:00:00:00:02", "02:00:00:00:00:99"
LO_NETWORKS = ("127.0.0.0/8", "127.0.0.1/32", "192.0.2.7/32", "::1/128", "2001:db8::7/128")
FAR_NETWORKS = ("127.0.0.0/8", "198.18.3.2/32", "::1/128", "2001:2::2/128")


@pytest.fixture
def source(tmp_path) -> Callable[..., Source]:
    """A capture file of packets; `lengths` are those on the wire, where they are not those of the packets."""
    opened = []

    def make(*packets, link_type=LINK_ETHERNET, fields=(), lengths=()):
        path = tmp_path / f"{len(opened)}.pcap"
        records = [bytes(each) for each in packets]
        lengths = lengths or [len(each) for each in records]
        path.write_bytes(
            struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link_type)
            + b"".join(
                struct.pack("<4I", 1, number, len(data), length) + data
                for number, (data, length) in enumerate(zip(records, lengths, strict=True))
            )
        )
        opened.append(FrameFile(path))
        return Source(name="the file", frames=opened[-1], fields=fields)

    yield make
    for each in opened:
        each.close()


def lo(**more):
    return towards("lo", LOOPBACK, mtu=65_536, far_mac=bytes(6), addresses=LO_NETWORKS, **{"routed_in": True, **more})


def veth(**more):
    return towards("veth", ETHERNET, **{"far_mac": bytes.fromhex(FAR.replace(":", "")), **more})


def tun(**more):
    return towards("tun", NONE, **more)


def towards(name, hardware, **more):
    """As it would be in a private world; no socket is ever opened."""
    usual = {"mtu": 1500, "routed_in": False, "far_mac": None, "addresses": FAR_NETWORKS, "world": "new"}
    never = {"socket_at": socket.socket, "receiver": socket.socket}
    return Towards(
        name=name,
        device=name,
        far_device=name,
        ifindex=1,
        hardware=hardware,
        mac=bytes(6),
        **{**never, **usual, **more},
    )


def ip(family, source=1, destination=2, **more):
    """From one end of veth to the other; or of other addresses."""
    ends = (f"198.18.3.{each}" if family == 4 else f"2001:2::{each}" for each in (source, destination))
    source, destination = (
        given if isinstance(given, str) else end for given, end in zip((source, destination), ends, strict=True)
    )
    return IP(src=source, dst=destination, **more) if family == 4 else IPv6(src=source, dst=destination, **more)


def local(family, **more):
    """From a loopback address to itself."""
    return ip(family, OWN[family], OWN[family], **more)


def framed(packet, destination=ZEROS):
    return Ether(src=ZEROS, dst=destination) / packet


OWN = {4: "127.0.0.1", 6: "::1"}
RAW = {4: RAW4, 6: RAW6}
DATA = UDP(sport=1000, dport=9) / Raw(b"0123456789")


def refused(*arguments, **options):
    """The one line with which it is refused."""
    with pytest.raises(UsageError) as caught:
        survey(*arguments, **options)
    (line,) = str(caught.value).splitlines()
    return line


# ---- ways ----


def test_frames_go_into_lo_as_they_are(source, family):
    frame = framed(local(family) / DATA)
    file = source(frame, frame)
    found = survey(file, lo())
    assert found.ways.tolist() == [L2, L2]
    assert found.path == "l2"
    assert found.offsets.tolist() == file.frames.columns("offset")["offset"].tolist()
    assert found.lengths.tolist() == [len(frame)] * 2
    assert (found.left_out, found.undelivered, found.remarks, found.lanes) == ({}, {}, (), None)


def test_where_lo_routes_no_ipv4_in_it_goes_without_its_header(source):
    ip4 = local(4) / DATA
    file = source(framed(ip4), framed(local(6) / DATA))
    found = survey(file, lo(routed_in=False))
    assert found.ways.tolist() == [RAW4, L2]
    assert found.path == "l2+raw4"
    assert bytes(file.frames.contents())[found.offsets[0] :][: found.lengths[0]] == bytes(ip4)
    (remark,) = found.remarks
    assert remark.startswith("1 of 2 frames leave without their Ethernet header")
    assert "route_localnet" in remark


@pytest.mark.parametrize("link_type", [LINK_RAW, LINK_NULL, LINK_SLL])
@pytest.mark.parametrize("to", [lo, veth, tun])
def test_bare_packets_go_by_raw_sockets_but_where_all_are_bare(source, family, link_type, to):
    packet = bytes((local(family) if to is lo else ip(family)) / DATA)
    before = {
        LINK_RAW: b"",
        LINK_NULL: struct.pack("=I", 2 if family == 4 else 10),
        LINK_SLL: struct.pack("!HHH8xH", 0, 772, 6, 0x800 if family == 4 else 0x86DD),
    }[link_type]
    file = source(before + packet, link_type=link_type)
    found = survey(file, to())
    assert found.ways.tolist() == [L2 if to is tun else RAW[family]]
    assert bytes(file.frames.contents())[found.offsets[0] :][: found.lengths[0]] == packet


def test_frames_go_into_a_tunnel_without_their_header_and_what_is_no_ip_not_at_all(source, family):
    file = source(framed(ip(family) / DATA), framed(ARP()))
    found = survey(file, tun())
    assert found.ways.tolist() == [L2, LEFT_OUT]
    assert found.left_out == {"no IP packets, which is all that tun takes": 1}
    assert found.remarks


@pytest.mark.parametrize(("to", "way"), [(tun, TAP), (veth, TAP)])
def test_what_a_descriptor_takes_is_written_to_it(source, family, to, way):
    assert survey(source(framed(ip(family) / DATA, FAR)), to(tap=5)).ways.tolist() == [way]
    found = survey(source(ip(family) / DATA, link_type=LINK_RAW), to(tap=5))
    assert found.ways.tolist() == [TAP if to is tun else RAW[family]]


def test_padding_stays_in_frames_and_goes_no_further(source, family):
    packet = bytes(local(family) / DATA)
    file = source(
        bytes(framed(Raw(packet)))[:12] + struct.pack("!H", 0x800 if family == 4 else 0x86DD) + packet + bytes(9)
    )
    assert survey(file, lo()).lengths.tolist() == [14 + len(packet) + 9]
    assert survey(file, lo(), path="l3").lengths.tolist() == [len(packet)]


def test_a_path_can_be_forced(source, family):
    file = source(framed(local(family) / DATA), framed(ARP()))
    assert survey(file, lo(), path="l2").ways.tolist() == [L2, L2]
    by_ip = survey(file, lo(), path="l3")
    assert by_ip.ways.tolist() == [RAW[family], LEFT_OUT]
    assert by_ip.left_out == {"no IP packets: leave --path l3 out": 1}
    assert "leave --path l3 out" in refused(source(framed(ARP())), lo(), path="l3")
    assert "leave --path l2 out" in refused(source(local(family) / DATA, link_type=LINK_RAW), lo(), path="l2")


# ---- left out ----


def test_each_that_cannot_be_sent_is_counted_by_reason(source, family):
    good, long = framed(ip(family) / DATA, FAR), framed(ip(family) / UDP() / Raw(bytes(1500)), FAR)
    file = source(good, long, bytes(good)[:30], bytes(good)[:9], lengths=[len(good), len(long), len(good), 9])
    found = survey(file, veth())
    assert found.ways.tolist() == [L2, LEFT_OUT, LEFT_OUT, LEFT_OUT]
    assert found.left_out == {
        "larger than the MTU of veth (1,500)": 1,
        "cut short when they were captured": 1,
        "shorter than an Ethernet header": 1,
    }


def test_the_mtu_is_that_of_the_packet_whatever_is_in_front_of_it(source, family):
    room = 1500 - len(ip(family) / UDP())
    packet = ip(family) / UDP() / Raw(bytes(room))
    assert not survey(source(framed(packet, FAR)), veth()).left_out
    assert not survey(source(packet, link_type=LINK_RAW), veth()).left_out
    tagged = Ether(src=ZEROS, dst=FAR) / Dot1Q(vlan=0) / packet
    assert not survey(source(tagged), veth()).left_out
    assert "larger than the MTU" in refused(source(framed(packet / Raw(b"1"), FAR)), veth())


def test_what_no_interface_takes_is_refused(source):
    assert "neither Ethernet nor IP" in refused(source(bytes(40), link_type=LINK_WIFI), lo())
    assert "neither Ethernet frames nor IP" in refused(source(b"\x00" * 40, link_type=LINK_RAW), lo())
    assert "not IPv4, which is all that ipip carries" in refused(
        source(ip(6) / DATA, link_type=LINK_RAW), towards("ipip", IPIP)
    )


# ---- what would not arrive ----

WRONG_SUM, LONG, OF_MAC = "wrong IPv4 header checksum", "shorter than the length", "MAC address"
NOWHERE, NOT_OWN, MARTIAN, LOOPED = "addresses that", "from an IPv4 address of", "from an address", "loopback address"


@pytest.mark.parametrize(
    ("to", "frame", "reason"),
    [
        (lo, framed(local(4) / DATA, ELSEWHERE), OF_MAC),
        (lo, framed(local(6) / DATA, ELSEWHERE), OF_MAC),
        (veth, framed(ip(4) / DATA), OF_MAC),
        (veth, framed(ARP(), ELSEWHERE), OF_MAC),
        (lo, framed(local(4, chksum=0xBEEF) / DATA), WRONG_SUM),
        (veth, framed(ip(4, chksum=0xBEEF, options=[IPOption_NOP()] * 8) / DATA, FAR), WRONG_SUM),
        (lo, framed(local(4, len=999) / DATA), LONG),
        (veth, framed(ip(6, plen=999) / DATA, FAR), LONG),
        (lo, framed(ip(4, OWN[4], "8.8.8.8") / DATA), NOWHERE),
        (lo, framed(ip(6, OWN[6], "2001:db8::8") / DATA), NOWHERE),
        (veth, framed(ip(4, 1, 3) / DATA, FAR), NOWHERE),
        (veth, framed(ip(6, 1, 3) / DATA, FAR), NOWHERE),
        (veth, framed(ip(4, 1, OWN[4]) / DATA, FAR), LOOPED),
        (veth, framed(ip(6, 1, OWN[6]) / DATA, FAR), LOOPED),
        (veth, framed(ip(4, OWN[4], 2) / DATA, FAR), LOOPED),
        (veth, framed(ip(6, OWN[6], 2) / DATA, FAR), LOOPED),
        (veth, framed(ip(4, 2, 2) / DATA, FAR), NOT_OWN),
        (lo, framed(ip(4, "0.0.0.0", OWN[4]) / DATA), MARTIAN),
        (lo, framed(ip(6, "ff02::1", OWN[6]) / DATA), MARTIAN),
        (veth, framed(ip(4, "224.0.0.1") / DATA, FAR), MARTIAN),
        (lo, Ether(src=ZEROS, dst=ZEROS) / Dot1Q(vlan=5) / local(4) / DATA, "VLAN"),
        (veth, Ether(src=ZEROS, dst=FAR) / Dot1Q(vlan=0) / Dot1Q(vlan=5) / ip(6) / DATA, "VLAN"),
    ],
)
def test_frames_that_would_not_arrive_are_told_or_refused(source, to, frame, reason):
    good = framed(local(6) / DATA) if to is lo else framed(ip(6) / DATA, FAR)
    found = survey(source(frame, good), to())
    assert found.ways.tolist() == [L2, L2]
    ((why, count),) = found.undelivered.items()
    assert count == 1
    assert reason in why
    line = refused(source(frame), to())
    assert reason in line
    assert "--path l2" in line
    assert survey(source(frame), to(), path="l2").undelivered == {why: 1}


@pytest.mark.parametrize(
    ("to", "frame"),
    [
        (lo, framed(local(4, ttl=0) / DATA)),
        (lo, framed(ip(4, "8.8.8.8", "127.9.9.9") / DATA)),
        (lo, framed(ip(4, "192.0.2.7", "192.0.2.7") / DATA)),
        (lo, framed(local(4, options=[IPOption_NOP()] * 4) / DATA)),
        (lo, framed(local(6) / DATA, "ff:ff:ff:ff:ff:ff")),
        (lo, Ether(src=ZEROS, dst=ZEROS) / Dot1Q(vlan=0, prio=5) / local(4) / DATA),
        (veth, framed(ip(6, hlim=0) / DATA, FAR)),
        (veth, framed(ip(4, "8.8.8.8") / DATA, FAR)),
        (veth, framed(ip(4, 1, "224.0.0.1") / DATA, "01:00:5e:00:00:01")),
        (veth, framed(ip(6, 2, 2) / DATA, FAR)),
        (veth, framed(ARP(), "ff:ff:ff:ff:ff:ff")),
    ],
)
def test_what_looks_odd_and_arrives_is_not_said_to_be_lost(source, to, frame):
    assert survey(source(frame), to(), allow_external=True).undelivered == {}


def test_nothing_is_said_of_what_is_not_known(source, family):
    found = survey(source(framed(ip(family, 7, 8) / DATA, ELSEWHERE)), veth(receiver=None, far_mac=None))
    assert found.undelivered == {}


def test_a_raw_socket_mends_ipv4_headers(source):
    packet = local(4, chksum=0xBEEF, len=999) / DATA
    assert survey(source(packet, link_type=LINK_RAW), lo()).undelivered == {}


def test_where_lo_routes_none_in_frames_by_force_are_said_to_be_lost(source):
    found = survey(source(framed(local(4) / DATA), framed(local(6) / DATA)), lo(routed_in=False), path="l2")
    assert found.ways.tolist() == [L2, L2]
    ((why, count),) = found.undelivered.items()
    assert count == 1
    assert "route_localnet" in why


@pytest.mark.parametrize("hops", [1, 2])
def test_a_router_takes_its_hop(source, family, hops):
    limit = {"ttl" if family == 4 else "hlim": hops}
    found = survey(source(framed(ip(family, **limit) / DATA, FAR)), veth(routed=True), path="l2")
    assert len(found.undelivered) == 2 - hops


@pytest.mark.parametrize(
    "frame",
    [
        framed(ARP(), FAR),
        framed(ip(4) / DATA, "ff:ff:ff:ff:ff:ff"),
        framed(ip(6, 1, "ff02::1") / DATA, FAR),
        framed(ip(6, "fe80::1") / DATA, FAR),
    ],
)
def test_what_no_router_forwards_would_not_arrive_behind_one(source, frame):
    assert not survey(source(frame), veth(), allow_external=True).undelivered
    assert "the router on the way" in refused(source(frame), veth(routed=True), allow_external=True)


# ---- safety ----


def test_outside_a_world_only_loopback_addresses_are_allowed(source, family):
    host, file = lo(world="host"), source(framed(local(family) / DATA))
    assert survey(file, host).path
    away = "8.8.8.8" if family == 4 else "2001:db8::7"
    outward = source(framed(local(family) / DATA), framed(ip(family, OWN[family], away) / DATA))
    line = refused(outward, host)
    assert f"packet 2 goes to {away}" in line
    assert "--allow-external" in line
    assert survey(outward, host, allow_external=True).path
    assert survey(outward, lo()).path
    # Of ::1 the kernel answers hosts elsewhere, and of 127.0.0.1 too where route_localnet is set.
    spoofed = source(framed(local(family) / DATA), framed(ip(family, away, OWN[family]) / DATA))
    assert f"packet 2 comes from {away}" in refused(spoofed, host)
    assert survey(spoofed, host, allow_external=True).path
    nobody = source(framed(ip(family, "0.0.0.0" if family == 4 else "::", OWN[family]) / DATA))
    assert survey(nobody, host, path="l3").path


def test_outside_a_world_other_interfaces_are_refused(source, family):
    file = source(framed(ip(family) / DATA, FAR))
    for world in ("host", "1234"):
        assert "--allow-external" in refused(file, veth(world=world))
        assert survey(file, veth(world=world), allow_external=True).path
    assert survey(file, veth()).path


@pytest.mark.parametrize(
    "frame",
    [
        framed(ip(4, OWN[4], "224.0.0.1") / DATA),
        framed(ip(4, OWN[4], "255.255.255.255") / DATA),
        framed(ip(4, OWN[4], "127.255.255.255") / DATA),
        framed(ip(6, OWN[6], "ff02::1") / DATA),
    ],
)
def test_nothing_goes_to_several_unasked(source, frame, family):
    assert "--allow-external" in refused(source(frame), lo(world="host"))
    assert "--allow-external" in refused(source(frame), lo())
    found = survey(source(frame, framed(local(family) / DATA)), lo())
    assert found.ways.tolist() == [0, L2]
    assert list(found.left_out.values()) == [1]
    assert survey(source(frame), lo(), path="l2", allow_external=True).ways.tolist() == [L2]


@pytest.mark.parametrize("frame", [framed(ip(4) / DATA, "ff:ff:ff:ff:ff:ff"), framed(ARP(), "33:33:00:00:00:01")])
def test_a_mac_address_of_several_is_that_but_on_lo(source, frame, family):
    assert "--allow-external" in refused(source(frame), veth())
    changing = framed(ip(4) / DATA, FAR)
    for values in ((0, 1), (2,)):
        file = source(changing, fields=(varying(0, at=0, size=1, kind="listed", values=values),))
        if 1 in values:
            assert "--allow-external" in refused(file, veth())
        else:
            assert survey(file, veth()).ways.all()
    on_lo = framed(local(family) / DATA, "ff:ff:ff:ff:ff:ff")  # as scapy makes it, which has no other for lo
    for world in ("host", "new"):
        assert survey(source(on_lo), lo(world=world)).ways.all()


ADDRESS = 14 + 16  # of the destination, in an Ethernet frame with IPv4


def varying(first, *, at=ADDRESS + 2, size=2, kind="counting", **more):
    return Field(offset=at, bytes=size, mask=(1 << 8 * size) - 1, kind=kind, first=first, **more)


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        (varying(1, count=100), True),
        (varying(0xFFF0, count=100), True),  # it wraps, and stays below 127.0.0.0/16
        (varying(0x7F000001, at=ADDRESS, size=4, count=1000), True),
        (varying(0x7FFFFF00, at=ADDRESS, size=4, count=1000), False),  # up to 128.0.2.231
        (varying(0x7F000001, at=ADDRESS, size=4, count=1000, step=-1), False),  # down to 126.255.255.26
        (varying(0x7F000001, at=ADDRESS, size=4, count=0, kind="random"), False),
        (varying(0, at=ADDRESS, size=4, kind="listed", values=(0x7F000001, 0x7F000009)), True),
        (varying(0, at=ADDRESS, size=4, kind="listed", values=(0x7F000001, 0x08080808, 0x7F000009)), False),
        (varying(0, at=ADDRESS, size=4, kind="clock"), False),
        (varying(0, at=0, size=1, kind="listed", values=(0, 1)), True),  # a MAC address, and on lo is nobody else
        (varying(0, at=14 + 12, size=4, kind="random"), False),  # the source
        (varying(0, at=14 + 13, size=3, kind="random"), True),  # of 127.0.0.0/8
    ],
)
def test_all_that_a_field_can_become_counts(source, field, allowed):
    file = source(framed(local(4) / DATA), fields=(field,))
    if allowed:
        found = survey(file, lo(world="host"), lanes=2)
        assert (found.path, found.lanes) == ("l2", None)
    else:
        assert "--allow-external" in refused(file, lo(world="host"))


# ---- lanes ----


@given(
    st.lists(st.tuples(st.sampled_from([4, 6]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)), min_size=1),
    st.integers(2, 9),
)
@settings(max_examples=30, deadline=None)
def test_both_ways_of_a_flow_are_one_lanes(tmp_path_factory, flows, lanes):
    packets = []
    for family, near, far, port in flows:
        packets.append(framed(ip(family, near, far) / UDP(sport=port, dport=9) / Raw(b"there")))
        packets.append(framed(ip(family, far, near) / UDP(sport=9, dport=port) / Raw(b"and back")))
    path = tmp_path_factory.mktemp("flows") / "flows.pcap"
    records = b"".join(struct.pack("<4I", 0, 0, len(each), len(each)) + bytes(each) for each in packets)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1) + records)
    with FrameFile(path) as frames:
        found = survey(Source(name="flows", frames=frames), veth(), path="l2", lanes=lanes).lanes
    assert found.max() < lanes
    assert np.array_equal(found[::2], found[1::2])


def test_fragments_stay_together_and_echo_goes_by_its_id(source):
    fragments = [local(4, id=77, flags="MF") / DATA, local(4, id=77, frag=3) / Raw(b"the rest")]
    echoes = [local(4) / ICMP(type=kind, id=number, seq=1) for number in range(50) for kind in (8, 0)]
    lanes = survey(source(*map(framed, [*fragments, *echoes])), lo(), lanes=2).lanes
    assert lanes[0] == lanes[1]
    assert np.array_equal(lanes[2::2], lanes[3::2])
    assert set(lanes[2:]) == {0, 1}


@pytest.mark.parametrize("lanes", [2, 3, 64])
def test_many_flows_are_spread_evenly(source, family, lanes):
    flows = 100 * lanes
    packets = [framed(local(family) / TCP(sport=port, dport=80)) for port in range(20_000, 20_000 + flows)]
    each = np.bincount(survey(source(*packets), lo(), lanes=lanes).lanes, minlength=lanes)
    assert each.min() > 0.5 * flows / lanes
    assert each.max() < 1.5 * flows / lanes
