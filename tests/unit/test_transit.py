"""Times through lo, from columns made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import lab
from lab.taps.transit import find_transit

IN, OUT = 1, 2


class File:
    """A capture file that was read, of two interfaces."""

    def __init__(self, columns, **more):
        self._columns = columns
        self.sources = [SimpleNamespace(name=name, dropped=0, os_dropped=None) for name in ("lo", "")]
        self.comments, self.fault = (), None
        vars(self).update(more)

    def columns(self, *names):
        return {name: self._columns[name] for name in names}


def test_linked_pairs_are_told_in_the_order_they_went_out(script):
    script.udp("client", direction=OUT, packet_id=2)
    script.udp("client", direction=OUT, packet_id=1, after=10)
    script.udp("client", direction=IN, packet_id=1, after=400)
    script.udp("client", direction=IN, packet_id=2, after=50)
    script.udp("client", direction=IN, packet_id=1, interface=1)  # another interface, other numbers
    script.udp("client", direction=OUT)
    script.udp("client", direction=IN, packet_id=3)
    script.udp("client", direction=OUT, packet_id=9, interface=1)
    script.udp("client", direction=IN, packet_id=9, interface=1, after=7)
    found = find_transit(File(script.columns()))
    document = found.to_json()
    assert [(row["interface"], row["packet_id"], row["transit_ns"]) for row in document["transits"]] == [
        ("lo", 2, 460),
        ("lo", 1, 400),
        ("1", 9, 7),
    ]
    assert [(row["out_frame"], row["in_frame"]) for row in document["transits"]] == [(1, 4), (2, 3), (8, 9)]
    assert (document["linked"], document["unlinked"]) == (3, {"in": 2, "out": 1})
    assert document["transit_ns"]["p50"] == 400
    assert document["warnings"] == []
    assert max(map(len, str(found).splitlines())) <= 80


def test_without_links_it_is_refused_with_the_way_to_get_them(script):
    script.udp("client", direction=OUT, packet_id=1)
    script.udp("client", direction=IN, packet_id=2)
    script.udp("client", direction=OUT)
    script.udp("client", direction=IN)
    with pytest.raises(lab.UsageError, match="--both-copies"):
        find_transit(File(script.columns()))


def test_what_gives_to_doubt_is_told(script):
    script.add(captured=60)
    script.udp("client", direction=OUT, packet_id=1, captured=60)
    script.udp("client", direction=IN, packet_id=1, after=-5, dropped=12)
    lo = SimpleNamespace(name="lo", dropped=None, os_dropped=30)
    warnings = find_transit(File(script.columns(), sources=[lo], fault="2 frames read, then: an end")).warnings
    for told in ("30 are missing", "of 1 frames the headers", "2 frames read, then", "before they went out (1)"):
        assert any(told in warning for warning in warnings), told
