"""Anatomies against scapy's own fields, and against packets in which one field is changed."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy import all as scapy
from scapy.layers.snmp import SNMP

import lab
from lab.errors import UsageError
from lab.flow.anatomy.anatomies import Anatomy

PACKETS = 200
ADDRESSES = {4: ("127.0.0.1", "192.0.2.7"), 6: ("::1", "2001:db8::7")}
OPTIONS = [
    ("MSS", 1460), ("WScale", 7), ("SAckOK", b""), ("Timestamp", (2**32 - 1, 12345)), ("SAck", (1, 2, 2**32 - 2, 5)),
    ("NOP", None),
]  # fmt: skip
EXTENSIONS = [
    scapy.IPv6ExtHdrHopByHop(options=[scapy.RouterAlert(), scapy.PadN()]),
    scapy.IPv6ExtHdrDestOpt(options=[scapy.PadN(optdata=bytes(20))]),
    scapy.IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=1),
    scapy.IPv6ExtHdrFragment(id=99),
]
LINKS = [
    scapy.Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff"),
    scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / scapy.Dot1Q(vlan=7, prio=3),
    scapy.CookedLinux(),
    scapy.Loopback(),
    None,
]
#: Fields that decide what the others are.
DECIDE = {"ihl", "dataofs", "hwlen", "plen", "hwtype", "ptype", "type", "proto", "nh", "version", "len"}


def ip(rng, family):
    source, destination = rng.sample(ADDRESSES[family], 2)
    if family == 4:
        options = rng.choice([[], [scapy.IPOption_RR(routers=["192.0.2.1"] * 2), scapy.IPOption_NOP()]])
        identity = {"id": rng.randrange(65536), "flags": rng.choice(["", "DF"])}
        return scapy.IP(src=source, dst=destination, ttl=rng.randrange(1, 256), options=options, **identity)
    header = scapy.IPv6(src=source, dst=destination, hlim=rng.randrange(1, 256), fl=rng.randrange(1 << 20))
    for each in rng.sample(EXTENSIONS, rng.choice([0, 0, 1, 2])):
        header /= each.copy()
    return header


def icmp(rng, family):
    number = {"id": rng.randrange(65536), "seq": rng.randrange(65536)}
    quoted = ip(rng, family) / scapy.UDP(sport=rng.randrange(65536), dport=9) / b"quoted"
    if family == 4:
        return rng.choice(
            [
                scapy.ICMP(type=rng.choice([0, 8]), **number) / rng.randbytes(rng.randrange(60)),
                scapy.ICMP(type=3, code=rng.choice([0, 1, 3, 4]), nexthopmtu=1500) / quoted,
                scapy.ICMP(type=11) / quoted,
                scapy.ICMP(type=5, gw="192.0.2.9") / quoted,
                scapy.ICMP(type=13, ts_ori=1, ts_rx=2, ts_tx=3, **number),
            ]
        )
    link_address = scapy.ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
    return rng.choice(
        [
            scapy.ICMPv6EchoRequest(data=rng.randbytes(rng.randrange(60)), **number),
            scapy.ICMPv6EchoReply(data=b"", **number),
            scapy.ICMPv6DestUnreach(code=4) / quoted,
            scapy.ICMPv6PacketTooBig(mtu=1280) / quoted,
            scapy.ICMPv6TimeExceeded() / quoted,
            scapy.ICMPv6ND_NS(tgt="fe80::1") / link_address,
            scapy.ICMPv6ND_NA(tgt="fe80::1", R=rng.randrange(2)) / scapy.ICMPv6NDOptDstLLAddr(),
            scapy.ICMPv6ND_RA() / scapy.ICMPv6NDOptPrefixInfo(prefix="2001:db8::") / scapy.ICMPv6NDOptMTU(),
        ]
    )


def transport(rng, family):
    ports = {"sport": rng.randrange(20000, 65536), "dport": rng.randrange(20000, 65536)}
    name = "www.example.org"
    answers = [scapy.DNSRR(rrname=name, rdata="192.0.2.1"), scapy.DNSRR(rrname=name, type="AAAA", rdata="::1")]
    numbers = {"seq": rng.randrange(2**32), "ack": rng.randrange(2**32), "window": rng.randrange(65536)}
    options = rng.sample(OPTIONS, rng.randrange(4)) + rng.choice([[], [("EOL", None)]])
    dns = scapy.DNS(id=rng.randrange(65536), qr=1, qd=[scapy.DNSQR(qname=name)], an=answers)
    return rng.choice(
        [
            scapy.UDP(**ports) / rng.randbytes(rng.choice([1, 2, 63, 1400])),
            scapy.TCP(**ports, **numbers, flags=rng.randrange(512), options=options) / rng.randbytes(rng.randrange(9)),
            scapy.UDP(sport=53, dport=ports["dport"]) / dns,
            scapy.UDP(sport=53, dport=ports["dport"]) / scapy.dns_compress(dns),
        ]
    )


def generated(seed):
    """A packet as it would be sent, and the same as it would be captured."""
    rng = random.Random(seed)
    link = rng.choice(LINKS)
    if link is not None and rng.randrange(10) == 0 and not isinstance(link, scapy.Loopback):
        built = link / scapy.ARP(op=rng.choice([1, 2]), hwsrc="02:00:00:00:00:01", psrc="192.0.2.1", pdst="192.0.2.2")
    else:
        family = rng.choice([4, 6])
        built = ip(rng, family) / rng.choice([icmp, transport])(rng, family)
        built = built if link is None else link / built
    return built, type(built)(bytes(built))


def placed(anatomy):
    return [(layer, field) for layer in anatomy.layers for field in layer.fields if field.bits]


def bits(layer, field):
    return int.from_bytes(layer.data) >> 8 * len(layer.data) - field.offset - field.bits & (1 << field.bits) - 1


def of_scapy(packet):
    """Its layers; of each, the fields that are in its bytes, which those that only guide scapy are not."""
    for layer in packet.iterpayloads():
        yield layer, [name for name in layer.fields if name != "autopad"]


@pytest.mark.parametrize("seed", range(PACKETS))
def test_fields_are_those_of_scapy(seed):
    built, captured = generated(seed)
    anatomy = lab.anatomy(captured)
    layers = list(of_scapy(captured))
    assert [each.name for each in anatomy.layers] == [type(layer).__name__ for layer, _names in layers]
    assert b"".join(each.data for each in anatomy.layers) == captured.original
    assert anatomy.length == len(captured.original)
    for mine, (layer, names) in zip(anatomy.layers, layers, strict=True):
        whole = dict.fromkeys(each.name.partition(".")[0].partition("[")[0] for each in mine.fields)
        assert list(whole) == names
        for field in mine.fields:
            if field.name in names:
                assert field.value == layer.getfieldval(field.name), field.name
        # They lie one behind the other, from the first bit to the last.
        ends = [0]
        for field in mine.fields:
            if field.bits:
                assert field.offset == ends[-1], field.name
                ends.append(field.offset + field.bits)
        assert ends[-1] == 8 * len(mine.data)
        for field in mine.fields:
            if field.bits and isinstance(field.value, int) and mine.name != "Loopback":  # in the order of the host
                kept = field.name.startswith("options.")  # with their kind and length
                mask = (1 << field.bits - 16) - 1 if kept else (1 << field.bits) - 1
                assert bits(mine, field) & mask == field.value, field.name
    assert not anatomy.warnings
    sent = lab.anatomy(built)
    assert [each.data for each in sent.layers] == [each.data for each in anatomy.layers]


@pytest.mark.parametrize("seed", range(PACKETS))
def test_changing_a_field_changes_its_bits_only(seed):
    """Checksums and lengths of a captured packet are as they came, so nothing else changes."""
    rng = random.Random(seed)
    _built, captured = generated(seed)
    anatomy = lab.anatomy(captured)
    data = int.from_bytes(captured.original)
    tried = 0
    for depth, (mine, layer) in enumerate(zip(anatomy.layers, captured.iterpayloads(), strict=True)):
        for field in mine.fields:
            if not field.bits or field.name in DECIDE or field.name not in layer.fields:
                continue
            if type(field.value) is not int or mine.name == "Loopback":
                continue
            if with_field(captured, depth, field.name, field.value) != captured.original:
                assert mine.name == "DNS"  # with compressed names, which scapy does not compress anew
                continue
            flipped = rng.randrange(1, 1 << field.bits)
            other = with_field(captured, depth, field.name, field.value ^ flipped)
            behind = 8 * (len(captured.original) - mine.offset) - field.offset - field.bits
            assert int.from_bytes(other) ^ data == flipped << behind, f"{mine.name}.{field.name}"
            tried += 1
    assert tried


def with_field(packet, depth, name, value):
    """The bytes of a packet with another value in a field of the layer at that depth, built by scapy."""
    other = packet.copy()
    list(other.iterpayloads())[depth].setfieldval(name, value)
    return bytes(other)


def carried(family, inside):
    return (scapy.IP if family == 4 else scapy.IPv6)(src=ADDRESSES[family][0], dst=ADDRESSES[family][1]) / inside


INSIDE = {
    "TCP": lambda family: scapy.TCP(sport=1, dport=2, options=[("MSS", 1460)]) / b"odd",
    "UDP": lambda family: scapy.UDP(sport=40000, dport=40001) / b"odd",
    "ICMP": lambda family: scapy.ICMP(id=1) / b"odd" if family == 4 else scapy.ICMPv6EchoRequest(id=1, data=b"odd"),
}


def checksums(anatomy):
    return [field for layer in anatomy.layers for field in layer.fields if field.name in ("chksum", "cksum")]


def with_checksum(packet, value):
    """A captured packet whose innermost checksum is another."""
    packet = type(packet)(bytes(packet))
    layer = [each for each in packet.iterpayloads() if {"chksum", "cksum"} & set(each.fields)][-1]
    layer.setfieldval("chksum" if "chksum" in layer.fields else "cksum", value)
    return packet


@pytest.mark.parametrize("kind", INSIDE)
def test_checksums_are_verified(family, kind):
    packet = carried(family, INSIDE[kind](family))
    right = checksums(lab.anatomy(packet))
    assert [each.verdict for each in right] == ["good"] * (2 if family == 4 else 1)
    wrong = checksums(lab.anatomy(with_checksum(packet, right[-1].value ^ 0x0101)))
    assert wrong[-1].verdict == "bad"
    assert f"{right[-1].value:#06x}" in wrong[-1].meaning
    if family == 4:
        packet = scapy.IP(bytes(packet))
        packet.ttl -= 1
        assert checksums(lab.anatomy(packet))[0].verdict == "bad"


@pytest.mark.parametrize("kind", ["TCP", "UDP"])
def test_checksums_left_to_the_device(family, kind):
    """What the kernel writes: the sum of the pseudo-header, which is the checksum of nothing, complemented."""
    packet = carried(family, INSIDE[kind](family))
    packet = type(packet)(bytes(packet))
    length = len(packet.payload.original)
    number = {"TCP": 6, "UDP": 17}[kind]
    pseudo = (
        scapy.in4_pseudoheader(number, packet, length)
        if family == 4
        else bytes(scapy.in6_pseudoheader(number, packet, length))
    )
    value = 0xFFFF - scapy.checksum(pseudo)
    assert checksums(lab.anatomy(with_checksum(packet, value)))[-1].verdict == "left"
    cut = type(packet)(bytes(with_checksum(packet, value))[:-2])
    cut.wirelen = len(packet.original)
    assert checksums(lab.anatomy(cut))[-1].verdict == "left"


def test_udp_without_checksum(family):
    found = checksums(lab.anatomy(with_checksum(carried(family, INSIDE["UDP"](family)), 0)))[-1]
    assert found.verdict == ("" if family == 4 else "bad")
    assert "none" in found.meaning if family == 4 else "it should be" in found.meaning


@pytest.mark.parametrize("kind", INSIDE)
def test_checksums_that_can_not_be_told(family, kind):
    packet = carried(family, INSIDE[kind](family))
    whole = bytes(packet)
    cut = type(packet)(whole[:-1])
    cut.wirelen = len(whole)
    anatomy = lab.anatomy(cut)
    assert checksums(anatomy)[-1].verdict == "unknown"
    assert anatomy.length == len(whole)
    assert any(f"{len(whole) - 1:,} of its {len(whole):,}" in each for each in anatomy.warnings)
    if family == 4:
        packet.flags = "MF"
    else:
        inside = packet.payload.copy()
        packet = scapy.IPv6(src=packet.src, dst=packet.dst) / scapy.IPv6ExtHdrFragment(m=1) / inside
    assert checksums(lab.anatomy(packet))[-1].verdict == "unknown"
    alone = scapy.TCP(bytes(scapy.TCP()))
    assert checksums(lab.anatomy(alone))[-1].verdict == "unknown"


def test_checksums_behind_extension_headers():
    for extension in EXTENSIONS:
        for kind in INSIDE.values():
            packet = scapy.IPv6(src="::1", dst="2001:db8::7") / extension.copy() / kind(6)
            assert checksums(lab.anatomy(packet))[-1].verdict == "good", packet.summary()


@pytest.mark.parametrize(("pointer", "last"), [(4, "198.18.0.9"), (8, "198.18.0.9"), (12, "198.18.0.1")])
def test_checksums_of_a_packet_on_a_source_route(pointer, last):
    """They are over the last address of the route, which the destination becomes when the route is done."""
    route = scapy.IPOption_LSRR(routers=["198.18.0.7", "198.18.0.9"], pointer=pointer)
    segment = scapy.UDP(sport=1, dport=2) / b"hello"
    final = scapy.IP(bytes(scapy.IP(src="198.18.0.2", dst=last) / segment))
    segment.chksum = final[scapy.UDP].chksum
    packet = scapy.IP(bytes(scapy.IP(src="198.18.0.2", dst="198.18.0.1", options=[route]) / segment))
    assert [each.verdict for each in checksums(lab.anatomy(packet))] == ["good", "good"]


def test_checksums_of_a_quoted_packet(family):
    inside = carried(family, INSIDE["UDP"](family))
    error = scapy.ICMP(type=3, code=3) if family == 4 else scapy.ICMPv6DestUnreach(code=4)
    whole = checksums(lab.anatomy(carried(family, error / inside)))
    assert {each.verdict for each in whole} == {"good"}
    parts = checksums(lab.anatomy(carried(family, error / bytes(inside)[:-2])))
    assert [each.verdict for each in parts] == ["good"] * (len(parts) - 1) + ["unknown"]


def test_meanings_follow_the_values(family):
    syn = lab.anatomy(carried(family, scapy.TCP(sport=40000, dport=80, flags="S", seq=9, options=[("WScale", 3)])))
    assert "SYN" in syn["TCP.flags"].meaning
    assert "next byte is 10" in syn["TCP.seq"].meaning
    assert "8 bytes" in syn["options.WScale"].meaning
    data = lab.anatomy(carried(family, scapy.TCP(flags="PA", seq=2**32 - 2) / b"four"))
    assert "next byte is 2" in data["seq"].meaning
    assert "HTTP" in syn["TCP.dport"].meaning
    for reply in (False, True):
        said = "those of the request" if reply else "the reply must repeat"
        version_6 = (scapy.ICMPv6EchoReply if reply else scapy.ICMPv6EchoRequest)(data=b"four")
        echo = lab.anatomy(carried(family, scapy.ICMP(type=0 if reply else 8) / b"four" if family == 4 else version_6))
        assert said in echo["load" if family == 4 else "data"].meaning
    hops = "ttl" if family == 4 else "hlim"
    packet = carried(family, INSIDE["UDP"](family))
    packet.setfieldval(hops, 60)
    assert lab.anatomy(packet)[hops].meaning.startswith("4 routers behind it")


def test_a_cut_segment_has_the_data_that_it_had(family):
    whole = bytes(carried(family, scapy.TCP(flags="A", seq=1) / bytes(100)))
    assert "its 100 bytes" in lab.anatomy(type(carried(family, b""))(whole[:-60]))["seq"].meaning


def test_finding_fields():
    anatomy = lab.anatomy(carried(4, scapy.ICMP(type=11) / (scapy.IP(ttl=1) / scapy.UDP())))
    assert anatomy["IP.ttl"].value == 64
    assert anatomy["ttl"] is anatomy["IP.ttl"]
    assert anatomy["IPerror.ttl"].value == 1
    twice = lab.anatomy(scapy.IP(ttl=3) / scapy.IP(ttl=2) / scapy.UDP())
    assert [twice[name].value for name in ("IP.ttl", "IP[1].ttl", "IP[2].ttl")] == [3, 3, 2]
    for name in ("IP[3].ttl", "IP.hlim", "", None, 7):
        with pytest.raises(UsageError, match="there is no field"):
            twice[name]
    with pytest.raises(KeyError):
        twice["hlim"]


def test_blank_fields():
    anatomy = lab.anatomy(carried(4, INSIDE["TCP"](4)))
    blank = anatomy.blank("IP.ttl", "TCP.flags")
    assert [field.name for _layer, field in placed(blank) if field.blank] == ["ttl", "flags"]
    assert blank.layers[0].hex()[8] == "··"
    assert blank.layers[1].hex()[12:14] == ["··", "··"]  # they begin with the last bit of the byte
    assert blank.solution == anatomy
    assert anatomy.blank(count=5, seed=1) == anatomy.blank(count=5, seed=1)
    drawn = {
        tuple(field.name for _layer, field in placed(anatomy.blank(count=5, seed=n)) if field.blank) for n in range(9)
    }
    assert len(drawn) > 1
    assert all("load" not in names and len(names) == 5 for names in drawn)
    both = anatomy.blank("IP.ttl", count=2)
    assert both["IP.ttl"].blank
    assert sum(field.blank for _layer, field in placed(both)) == 3
    document = json.dumps(blank.to_json())
    assert '"text": "?"' in document
    assert anatomy["TCP.flags"].meaning not in document
    fields = sum(1 for _layer, field in placed(anatomy) if field.name != "load")
    for wrong in ({"count": 0}, {"count": fields + 1}, {"count": "3"}, {}):
        with pytest.raises(UsageError, match=r"give|name"):
            anatomy.blank(**wrong)
    with pytest.raises(UsageError, match="name one"):
        lab.anatomy(scapy.Raw(b"payload only")).blank(count=1)


def test_document():
    anatomy = lab.anatomy(carried(4, INSIDE["TCP"](4)))
    document = json.loads(json.dumps(anatomy.to_json()))
    assert document["format"] == 1
    assert "".join(layer["data"] for layer in document["layers"]) == bytes(carried(4, INSIDE["TCP"](4))).hex()
    fields = {field["name"]: field for field in document["layers"][1]["fields"]}
    assert fields["flags"]["value"] == 2
    assert fields["options.MSS"]["value"] == 1460
    assert fields["chksum"]["verdict"] == "good"


def named(comparison):
    return {tuple(each.name if each else None for each in pair.fields): pair for pair in comparison.pairs}


def test_versions_beside_each_other():
    left = lab.anatomy(LINKS[0] / carried(4, INSIDE["ICMP"](4)))
    pairs = named(left.beside(carried(6, INSIDE["ICMP"](6))))
    assert {("ttl", "hlim"), ("proto", "nh"), ("len", "plen"), ("tos", "tc"), ("src", "src"), ("dst", "dst")} <= set(
        pairs
    )
    assert {("type", "type"), ("id", "id"), ("seq", "seq"), ("chksum", "cksum"), ("load", "data")} <= set(pairs)
    assert {("version", "version"), ("ihl", None), ("frag", None), (None, "fl")} <= set(pairs)
    assert pairs["ttl", "hlim"].same
    assert pairs["load", "data"].same
    assert pairs["tos", "tc"].same
    assert not pairs["version", "version"].same
    assert not pairs["src", "src"].same
    assert not pairs["ihl", None].same
    assert pairs["ttl", "hlim"].layers == ("IP", "IPv6")
    assert all(pair.fields[1] is None for pair in left.beside(carried(6, b"")).pairs if pair.layers[0] == "Ether")
    assert pairs["ttl", "hlim"].names == ("IP.ttl", "IPv6.hlim")
    assert pairs["ihl", None].names == ("IP.ihl", "")


def test_a_comparison_names_what_differs():
    packets = [scapy.IP(ttl=64) / scapy.ICMP() / b"ping", scapy.IPv6(hlim=64) / scapy.ICMPv6EchoRequest(data=b"pong")]
    comparison = lab.anatomy(packets[0]).beside(packets[1])
    assert comparison.only == (("IP.ihl", "IP.id", "IP.flags", "IP.frag", "IP.chksum"), ("IPv6.fl",))
    assert {"IP.version", "IP.proto", "ICMP.type", "Raw.load"} <= set(comparison.differing)
    assert not {"IP.ttl", "IP.tos", "ICMP.code", "ICMP.seq"} & set(comparison.differing)
    assert not {*comparison.only[0], *comparison.only[1]} & set(comparison.differing)


def test_a_request_beside_its_reply(family):
    request = carried(family, INSIDE["ICMP"](family))
    reply = request.copy()
    if family == 4:
        reply[scapy.ICMP].type, reply.src, reply.dst = 0, request.dst, request.src
    else:
        reply = scapy.IPv6(src=request.dst, dst=request.src) / scapy.ICMPv6EchoReply(id=1, data=b"odd")
    comparison = lab.anatomy(request).beside(reply)
    differ = {pair.fields[0].name for pair in comparison.pairs if not pair.same}
    assert differ <= {"src", "dst", "type", "chksum", "cksum"}
    assert {"src", "dst", "type"} <= differ
    fields = sum(len(layer.fields) for layer in comparison.both[0].layers)
    assert len(comparison.pairs) == fields
    assert json.loads(json.dumps(comparison.to_json()))["pairs"]


def test_what_is_no_packet():
    for wrong in (None, 1, "text", [scapy.IP()], scapy.IP):
        with pytest.raises(UsageError, match=r"capture\[0\]"):
            lab.anatomy(wrong)
    with pytest.raises(UsageError, match=r"Ether\(data\)"):
        lab.anatomy(b"\x45\x00")
    with pytest.raises(UsageError, match="can't build IP / UDP"):
        lab.anatomy(scapy.IP(ttl=256) / scapy.UDP())


def test_packets_of_which_not_all_can_be_told():
    malformed = lab.anatomy(scapy.IP(bytes(scapy.IP(proto=6) / b"short")))
    assert [layer.name for layer in malformed.layers] == ["IP", "Raw"]
    assert any("should be TCP" in each for each in malformed.warnings)
    unknown = lab.anatomy(scapy.Raw(b"of another link"))
    assert unknown.warnings
    assert unknown["load"].bits == 8 * len(b"of another link")
    empty = scapy.Ether(b"")
    empty.wirelen = 60
    nothing = lab.anatomy(empty)
    assert (nothing.layers, nothing.length) == ((), 60)
    assert nothing.warnings
    many = lab.anatomy(scapy.IP(dst="127.0.0.0/30") / scapy.UDP())
    assert any("several packets" in each for each in many.warnings)
    tagged = lab.anatomy(scapy.IP() / scapy.UDP(sport=161) / SNMP())
    assert {field.bits for field in tagged.layers[-1].fields} == {0}
    assert any("SNMP" in each for each in tagged.warnings)
    assert str(tagged)


def test_the_packet_stays_as_it_is():
    for seed in range(20):
        _built, packet = generated(seed)
        before, shown = packet.original, packet.show(dump=True)
        lab.anatomy(packet)
        assert (packet.original, packet.show(dump=True)) == (before, shown)
    packet = scapy.IP(bytes(carried(4, INSIDE["UDP"](4))))
    packet.ttl = 7
    assert lab.anatomy(packet)["ttl"].value == 7
    built = scapy.IP() / scapy.UDP() / b"x"
    lab.anatomy(built)
    assert built.len is None


FIRST = [
    scapy.Ether, scapy.IP, scapy.IPv6, scapy.CookedLinux, scapy.CookedLinuxV2, scapy.Loopback, scapy.ARP, scapy.TCP,
    scapy.UDP, scapy.ICMP, scapy.DNS, scapy.ICMPv6ND_RA, scapy.DHCP, scapy.Dot11, scapy.RadioTap, scapy.PPP,
    scapy.BOOTP,
]  # fmt: skip


def looked_at(kind, data):
    """As ``lab.taps`` dissects a frame: what scapy can't read is ``Raw``."""
    try:
        packet = kind(data)
    except Exception:
        packet = scapy.Raw(data)
    if not data:
        packet.wirelen = 0
    anatomy = lab.anatomy(packet)
    assert all(field.offset + field.bits <= 8 * len(layer.data) for layer in anatomy.layers for field in layer.fields)
    assert b"".join(layer.data for layer in anatomy.layers) == data
    assert all(len(line) <= 80 for line in anatomy.lines())
    json.dumps(anatomy.to_json())
    return anatomy


@settings(deadline=None)
@given(kind=st.sampled_from(FIRST), data=st.binary(max_size=200))
def test_any_bytes(kind, data):
    assert isinstance(looked_at(kind, data), Anatomy)


def test_any_layer_that_scapy_knows():
    rng = random.Random(9)
    kinds = [kind for kind in scapy.conf.layers if kind is not scapy.NoPayload]
    found = [looked_at(kind, rng.randbytes(rng.randrange(1, 100))) for kind in kinds]
    assert len(found) > 1000
    known = [each for each in found if all(any(field.bits for field in layer.fields) for layer in each.layers)]
    assert len(known) > len(found) / 2
    assert all(each.warnings for each in found if each not in known)


@settings(deadline=None)
@given(
    seed=st.integers(0, PACKETS - 1),
    changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    kept=st.integers(0, 1600),
)
def test_damaged_packets(seed, changes, kept):
    _built, captured = generated(seed)
    data = bytearray(captured.original)
    for place, value in changes:
        data[place % len(data)] = value
    looked_at(type(captured), bytes(data[:kept]))
