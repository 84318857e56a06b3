"""One packet whose fields vary: its frames are those that scapy builds, checksums included, and C makes the same."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy import all as scapy
from scapy.layers.vxlan import VXLAN

import lab
from lab.errors import UsageError
from lab.injector.pacing import packets_in_all
from lab.injector.sources import open_source
from lab.injector.templates import Template
from lab.native.injection import WAYS, Lane, Pace, Packets
from lab.native.stop import Stop

IPS = {4: ("IP", scapy.IP), 6: ("IPv6", scapy.IPv6)}
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def ip(family, **fields):
    ends = {"src": "127.0.0.1", "dst": "127.0.0.2"} if family == 4 else {"src": "::1", "dst": "::1"}
    return IPS[family][1](**{**ends, **fields})


def udp(family, load=bytes(24), **fields):
    return ip(family) / scapy.UDP(**{"sport": 7, "dport": 9, **fields}) / scapy.Raw(load)


def sent(template, count):
    """The first frames, as C makes them."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, open_source(template) as source:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        near.setblocking(False)
        packets = Packets(
            source.frames.contents(),
            offsets=source.frames.columns("offset")["offset"],
            lengths=np.array([len(template.base)], np.int32),
            ways=np.array([WAYS["tap"]], np.uint8),
            fields=source.fields,
            sums=source.sums,
        )
        lane = Lane(packets, fds={"tap": near.fileno()}, ifindex=0, total=count, pace=Pace(), stall_ns=10**9)
        assert lane.run(Stop()) == 0
        assert lane.sent == count
        return [far.recv(1 << 17) for _ in range(count)]


def values_of(template, number, count):
    """What field `number` is in the first frames, as C makes them."""
    field = template.fields[number]
    place = slice(field.offset, field.offset + field.bytes)
    return [int.from_bytes(frame[place]) >> field.shift & field.mask for frame in sent(template, count)]


# ---- against scapy ----

U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
V4 = st.ip_addresses(v=4).map(str)
V6 = st.integers(0, 2**64 - 1).map(lambda low: socket.inet_ntop(socket.AF_INET6, (0xFD01 << 112 | low).to_bytes(16)))
MAC = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
NETWORK = {
    4: {"src": V4, "dst": V4, "id": U16, "ttl": U8, "tos": U8, "flags": st.integers(0, 7)},
    6: {"src": V6, "dst": V6, "hlim": U8, "fl": st.integers(0, 2**20 - 1)},
}
TRANSPORT = {
    "UDP": (scapy.UDP, {"sport": U16, "dport": U16}),
    "TCP": (
        scapy.TCP,
        {"sport": U16, "dport": U16, "seq": U32, "ack": U32, "flags": st.integers(0, 511), "window": U16},
    ),
    "ICMP": (scapy.ICMP, {"id": U16, "seq": U16, "code": U8}),
    "ICMPv6EchoRequest": (scapy.ICMPv6EchoRequest, {"id": U16, "seq": U16, "code": U8}),
}


@st.composite
def varied(draw):
    """A packet as a function of its fields' values, and some values of some of them: {name: [...]}, `count` each."""
    family, tagged, count = draw(st.sampled_from((4, 6))), draw(st.booleans()), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["UDP", "TCP", "ICMP" if family == 4 else "ICMPv6EchoRequest"]))
    load = draw(st.binary(min_size=1, max_size=40))
    first = draw(st.integers(0, len(load) - 1))
    last = draw(st.integers(first + 1, min(len(load), first + 8)))
    network, (transport, carried) = IPS[family][0], TRANSPORT[kind]
    options = [("MSS", 1460), ("NOP", None)] if kind == "TCP" and draw(st.booleans()) else None
    menu = {f"{network}.{name}": values for name, values in NETWORK[family].items()}
    menu |= {f"{kind}.{name}": values for name, values in carried.items()}
    menu |= {f"payload[{first}:{last}]": st.integers(0, 256 ** (last - first) - 1)}
    menu |= {"Ether.src": MAC, "Ether.dst": MAC} if tagged else {}
    names = draw(st.lists(st.sampled_from(sorted(menu)), min_size=1, max_size=5, unique=True))
    values = {name: draw(st.lists(menu[name], min_size=count, max_size=count)) for name in names}

    def build(chosen):
        layers = {name: {} for name in ("Ether", network, kind)}
        if "sport" in carried:  # of no protocol that scapy would take the payload for
            layers[kind] = {"sport": 40_001, "dport": 40_002}
        data = load
        for name, value in chosen.items():
            if name.startswith("payload"):
                data = load[:first] + value.to_bytes(last - first) + load[last:]
            else:
                layer, field = name.split(".")
                layers[layer][field] = value
        ends = {"src": "127.0.0.1", "dst": "127.0.0.1"} if family == 4 else {"src": "fd00::1", "dst": "fd00::2"}
        fields = {"options": options} if options else {}
        packet = IPS[family][1](**{**ends, **layers[network]}) / transport(**{**fields, **layers[kind]})
        packet /= scapy.Raw(data)
        return scapy.Ether(**{**MACS, **layers["Ether"]}) / packet if tagged else packet

    return build, values, count


@settings(deadline=None, max_examples=200)
@given(varied())
def test_frames_are_those_that_scapy_builds(case):
    build, values, count = case
    template = Template(build({}), values)
    theirs = [bytes(build({name: each[n] for name, each in values.items()})) for n in range(count)]
    assert [template.frame(n) for n in range(count)] == theirs
    assert template.frame(count) == theirs[0]
    assert sent(template, count + 1) == [*theirs, theirs[0]]


@settings(deadline=None, max_examples=50)
@given(varied())
def test_a_template_of_bytes_is_that_of_the_packet(case):
    build, values, count = case
    packet = build({})
    template, other = Template(packet, values), Template(bytes(packet), values)
    assert (other.base, other.fields, other.sums) == (template.base, template.fields, template.sums)
    assert bytes(template.packet(count - 1)) == template.frame(count - 1)


def test_bytes_of_the_frame_vary_as_fields_there_do(family):
    packet = scapy.Ether(**MACS) / udp(family)
    network = IPS[family][0]
    at = {4: (26, 34), 6: (30, 54)}[family]
    low = ["127.0.0.9", "127.1.2.3"] if family == 4 else [9, 2**63]
    numbers = [int.from_bytes(socket.inet_aton(each)) for each in low] if family == 4 else low
    width = 4 if family == 4 else 8
    addresses = low if family == 4 else [socket.inet_ntop(socket.AF_INET6, each.to_bytes(16)) for each in low]
    named = Template(packet, {f"{network}.src": addresses, "UDP.sport": "1-9", "Ether.dst": "counter"})
    placed = Template(
        packet,
        {f"bytes[{at[0]}:{at[0] + width}]": numbers, f"bytes[{at[1]}:{at[1] + 2}]": "1-9", "bytes[0:6]": "counter"},
    )
    assert [placed.frame(n) for n in range(9)] == [named.frame(n) for n in range(9)]
    assert sent(placed, 9) == sent(named, 9)


# ---- how a field varies ----


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (range(5, 8), [5, 6, 7, 5, 6]),
        ("5-7", [5, 6, 7, 5, 6]),
        (range(9, 0, -4), [9, 5, 1, 9, 5]),
        ([80, 443], [80, 443, 80, 443, 80]),
        ("80, 443", [80, 443, 80, 443, 80]),
        ("0x50", [80] * 5),
        ("counter", [0, 1, 2, 3, 4]),
        ("counter every 2", [0, 0, 1, 1, 2]),
        ("65534-65535 every 2", [65534, 65534, 65535, 65535, 65534]),
        ("7,5 every 3", [7, 7, 7, 5, 5]),
    ],
    ids=str,
)
def test_values_in_turn(family, spec, expected):
    template = Template(udp(family), {"UDP.sport": spec})
    assert [template.packet(n)[scapy.UDP].sport for n in range(5)] == expected
    assert values_of(template, 0, 5) == expected


@pytest.mark.parametrize(
    ("family", "prefix", "some"),
    [
        (4, "127.0.0.0/8", {0: "127.0.0.0", 257: "127.0.1.1", 2**24 - 1: "127.255.255.255", 2**24: "127.0.0.0"}),
        (4, "127.0.0.4/31", {0: "127.0.0.4", 1: "127.0.0.5", 2: "127.0.0.4"}),
        (4, "127.0.0.9-127.0.1.0", {0: "127.0.0.9", 247: "127.0.1.0", 248: "127.0.0.9"}),
        (6, "fd00:1::/48", {0: "fd00:1::", 2**32: "fd00:1::1:0:0", 2**64 - 1: "fd00:1::ffff:ffff:ffff:ffff"}),
        (6, "fd00:1::/48", {2**64: "fd00:1::"}),
        (6, "::4/127", {0: "::4", 1: "::5", 2: "::4"}),
        (6, "fd00::9,fd00::1", {0: "fd00::9", 1: "fd00::1", 2: "fd00::9"}),
    ],
)
def test_addresses_in_turn(family, prefix, some):
    name = IPS[family][0]
    template = Template(udp(family), {f"{name}.src": prefix})
    for n, address in some.items():
        packet = template.packet(n)
        assert packet.src == address
        packet.chksum = packet[scapy.UDP].chksum = None
        if family == 6:
            del packet.chksum
        assert bytes(packet) == template.frame(n)
    assert template.fields[0].flow
    early = [n for n in some if n < 3]
    frames = sent(template, 3)
    assert [frames[n] for n in early] == [template.frame(n) for n in early]


def test_fields_that_are_parts_of_bytes_leave_the_rest(family):
    packet = ip(family) / scapy.TCP(dataofs=5, reserved=5, flags="S")
    vary = (
        {"TCP.flags": [0x1FF, 0], "IP.flags": "0-7"} if family == 4 else {"TCP.flags": [0x1FF, 0], "IPv6.tc": "1,255"}
    )
    template = Template(packet, vary)
    frame = template.packet(0)
    assert (frame[scapy.TCP].flags.value, frame[scapy.TCP].reserved, frame[scapy.TCP].dataofs) == (0x1FF, 5, 5)
    assert values_of(template, 1, 2) == ([0, 1] if family == 4 else [1, 255])
    assert sent(template, 4) == [template.frame(n) for n in range(4)]
    template = Template(packet, {"TCP.dataofs": "5-15"})
    assert [template.packet(n)[scapy.TCP].dataofs for n in (0, 10)] == [5, 15]
    assert [template.packet(n)[scapy.TCP].flags for n in (0, 10)] == ["S", "S"]


def test_random_values_are_of_the_range_and_fields_differ(family):
    network = IPS[family][0]
    prefix = "127.3.0.0/16" if family == 4 else "fd00::/112"
    template = Template(
        udp(family),
        {"UDP.sport": "random:40000-40999", "UDP.dport": "random:40000-40999", f"{network}.src": f"random:{prefix}"},
    )
    one, other = values_of(template, 0, 300), values_of(template, 1, 300)
    assert {40000 <= port <= 40999 for port in one + other} == {True}
    assert one != other
    assert len(set(one)) > 100
    addresses = {frame[12:16] if family == 4 else frame[8:24] for frame in sent(template, 300)}
    first = b"\x7f\x03" if family == 4 else b"\xfd" + bytes(13)
    assert {address[: len(first)] for address in addresses} == {first}
    assert len(addresses) > 200
    for frame in sent(template, 20):
        packet = type(ip(family))(frame)
        packet[scapy.UDP].chksum = None
        if family == 4:
            packet.chksum = None
        assert bytes(packet) == frame


def test_the_clock_is_that_of_the_packet(family):
    template = Template(udp(family), {"payload[8:16]": "clock"})
    before = time.time_ns()
    stamps = values_of(template, 0, 100)
    assert before <= stamps[0] <= stamps[-1] <= time.time_ns()
    assert stamps == sorted(stamps)


def test_what_is_drawn_or_read_off_a_clock_is_not_known_before(family):
    for name, spec in (("UDP.sport", "random:1-9"), ("payload[0:8]", "clock")):
        template = Template(udp(family), {name: spec, "UDP.dport": "1-9"})
        with pytest.raises(UsageError, match="not known before it is sent"):
            template.frame(0)
    with pytest.raises(UsageError, match="no packet -1: they are numbered from 0"):
        Template(udp(family), {"UDP.sport": "1-9"}).packet(-1)


# ---- checksums ----


def test_a_udp_checksum_of_zero_is_sent_as_all_ones(family):
    checksum = Template(udp(family, load=bytes(2)), {"payload[0:2]": [0]}).packet(0)[scapy.UDP].chksum
    template = Template(udp(family, load=bytes(2)), {"payload[0:2]": [checksum, checksum - 1, checksum + 1]})
    assert [template.packet(n)[scapy.UDP].chksum for n in range(3)] == [0xFFFF, 1, 0xFFFE]
    assert sent(template, 3) == [template.frame(n) for n in range(3)]


def test_a_checksum_that_is_wrong_or_left_out_stays(family):
    name = IPS[family][0]
    for wrong in (0xBAD, *([0] if family == 4 else [])):
        for packet in (udp(family, chksum=wrong), bytes(udp(family, chksum=wrong))):
            template = Template(packet, {"UDP.sport": "counter", "payload[0:3]": "counter", f"{name}.dst": "counter"})
            assert {template.packet(n)[scapy.UDP].chksum for n in range(5)} == {wrong}
            assert len(template.sums) == (family == 4)  # that of the IPv4 header, which is right
    packet = udp(4)
    packet.chksum = 0xBAD
    template = Template(packet, {"IP.id": "counter", "UDP.sport": "counter"})
    assert {template.packet(n).chksum for n in range(5)} == {0xBAD}
    assert len({template.packet(n)[scapy.UDP].chksum for n in range(5)}) == 5


def test_checksums_behind_extension_headers_and_options():
    long = scapy.IPv6(src="fd00::1", dst="fd00::2") / scapy.IPv6ExtHdrDestOpt() / scapy.UDP(sport=1) / b"odd"
    short = scapy.IP(src="127.0.0.1", dst="127.0.0.1", options=[scapy.IPOption_NOP()] * 4) / scapy.TCP() / b"odd"
    for packet, vary in (
        (long, {"IPv6.src": "fd00::/64", "UDP.dport": "counter", "payload[0:3]": "counter"}),
        (short, {"IP.src": "127.0.0.0/8", "TCP.dport": "counter", "payload[1:3]": "counter"}),
    ):
        template = Template(packet, vary)
        for n in (1, 300, 70_000):
            again = type(packet)(template.frame(n))
            again.lastlayer().underlayer.chksum = None
            if vary.keys() >= {"IP.src"}:
                again.chksum = None
            assert bytes(again) == template.frame(n)
        assert sent(template, 300) == [template.frame(n) for n in range(300)]


def test_packets_within_packets():
    inner = scapy.IP(src="10.0.0.1", dst="10.0.0.2") / scapy.UDP(sport=1, dport=2) / b"inner"

    def gre(**ports):
        outer = scapy.IP(src="127.0.0.1", dst="127.0.0.1") / scapy.GRE() / scapy.IP(src="10.0.0.1", dst="10.0.0.9")
        return outer / scapy.UDP(**{"sport": 1, "dport": 2, **ports}) / b"inner"

    template = Template(gre(), {"UDP.dport": [5, 6], "IP.src": "127.0.0.0/8", "IP#2.src": "10.0.0.0/8"})
    expected = gre(dport=6)
    expected.src, expected[scapy.IP].payload[scapy.IP].src = "127.0.0.1", "10.0.0.1"
    assert template.frame(1) == bytes(expected)
    assert len(template.sums) == 3

    def vxlan(**ports):
        outer = scapy.IP(src="127.0.0.1", dst="127.0.0.1") / scapy.UDP(dport=4789) / VXLAN(vni=5)
        return outer / scapy.Ether(**MACS) / scapy.IP(src="10.0.0.1", dst="10.0.0.2") / scapy.TCP(**ports) / b"inner"

    template = Template(vxlan(), {"TCP.sport": [1, 2, 3]})
    assert [template.frame(n) for n in range(3)] == [bytes(vxlan(sport=port)) for port in (1, 2, 3)]
    # The inner address is in two inner checksums, which change the outer one: not as much as the address alone would.
    with pytest.raises(UsageError, match=r"IP#2\.src varies more than itself, and checksums"):
        Template(vxlan(), {"IP#2.src": "10.0.0.0/8"})
    assert Template(inner, {"UDP.sport": "1-2"}).fields[0].flow


# ---- what can't be ----


@pytest.mark.parametrize(
    ("vary", "text"),
    [
        ({}, "without a field that varies"),
        ({"sport": "1-2"}, "'sport' names no field: give LAYER.FIELD, such as UDP.sport"),
        ({"SCTP.sport": "1-2"}, "no layer SCTP: it has Ether, IP, TCP, Raw"),
        ({"TCP#2.sport": "1-2"}, "no layer TCP number 2"),
        ({"TCP.port": "1-2"}, "no such field; TCP has sport, dport"),
        ({"TCP.chksum": "1-2"}, "TCP.chksum is told by the rest"),
        ({"bytes[50:52]": "1-2"}, r"bytes\[50:52\] is told by the rest"),
        ({"IP.len": "1-2"}, "IP.len is told by the rest"),
        ({"TCP.options": "1-2"}, "TCP.options is no number"),
        ({"Raw.load": "1-2"}, "Raw.load is no number"),
        ({"bytes[12:14]": "1-2"}, "varies more than itself"),
        ({"payload[3:7]": "1-2"}, "there are only 5 bytes"),
        ({"payload[0:9]": "1-2"}, "give 1 to 8 bytes"),
        ({"payload[2:2]": "1-2"}, "give 1 to 8 bytes"),
        ({"bytes[60:70]": "1-2"}, "give 1 to 8 bytes"),
        ({"TCP.dataofs": "1-2", "TCP.flags": "1-2"}, "TCP.flags shares byte 46 with TCP.dataofs"),
        ({"IP.src": "counter", "bytes[29:31]": "counter"}, r"bytes\[29:31\] shares byte 29 with IP.src"),
        ({"TCP.window": "70000"}, "70000 is out of range; give values from 0 to 65,535"),
        ({"TCP.window": [-1]}, "-1 is out of range"),
        ({"TCP.window": range(65530, 65540)}, "65539 is out of range"),
        ({"TCP.window": "many"}, "'many' is no number; give a range"),
        ({"TCP.window": [1.5]}, "'1.5' is no number"),
        ({"TCP.window": [True]}, "'True' is no number"),
        ({"TCP.window": ""}, "'' is no number"),
        ({"TCP.window": "-5"}, "'' is no number"),
        ({"TCP.window": []}, "an empty list"),
        ({"TCP.window": range(0)}, "range.* is empty"),
        ({"TCP.window": "9-5"}, "9-5 is empty; give the lower value first"),
        ({"TCP.window": 5}, "can't vary as 5"),
        ({"TCP.window": None}, "can't vary as None"),
        ({"TCP.window": b"12"}, "can't vary as b'12'"),
        ({"TCP.window": "127.0.0.0/8"}, "is a prefix of IPv4"),
        ({"TCP.window": "clock"}, "the clock takes eight bytes"),
        ({"TCP.window": "random:5"}, "draws from no range"),
        ({"TCP.window": "1-5 every 0"}, "can't stay for '0' packets"),
        ({"TCP.window": "1-5 every x"}, "can't stay for 'x' packets"),
        ({"IP.src": "127.0.0.1/8"}, "has host bits set; give a prefix"),
        ({"IP.src": "fd00::/64"}, "is a prefix of IPv6"),
        ({"IP.src": "fd00::1"}, "'fd00::1' is no IPv4 address"),
        ({"Ether.src": "02:00"}, "'02:00' is no MAC address"),
    ],
    ids=str,
)
def test_what_cannot_vary_is_refused_in_one_line(vary, text):
    with pytest.raises(UsageError, match=text) as caught:
        Template(scapy.Ether(**MACS) / ip(4) / scapy.TCP() / b"hello", vary)
    assert "\n" not in str(caught.value)


def test_only_the_low_half_of_an_ipv6_address_varies():
    with pytest.raises(UsageError, match="only the low 64 bits can vary; give values that begin alike"):
        Template(udp(6), {"IPv6.src": ["fd00::1", "fd01::1"]})
    template = Template(ip(6, src="fd00::1") / scapy.UDP(), {"IPv6.src": "counter"})
    assert [template.packet(n).src for n in (0, 7)] == ["fd00::", "fd00::7"]
    assert sent(template, 8)[7] == template.frame(7)


def test_fields_that_a_packet_of_that_kind_lacks_are_refused():
    with pytest.raises(UsageError, match=r"ICMP\.gw is not there in this packet"):
        Template(ip(4) / scapy.ICMP(type=8), {"ICMP.gw": "127.0.0.0/8"})


def test_limits_of_the_injector():
    with pytest.raises(UsageError, match="a template of 17 fields: 16 are the most"):
        Template(udp(4), {f"payload[{n}:{n + 1}]": "counter" for n in range(17)})
    nested = ip(4) / ip(4) / ip(4) / ip(4) / ip(4) / b"?"
    with pytest.raises(UsageError, match="a template of 5 checksums over them: 4 are the most"):
        Template(nested, {f"IP#{n}.ttl": "counter" for n in range(1, 6)})
    with pytest.raises(UsageError, match="a template of 65,551 bytes: 65,550 are the most"):
        Template(scapy.Ether(**MACS, type=0x88B5) / bytes(65_537), {"Ether.src": "counter"})


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (None, "not a NoneType"),
        ([ip(4)], "not a list"),
        (b"", "without a single byte"),
        (scapy.UDP(), "can't be a packet's first layer"),
        (scapy.IP(src="127.0.0.1", dst="127.0.0.0/30"), "this stands for several"),
    ],
    ids=["None", "list", "empty", "UDP", "several"],
)
def test_what_is_not_one_packet_is_refused(packet, text):
    with pytest.raises(UsageError, match=text):
        Template(packet, {"IP.src": "127.0.0.0/8"})


def test_a_packet_that_was_cut_short_is_refused():
    packet = scapy.IP(bytes(udp(4))[:40])
    packet.wirelen = 52
    with pytest.raises(UsageError, match="12 bytes of this packet were cut off: capture all of it"):
        Template(packet, {"IP.ttl": "counter"})


# ---- as a source, and as it shows itself ----


def test_a_template_leaves_its_packet_alone(family):
    packet = udp(family)
    before = (packet.fields.copy(), packet[scapy.UDP].fields.copy(), packet.show(dump=True))
    template = Template(packet, {"UDP.sport": "counter", "payload[0:8]": "counter"})
    assert (packet.fields, packet[scapy.UDP].fields, packet.show(dump=True)) == before
    assert template.base == bytes(packet)


def test_a_template_is_a_source_of_one_frame(family):
    template = lab.Template(udp(family), {"UDP.sport": "counter", "UDP.dport": "1-2", "payload[0:8]": "counter"})
    with open_source(template) as source:
        assert bytes(source.frames.frame_bytes(0)) == template.base
        assert (len(source.frames), source.frames.sources[0].link_type) == (1, 101)
        assert (source.name, source.fields, source.sums) == ("the template", template.fields, template.sums)
        assert not source.timed
    assert [each.flow for each in template.fields] == [True, True, False]


def test_it_shows_itself():
    template = Template(udp(4), {"UDP.sport": range(1024, 65536), "IP.src": "127.0.0.0/8", "IP.flags": range(0, 8, 2)})
    assert repr(template).splitlines() == [
        "template: IP / UDP 127.0.0.1:echo > 127.0.0.2:discard / Raw, 52 bytes",
        "field      values             bytes",
        "UDP.sport  1024-65535         20-21",
        "IP.src     127.0.0.0/8        12-15",
        "IP.flags   0-6 in steps of 2  6, in part",
    ]
    shown = Template(ip(4) / b"<&>", {"payload[0:3]": list(range(20))})._repr_html_()
    assert "<td>payload[0:3]</td><td>0,1,2,3,4,5,6,7,… (20 values)</td><td>20-22</td>" in shown
    assert "127.0.0.1 &gt; 127.0.0.2" in shown


# ---- how many, and by which draws ----


@pytest.mark.parametrize(
    ("vary", "once"),
    [
        ({"UDP.sport": [80]}, 1),
        ({"UDP.sport": [80, 443]}, 2),
        ({"UDP.sport": "80,443 every 5", "UDP.dport": "1-7"}, 10),
        ({"UDP.sport": "1-7", "payload[0:8]": "counter"}, 7),
    ],
)
def test_each_value_is_sent_once(vary, once):
    with open_source(Template(udp(4), vary)) as source:
        assert packets_in_all(source, 1, loop=None, count=None, limited=False) == once
        assert packets_in_all(source, 1, loop=3, count=None, limited=False) == 3 * once


@pytest.mark.parametrize("spec", ["counter", "clock", range(1 << 64)])
def test_what_varies_without_end_takes_a_number_of_packets(spec):
    with open_source(Template(udp(4), {"payload[0:8]": spec})) as source:
        with pytest.raises(UsageError, match="varies without end: say how many"):
            packets_in_all(source, 1, loop=None, count=None, limited=False)
        assert packets_in_all(source, 1, loop=None, count=5, limited=False) == 5


@pytest.mark.parametrize("chosen", [range(0, 1 << 64, 1 << 63), range((1 << 64) - 1, -1, -(1 << 63))])
def test_a_step_may_be_as_long_as_half_of_all_numbers(chosen):
    template = Template(udp(4), {"payload[0:8]": chosen})
    assert values_of(template, 0, 4) == [*chosen, *chosen]


def test_no_field_is_drawn_by_the_numbers_that_gaps_are_drawn_by():
    """They have the seed of the injection itself, to which those of fields are added."""
    template = Template(udp(4), {"UDP.sport": "random:1-7", "UDP.dport": "random:1-7"})
    assert 0 < template.fields[0].seed < template.fields[1].seed
