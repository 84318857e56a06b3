"""The anatomy's figure: all of the packet is in it, nothing else, and no text lies on another or leaves its box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figure_texts import assert_legible, placed, written
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import Polygon
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from lab.flow.anatomy.anatomies import Anatomy, Comparison, Field, Layer, Pair, anatomy
from lab.flow.anatomy.boxes import BITS, diagram
from lab.flow.anatomy.words import LAYERS, VERDICTS

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src="127.0.0.1", dst="127.50.50.50", ttl=93, id=0x4D2)
V6 = IPv6(src="2001:db8::1234:5678", dst="2001:db8:1111:2222:3333:4444:5555:6666", hlim=93)
OPTIONS = [("MSS", 65495), ("SAckOK", b""), ("Timestamp", (4_294_967_295, 1)), ("NOP", None), ("WScale", 7)]
RECORDS = [DNSRR(rrname="www.example.org", type="AAAA", rdata="2001:db8::1"), DNSRR(rrname="a.org", rdata="1.2.3.4")]
ANSWER = DNS(id=7, qr=1, qd=DNSQR(qname="www.example.org", qtype="AAAA"), an=RECORDS)


def cut():
    packet = IP(bytes(V4 / TCP(options=OPTIONS) / (b"a" * 500))[:70])
    packet.wirelen = 560
    return packet


def stacked():
    packet = ETHER.copy()
    for tag in range(2 * LAYERS):
        packet /= Dot1Q(vlan=tag)
    return packet / V4


PACKETS = {
    "echo4": ETHER / V4 / ICMP(id=0x1234, seq=1) / bytes(range(56)),
    "echo6": ETHER / V6 / ICMPv6EchoRequest(id=0x1234, seq=1, data=bytes(range(56))),
    "syn4": V4 / TCP(sport=40000, dport=443, options=OPTIONS),
    "syn6": ETHER / Dot1Q(vlan=7) / V6 / TCP(sport=40000, dport=443, options=OPTIONS),
    "udp": V4 / UDP(sport=40000, dport=9) / b"$x_1$ <b>no</b>\t\r\n\x00",
    "empty": V6 / UDP(sport=40000, dport=9),
    "dns4": V4 / UDP(sport=53) / ANSWER,
    "dns6": V6 / UDP(sport=53) / ANSWER,
    "many answers": V4 / UDP(sport=53) / DNS(qr=1, an=RECORDS * 40),
    "arp": ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
    "fragment4": V4.copy() / Raw(bytes(1479)),
    "fragment6": V6 / IPv6ExtHdrFragment(m=1, offset=10, id=77, nh=17) / Raw(b"x" * 64),
    "extensions": V6 / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrRouting(addresses=["fd00::3"]) / TCP(),
    "vxlan": ETHER / V4 / UDP(dport=4789) / VXLAN(vni=42) / ETHER / V4 / ICMP(),
    "error": V4 / ICMP(type=3, code=3) / V4 / UDP(dport=9),
    "unknown": Ether(src=ETHER.src, dst=ETHER.dst, type=0x88B5) / Raw(b"\xde\xad\xbe\xef" * 3 + b"ab"),
    "cut": cut(),
    "stacked": stacked(),
}  # fmt: skip
PACKETS["fragment4"][IP].flags, PACKETS["fragment4"][IP].proto = "MF", 17


def check_layout(figure):
    texts, edges = assert_legible(figure)
    # What stands centred stands in a box: all of it, and in one only. The ruler's numbers stand above.
    ruler = min((text.get_fontsize() for text in texts), default=0)
    centred = [text.get_ha() == "center" and text.get_fontsize() > ruler for text in texts]
    corners = edges[centred][:, [0, 1, 0, 3, 2, 1, 2, 3]].reshape(-1, 2)
    holders = np.zeros(sum(centred), dtype=int)
    for polygon in figure.findobj(Polygon):
        outline = polygon.get_transform().transform_path(polygon.get_path())
        holders += outline.contains_points(corners).reshape(-1, 4).all(axis=1)
    named = [text.get_text() for text, inside in zip(texts, centred, strict=True) if inside]
    assert [name for name, count in zip(named, holders, strict=True) if count != 1] == []


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", PACKETS)
def test_no_text_lies_on_another_or_leaves_its_box(name, large):
    figure = anatomy(PACKETS[name], large=large).figure()
    figure.set_dpi(150 if large else 110)  # as in a file, and as in a notebook
    check_layout(figure)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ["echo6", "syn4", "dns4"])
def test_what_is_blank_has_room_to_be_written_on(name, large):
    check_layout(anatomy(PACKETS[name], large=large).blank(count=3).figure())


@pytest.mark.parametrize("name", ["echo4", "echo6", "syn4", "dns6", "arp"])
def test_every_field_and_every_byte_is_there(name):
    shown = anatomy(PACKETS[name])
    said = written(shown.figure())
    joined = "".join(said).replace(" ", "")  # what is wrapped comes line by line
    for layer in shown.layers:
        for field in layer.shown:
            assert field.name in joined
            assert field.text.replace(" ", "") in joined
        rows = [layer.data[start : start + 4].hex(" ") for start in range(0, len(layer.data), 4)]
        assert set(rows[:2] if layer.name in ("Raw", "ICMPv6EchoRequest") else rows) <= set(said)  # those are folded


def test_the_bytes_stand_beside_their_row():
    figure = anatomy(PACKETS["echo4"]).figure()
    texts, boxes = placed(figure)
    place = {text.get_text(): box for text, box in reversed(list(zip(texts, boxes, strict=True)))}
    row = next(word for word in place if word.startswith("5d 01 "))  # ttl, proto, checksum
    left, lower, _, upper = place[row]
    for name in ("ttl", "proto"):
        _, bottom, right, top = place[name]
        assert bottom < upper
        assert top > lower
        assert right < left


def test_what_is_blank_is_not_there_but_for_its_name():
    whole = anatomy(PACKETS["echo4"])
    figure = whole.blank("IP.ttl", "ICMP.id").figure()
    said = written(figure)
    assert not [word for word in said if "93" in word or "0x1234" in word or word.startswith("5d") or "12 34" in word]
    assert said.count("ttl") == written(whole.figure()).count("ttl") == 2  # in its box, and in the list
    assert said.count("?") == 4
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert len(dotted) == 4  # each to be written on


def test_what_names_the_packet_does_not_tell_what_is_to_be_found():
    exercise = anatomy(PACKETS["echo4"]).blank("IP.dst")
    assert not [word for word in written(exercise.figure()) if "127.50" in word]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdicts_are_signs_and_words(verdict):
    sign, word = VERDICTS[verdict]
    said = written(one(Field(name="chksum", offset=0, bits=16, value=1, text="0x1", verdict=verdict)).figure())
    assert f"0x1 {sign}" in said
    assert f"{sign} {word}" in said


def one(*fields, data=b"\x00\x01\x02\x03", **more):
    """An anatomy of one layer."""
    layer = Layer(name="Own", title="of our own", offset=0, data=data, fields=fields)
    return Anatomy(title="own", layers=(layer,), length=len(data), **more)


@pytest.mark.parametrize("text", ["$x_1$", "$", "<b>", "\t\n\x1b[0m", "日本語", "🙂", "\u202eabc", "a" * 500, ""])
def test_any_text_can_be_drawn(text):
    field = Field(name=text or "n", offset=0, bits=16, value=text, text=text, meaning=text)
    figure = one(field, warnings=(text or "w",)).figure()
    check_layout(figure)
    assert "".join(written(figure)).replace("\N{NO-BREAK SPACE}", "").isprintable()
    figure._repr_png_()  # a missing glyph would be a warning, and that an error


def test_names_that_have_no_room_are_signs_that_the_list_explains():
    fields = [Field(name=f"{name}_of_some_length", offset=i, bits=1, value=0, text="0") for i, name in enumerate("abc")]
    figure = one(*fields).figure()
    check_layout(figure)
    said = [word.replace("\N{NO-BREAK SPACE}", " ") for word in written(figure)]
    for sign, field in zip("①②③", fields, strict=True):
        assert sign in said
        assert f"{sign} {field.name}" in said


def test_a_single_bit_that_differs_has_room_for_the_sign():
    bit = Field(name="m", offset=0, bits=1, value=0, text="0")
    figure = compared(one(bit), one(replace(bit, value=1, text="1"))).figure()
    check_layout(figure)
    assert written(figure).count("≠") == 2


def test_fields_that_are_not_placed_are_in_the_list_only():
    said = written(one(Field(name="somewhere", offset=0, bits=0, value=1, text="one")).figure())
    assert said.count("somewhere") == 1
    assert "00 01 02 03" in said


def test_nothing_at_all():
    check_layout(Anatomy(title="nothing", layers=(), length=0, warnings=("not one byte",)).figure())


def test_layers_without_end_are_cut_off_and_that_is_said():
    said = written(anatomy(PACKETS["stacked"]).figure())
    assert said.count("VLAN tag (802.1Q)") == LAYERS - 1
    assert any(f"{LAYERS + 2} more layers" in word for word in said)


def compared(left, right, large=False):
    """A comparison of single layers by the fields' names."""
    one, other = ({field.name: field for field in side.layers[0].fields} for side in (left, right))
    pairs = [Pair(layers=("Own", "Own"), fields=(one.get(name), other.get(name))) for name in {**one, **other}]
    return Comparison(both=(left, right), pairs=tuple(pairs), large=large)


@pytest.mark.parametrize("large", [False, True])
def test_a_comparison_marks_what_differs_and_what_only_one_has(large):
    same = Field(name="same", offset=0, bits=8, value=1, text="1")
    differs = Field(name="differs", offset=8, bits=8, value=2, text="2")
    alone = Field(name="alone", offset=16, bits=16, value=3, text="3")
    both = one(same, differs, alone), one(replace(same), replace(differs, value=9, text="9"))
    figure = compared(*both, large=large).figure()
    check_layout(figure)
    said = written(figure)
    assert said.count("same") == 3  # two boxes, and the verdict of the table
    assert said.count("≠ differs") == 3
    assert said.count("+ alone") == 1
    assert "+ left only" in said
    colors = {patch.get_facecolor() for patch in figure.findobj(Polygon)}
    assert len(colors) >= 4  # the layer's own, and three of boxes


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("names", [("echo4", "echo6"), ("syn4", "syn6"), ("dns4", "dns6"), ("arp", "cut")])
def test_a_comparison_of_real_packets_has_room_for_all(names, large):
    left, right = (anatomy(PACKETS[name], large=large) for name in names)
    check_layout(left.beside(right).figure())


#: The widths of fields, one after the other; of None nothing is known.
WIDTHS = st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=1, max_size=12)


@given(WIDTHS)
def test_boxes_tile_the_layer_and_outlines_are_theirs(widths):
    total = sum(bits for bits, _ in widths)
    fields, at = [], 0
    for bits, known in widths:
        if known:
            fields.append(Field(name=str(at), offset=at, bits=bits, value=0, text=""))
        at += bits
    drawn = diagram(Layer(name="L", title="L", offset=0, data=bytes(-(-total // 8)), fields=tuple(fields)))
    seen = [(part.row, bit) for box in drawn.boxes for part in box.parts for bit in range(part.start, part.end)]
    shown = {place for place in seen if not drawn.rows[place[0]].folded}
    assert len(seen) == len(set(seen))
    assert len(shown) + sum(row.end - row.start for row in drawn.rows if row.folded) == 8 * -(-total // 8)
    for box in drawn.boxes:
        covered = sum(part.end - part.start for part in box.parts)
        assert sum(map(area, box.outlines)) == covered
        assert box.connected == (len(box.outlines) == 1)
        assert drawn.place(box)


def area(corners):
    """Of a polygon (the shoelace formula)."""
    x, y = np.array(corners).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@pytest.mark.parametrize(("size", "folded"), [(16, 0), (17, 9), (1400, 1392)])
def test_long_fields_are_folded_to_three_rows(size, folded):
    field = Field(name="load", offset=0, bits=8 * size, value=b"", text="")
    drawn = diagram(Layer(name="Raw", title="payload", offset=0, data=bytes(size), fields=(field,)))
    assert sum(row.folded for row in drawn.rows) == folded
    assert len(drawn.rows) == (3 if folded else size * 8 // BITS)
