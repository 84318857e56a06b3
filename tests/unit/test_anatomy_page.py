"""The anatomy's page: it needs nothing else, all of the packet is in it, and what is to be found is folded away."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from lab.flow.anatomy.anatomies import Anatomy, Field, Layer, anatomy

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PING = ETHER / IP(src="127.0.0.1", dst="127.50.50.50", ttl=93) / ICMP(id=0x1234, seq=1) / bytes(range(56))
PING6 = ETHER / IPv6(src="::1", dst="2001:db8::1") / ICMPv6EchoRequest(id=0x1234, seq=1, data=bytes(range(56)))
VOID = {"meta", "input"}


class Page(HTMLParser):
    """A page read as browsers do: its elements with their attributes, and the text outside of <details>."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.folded, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []  # whatever was opened was closed

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            (self.folded if "details" in self._open else self.words).append(data)

    def classes(self):
        return {name for _, attributes in self.elements for name in (attributes.get("class") or "").split()}


def read(text):
    page = Page(text)
    page.said = " ".join(page.words)
    return page


@pytest.mark.parametrize("packet", [PING, PING6, IP() / TCP(options=[("MSS", 1460)]), IP() / UDP()])
def test_every_field_and_every_byte_is_there(packet):
    shown = anatomy(packet)
    page = read(shown.page())
    for layer in shown.layers:
        for field in layer.shown:
            assert page.said.count(field.name) >= 2  # the list, and what is told when it is pointed at
            assert field.text in page.said
            assert field.meaning in page.said
    (dump,) = re.findall(r'<div class="dump">(.*?)</div>', shown.page(), re.S)
    bytes_ = re.sub(r'<span class="soft">\s*\d+</span>|<[^>]*>', " ", dump)
    assert bytes.fromhex(bytes_) == bytes(packet)


def test_it_needs_nothing_else():
    text = anatomy(PING).page()
    page = read(text)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name in ("src", "href")]
    assert [tag for tag, _ in page.elements].count("style") == 1  # in the head, where it belongs
    assert not re.search(r"url\(|@import|https?:", text)


def test_what_is_pointed_at_leads_to_all_that_is_its_own():
    shown = anatomy(PING)
    text = shown.page()
    page = read(text)
    names = re.findall(r"body:has\(\.(f\d+):hover, \.\1:focus\) \.\1 \{", text)
    assert len(names) == sum(len(layer.shown) for layer in shown.layers)
    placed = {f"f{i}" for i, each in enumerate(each for layer in shown.layers for each in layer.shown) if each.bits}
    for name in names:
        tags = [tag for tag, attributes in page.elements if name in (attributes.get("class") or "").split()]
        assert {"tr", "dl"} <= set(tags)
        assert ({"polygon", "div", "span"} <= set(tags)) == (name in placed)


def test_what_is_blank_is_in_the_folded_solution_only():
    whole = anatomy(PING)
    exercise = whole.blank("IP.ttl", "ICMP.id", "IP.dst")
    text = exercise.page()
    page = read(text)
    folded = " ".join(page.folded)
    outside = re.sub(r"<details>.*</details>|<style>.*?</style>", "", text, flags=re.S)
    for secret in ("93", "0x1234", "127.50", "5d", "12 34", "7f 32 32 32", whole["IP.ttl"].meaning or "93"):
        assert secret not in outside
        assert secret in folded
    for name in ("IP.ttl", "ICMP.id", "IP.dst"):
        assert sum(attributes.get("aria-label") == name for _, attributes in page.elements) == 1
        assert name in folded
    assert "<details" not in whole.page()
    assert "<details open" not in text


HOSTILE = "<script>alert(1)</script>\"'&\u202e\x00"


def test_texts_of_others_are_escaped():
    field = Field(name=HOSTILE, offset=0, bits=16, value=HOSTILE, text=HOSTILE, meaning=HOSTILE)
    blank = replace(field, offset=16, blank=True)
    layer = Layer(name=HOSTILE, title=HOSTILE, offset=0, data=bytes(4), fields=(field, blank))
    shown = Anatomy(title=HOSTILE, layers=(layer,), length=4, warnings=(HOSTILE,))
    for text in (shown.page(), shown.beside(shown).page()):
        page = read(text)
        assert "script" not in {tag for tag, _ in page.elements}
        assert "<script>" in page.said
        assert "\u202e" not in text
        assert "\x00" not in text
        assert not {name for _, attributes in page.elements for name in attributes if name.startswith("on")}


def test_a_payload_is_no_markup():
    text = anatomy(IP() / UDP(dport=9) / b"</style><img src=x onerror=alert(1)>").page()
    assert "img" not in {tag for tag, _ in read(text).elements}


def test_the_dump_of_a_huge_packet_ends():
    shown = anatomy(IP() / Raw(bytes(60_000)))
    text = shown.page()
    assert f"… {60_020 - 2048:,} bytes" in text
    assert len(text) < 100_000


def test_verdicts_are_signs_and_words():
    field = Field(name="chksum", offset=0, bits=16, value=1, text="0x1", verdict="bad", meaning="should be 0x2")
    layer = Layer(name="Own", title="own", offset=0, data=bytes(2), fields=(field,))
    said = read(Anatomy(title="own", layers=(layer,), length=2).page()).said
    assert "0x1 ✗" in said
    assert "✗ should be 0x2" in said


def test_large_is_told_to_the_style_sheet():
    assert '<html lang="en" class="large">' in anatomy(PING, large=True).page()
    assert '<html lang="en">' in anatomy(PING).page()


def test_a_comparison_marks_what_differs_and_what_only_one_has():
    comparison = anatomy(PING).beside(anatomy(PING6))
    text = comparison.page()
    page = read(text)
    assert {"differs", "alone"} <= page.classes()
    marks = {"≠ differs": 0, "+ left only": 0, "+ right only": 0}
    for pair in comparison.shown:
        left, right = pair.fields
        if not pair.same:
            marks["+ right only" if left is None else "+ left only" if right is None else "≠ differs"] += 1
    assert all(marks.values())
    assert {mark: page.said.count(mark) for mark in marks} == marks
    for number in range(len(comparison.shown)):
        assert f"p{number}" in page.classes()


def test_nothing_at_all():
    page = read(Anatomy(title="nothing", layers=(), length=0, warnings=("not one byte",)).page())
    assert "not one byte" in page.said
