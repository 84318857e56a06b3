"""What a stream says of itself, with records made by hand."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.display import histogram
from lab.records import FLAGS, LATE
from lab.streams import Cpus


@pytest.fixture
def stream(records):
    def build(rtts, **condition):
        return lab.Stream(
            condition=lab.Condition(**condition),
            records=records(rtts),
            foreign=0,
            reply_source="127.0.0.1",
            reply_ttl=64,
            socket_kind="icmp-raw",
            cpus=Cpus(0, None),
            started_ns=0,
            ended_ns=1,
        )

    return build


@pytest.mark.parametrize("delays", [[6_500], [6_500] * 10, [6_500, 6_501, 6_502], [1], [1, 2], list(range(1, 5_000))])
def test_a_histogram_holds_every_delay(delays):
    lines = histogram(np.array(delays))
    assert sum(int(line.split()[-1]) for line in lines) == len(delays)
    assert max(map(len, lines)) <= 80


def test_a_histogram_of_nothing():
    assert histogram(np.empty(0, np.int64)) == []


def test_counts_and_figures(stream):
    found = stream([5_000, None, 7_000, -2_000_000_000])
    assert (found.sent, found.received, found.lost, found.late, found.unsent) == (4, 2, 2, 1, 0)
    assert found.rtt_ns.tolist() == [5_000, 7_000]
    assert found.lost_seq.tolist() == [1, 3]
    assert found.to_json()["rtt_ns"]["mean"] == 6_000


def test_the_inline_fraction_is_one_of_received_probes(stream):
    """A late reply may have been answered inline as well; it does not count."""
    found = stream([5_000, -2_000_000_000, -2_000_000_000, 6_000])
    assert (found.records["status"] == LATE).sum() == 2
    found.records["flags"] |= FLAGS["inline"]
    assert found.inline_fraction == 1.0
    found.records["flags"][0] = 0
    assert found.inline_fraction == 0.5


def test_the_text_fits_and_shows_itself(stream):
    found = stream([5_000, 6_000, None])
    assert str(found) == repr(found)
    assert "3 sent, 2 received, 1 lost" in str(found)
    assert "1 lost" in found._repr_html_()
    assert max(map(len, str(found).splitlines())) <= 80
