"""A ladder as a page: everything of it is there, and what a capture says is text, whatever it says."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.flow.ladder.ladders import Fold, Ladder, Participant, Step
from lab.flow.ladder.page import ladder_page

START_NS = 1_700_000_000_000_000_000


def step(number, time_ns, source=0, target=1, **more):
    given = {"flow": 1, "protocol": "tcp", "title": "ACK", "length": 66} | more
    return Step(number=number, time_ns=START_NS + time_ns, source=source, target=target, **given)


def ladder_of(*rows, **more):
    ends = (Participant(name="127.0.0.1:40000", note="curl 77"), Participant(name="127.0.0.1:80"))
    return Ladder(**({"participants": ends, "rows": rows, "title": "a talk", "start_ns": START_NS} | more))


class Parsed(HTMLParser):
    """tags: every start tag with its attributes. texts: by class, that of every element that has it."""

    _VOID = ("meta", "input", "wbr")

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, []
        self.feed(page)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self._VOID:
            names = (dict(attributes).get("class") or "").split()
            for name in names:
                self.texts.setdefault(name, []).append("")
            self._open.append((tag, [(name, len(self.texts[name]) - 1) for name in names]))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _tag, places in self._open:
            for name, place in places:
                self.texts[name][place] += data

    def all(self, name, key):
        """An attribute of every element of a class, in percent."""
        found = [attributes for _tag, attributes in self.tags if attributes.get("class") == name]
        return [float(attributes[key].rstrip("%")) for attributes in found]


def test_all_that_is_known_of_a_packet_is_in_its_panel():
    shown = Parsed(
        ladder_page(
            ladder_of(
                step(1, 0),
                step(
                    4, 1_234_567, 1, 0, flow=3, title="SYN ACK", facts=("seq 0", "ack 1"), payload="some words",
                    marks=("retransmission",), states=("SYN-RECEIVED", "ESTABLISHED"), length=12_345, other_copy=3,
                    transit_ns=4_321,
                ),
            )
        )
    )  # fmt: skip
    panel = shown.texts["panel"][1]
    known = (
        "SYN ACK", "frame4", "frame 3, 4,321 ns before", "2023-11-14 22:13:20.001234567 UTC", "1,234,567 ns",
        "12,345 bytes", "from127.0.0.1:80", "to127.0.0.1:40000 (curl 77)", "flow3", "tcp", "seq 0, ack 1",
        "127.0.0.1:80: SYN-RECEIVED; 127.0.0.1:40000: ESTABLISHED", "↻ retransmission", "some words",
    )  # fmt: skip
    assert [text for text in known if text not in panel] == []
    # What is to be seen at once: the target is on the left, and the columns alone don't tell the conversation.
    assert shown.texts["label"][1] == "SYN ACK ↻ retransmission seq 0, ack 1, flow 3 · transit 4.32 µssome words"
    assert shown.texts["left"] == ["ESTABLISHED"]
    assert shown.texts["right"] == ["SYN-RECEIVED"]
    assert shown.texts["time"][1:] == ["0 ns", "1.235 ms"]
    assert shown.texts["gap"][1:] == ["", "+1.23 ms"]


def test_a_page_needs_no_other_and_runs_nothing():
    page = ladder_page(ladder_of(step(1, 0)))
    tags = Parsed(page).tags
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags}
    assert not [
        name for _, attributes in tags for name in attributes if name.startswith("on") or name in ("src", "href")
    ]
    assert "http://" not in page
    assert "https://" not in page
    (policy,) = (each["content"] for _, each in tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_letters_for_a_projector_are_larger():
    small, large = (Parsed(ladder_page(ladder_of(step(1, 0), large=large))) for large in (False, True))
    assert ("html", {"lang": "en"}) in small.tags
    assert ("html", {"lang": "en", "class": "large"}) in large.tags


@pytest.mark.parametrize("to_scale", [False, True])
def test_it_opens_as_the_ladder_says(to_scale):
    tags = Parsed(ladder_page(ladder_of(step(1, 0), to_scale=to_scale))).tags
    checked = [attributes["id"] for _, attributes in tags if "checked" in attributes]
    assert checked == ["scaled" if to_scale else "even"]


def test_to_scale_distances_are_times_and_an_arrow_slants_by_the_transit():
    rows = (step(2, 0, other_copy=1, transit_ns=1_000), step(3, 2_000), step(4, 9_000, 1, 0))
    parsed = Parsed(ladder_page(ladder_of(*rows)))
    drawn = [each for _, each in parsed.tags if each.get("class") == "shaft" and each["y1"] != "50%"]
    leaves, arrives = ([float(each[key].rstrip("%")) for each in drawn] for key in ("y1", "y2"))
    assert leaves[1:] == arrives[1:]
    since_first_copy = [(y - leaves[0]) / (arrives[2] - leaves[0]) for y in arrives]
    assert since_first_copy == pytest.approx([0.1, 0.3, 1], abs=1e-3)


def test_copies_by_way_of_the_device_do_not_slant():
    ends = (Participant(name="a"), Participant(name="lo", kind="device"), Participant(name="b"))
    rows = (
        step(1, 0, 0, 1, other_copy=2, transit_ns=500),
        step(2, 500, 1, 2, other_copy=1, transit_ns=500),
    )
    parsed = Parsed(ladder_page(ladder_of(*rows, participants=ends)))
    assert parsed.all("shaft", "y1") == parsed.all("shaft", "y2")
    assert "frame 2, 500 ns later" in parsed.texts["panel"][0]
    assert "frame 1, 500 ns before" in parsed.texts["panel"][1]
    assert [text for text in parsed.texts["label"] if "transit" in text] == [parsed.texts["label"][1]]


def test_a_fold_unfolds_if_it_knows_its_packets_and_gaps_count_from_its_end():
    inside = tuple(step(number, 1_000 * number) for number in (2, 3, 4))
    known = Fold(
        packets=3,
        start_ns=START_NS + 2_000,
        end_ns=START_NS + 4_000,
        ways=((0, 1, 2, 1_500), (1, 0, 1, 0)),
        steps=inside,
    )
    for fold, frames in ((known, ["1", "2", "3", "4", "5"]), (replace(known, steps=()), ["1", "5"])):
        parsed = Parsed(ladder_page(ladder_of(step(1, 0), fold, step(5, 9_000))))
        assert [text.split("frame")[1].split("seen")[0] for text in parsed.texts["panel"][:-1]] == frames
        assert ("details" in {tag for tag, _ in parsed.tags}) == bool(fold.steps)
        why = "" if fold.steps else ": too many to unfold"
        assert parsed.texts["told"] == [f"⋮ 3 packets in 2.00 µs{why}"]
        assert parsed.texts["way"] == ["2 packets carried 1.50 kB", "1 packet carried 0 bytes"]
        assert parsed.texts["gap"][-1] == "+5.00 µs"


def test_one_packet_and_packets_at_the_same_time_have_a_place():
    for rows in ((step(1, 0),), (step(1, 0), step(2, 0))):
        parsed = Parsed(ladder_page(ladder_of(*rows)))
        assert all(0 <= y <= 100 for y in parsed.all("shaft", "y1"))


@given(st.text(max_size=40))
def test_what_others_wrote_is_text(said):
    def tags(word):
        ends = (Participant(name=word, note=word), Participant(name="b"))
        talk = step(1, 0, title=word, facts=(word,), payload=word, marks=(word,), protocol=word)
        return Parsed(ladder_page(ladder_of(talk, participants=ends, title=word, warnings=(word,))))

    ours, theirs = tags("x"), tags(f"x{said}")
    kept = [tag for tag, _ in theirs.tags if tag != "wbr"]
    assert kept == [tag for tag, _ in ours.tags if tag != "wbr"]
    printable = "".join(each if each.isprintable() else "·" for each in said)
    assert theirs.texts["said"] == [f"x{printable}"]
