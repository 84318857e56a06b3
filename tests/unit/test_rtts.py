"""Round trips from columns made by hand: which answer is of which request, and which tells nothing."""

from __future__ import annotations

import pytest

from lab.taps.conversations import find_conversations
from lab.taps.rtts import Rtts, rtt_table

IN, OUT = 1, 2


@pytest.fixture
def rtts(script):
    """The rows of the script's round trips, as (kind, seq, rtt_ns, retransmitted)."""

    def find(*kinds):
        table = rtt_table(script.columns(), find_conversations(script.columns()))
        rows = table.select("kind", "seq", "rtt_ns", "retransmitted").rows()
        return [row for row in rows if row[0] in kinds] if kinds else rows

    return find


def test_no_frames_have_no_round_trips(script, rtts):
    assert rtts() == []
    script.add()
    assert rtts() == []


def test_echoes_are_told_by_id_number_and_side(script, rtts):
    script.echo("client", "request", 1)
    script.echo("client", "request", 2)
    script.echo("client", "request", 1, number=8)
    script.echo("server", "reply", 2)
    script.echo("server", "reply", 1)
    script.echo("server", "reply", 1)  # only the first counts
    script.echo("server", "reply", 5)  # to what was not seen
    assert rtts() == [("echo", 1, 4_000, False), ("echo", 2, 2_000, False), ("echo", 1, None, False)]


def test_a_number_that_comes_again_is_another_request(script, rtts):
    for wait in (10, 20):
        script.echo("client", "request", 65_535)
        script.echo("server", "reply", 65_535, after=wait)
    script.echo("client", "request", 65_535)
    assert [row[2] for row in rtts()] == [10, 20, None]


def test_both_sides_may_ask_with_the_same_id(script, rtts):
    script.server = ("127.0.0.9" if script.family == 4 else "fe80::9", 80)
    script.echo("client", "request", 1)
    script.echo("server", "request", 1, after=10)
    script.echo("client", "reply", 1, after=20)
    script.echo("server", "reply", 1, after=40)
    assert [row[2] for row in rtts()] == [70, 20]


def test_on_lo_a_round_trip_is_from_delivery_to_delivery(script, rtts):
    for number, (sender, kind) in enumerate([("client", "request"), ("server", "reply")], 1):
        script.echo(sender, kind, 1, direction=OUT, packet_id=number, after=5)
        script.echo(sender, kind, 1, direction=IN, packet_id=number, after=400)
    assert rtts() == [("echo", 1, 405, False)]


@pytest.mark.parametrize("base", [100, 2**32 - 20])
def test_a_connection(script, rtts, base):
    script.tcp("client", "S", base)
    script.tcp("server", "SA", 500, base + 1, after=10)
    script.tcp("client", "A", base + 1, 501, after=20)
    script.tcp("client", "PA", base + 1, 501, payload=50)
    script.tcp("server", "A", 501, base + 51, after=30)
    script.tcp("client", "FA", base + 51, 501)
    script.tcp("server", "A", 501, base + 52, after=40)
    seqs = [base % 2**32, 500, (base + 1) % 2**32, (base + 51) % 2**32]
    assert rtts() == [
        ("syn", seqs[0], 10, False),
        ("syn-ack", seqs[1], 20, False),
        ("data", seqs[2], 30, False),
        ("fin", seqs[3], 40, False),
    ]


def test_a_refusal_is_an_answer(script, rtts):
    script.tcp("client", "S", 100)
    script.tcp("server", "RA", 0, 101, after=10)
    assert rtts() == [("syn", 100, 10, False)]


def test_one_acknowledgement_answers_all_that_it_covers_and_none_of_the_rest(script, rtts):
    script.handshake()
    for at in (101, 201, 301):
        script.tcp("client", "A", at, 501, payload=100, after=10)
    script.tcp("server", "A", 501, 250, after=10)  # not all of the second
    script.tcp("server", "A", 501, 301, after=10)
    script.tcp("server", "A", 501, 301, after=10)
    assert rtts("data") == [("data", 101, 30, False), ("data", 201, 30, False), ("data", 301, None, False)]


def test_what_was_sent_twice_tells_nothing_nor_does_what_waited_for_it(script, rtts):
    script.handshake()
    for at in (101, 201, 301, 401, 201):
        script.tcp("client", "A", at, 501, payload=100, after=10)
        if at == 101:
            script.tcp("server", "A", 501, 201, after=5)
    script.tcp("server", "A", 501, 501, after=10)
    script.tcp("client", "A", 501, 501, payload=100, after=10)
    script.tcp("server", "A", 501, 601, after=5)
    assert rtts("data") == [
        ("data", 101, 5, False),
        ("data", 201, None, True),
        ("data", 301, None, False),
        ("data", 401, None, False),
        ("data", 201, None, True),
        ("data", 501, 5, False),
    ]


def test_a_large_segment_of_which_a_part_was_sent_again_tells_nothing(script, rtts):
    script.handshake()
    script.tcp("client", "A", 101, 501, payload=10_000)
    script.tcp("client", "A", 10_101, 501, payload=100)
    script.tcp("client", "A", 1_101, 501, payload=1_000)
    script.tcp("server", "A", 501, 10_101, after=10)
    script.tcp("server", "A", 501, 10_201, after=10)
    assert rtts("data") == [
        ("data", 101, None, True),
        ("data", 10_101, 1_020, False),
        ("data", 1_101, None, True),
    ]


def test_a_syn_sent_again_tells_nothing(script, rtts):
    script.tcp("client", "S", 100)
    script.handshake()
    assert [(kind, rtt_ns, again) for kind, _, rtt_ns, again in rtts()] == [
        ("syn", None, True),
        ("syn", None, True),
        ("syn-ack", 1_000, False),
    ]


def test_streams_are_not_mixed_up(script, rtts):
    """Two connections with the same numbers at the same time."""
    for flags, sender, seq, ack in (("S", "client", 100, 0), ("SA", "server", 500, 101), ("A", "client", 101, 501)):
        for port, after in ((40_000, 10), (40_001, 3)):
            script.client = (script.client[0], port)
            script.tcp(sender, flags, seq, ack, after=after)
    script.tcp("client", "A", 101, 501, payload=10)  # of the second alone
    script.tcp("server", "A", 501, 111, after=7)
    assert [row[2] for row in rtts()] == [13, 13, 13, 13, 7]


# ---- timestamps ----


def test_a_timestamp_is_answered_by_its_first_echo(script, rtts):
    script.tcp("client", "A", 100, 500, payload=10, stamps=(7, 3))
    script.tcp("client", "A", 110, 500, payload=10, stamps=(7, 3), after=10)  # in the same tick
    script.tcp("server", "A", 500, 110, stamps=(4, 7), after=10)
    script.tcp("server", "A", 500, 120, stamps=(4, 7), after=10)
    assert rtts("timestamp") == [("timestamp", 7, 20, False)]


def test_what_only_acknowledges_asks_for_no_echo(script, rtts):
    script.tcp("client", "A", 100, 500, stamps=(7, 3))
    script.tcp("client", "A", 100, 500, payload=10, stamps=(7, 3))  # an echo may be of the one before
    script.tcp("server", "A", 500, 110, stamps=(4, 7))
    assert rtts("timestamp") == []


def test_timestamps_tell_a_repetition_from_the_first_but_not_within_a_tick(script, rtts):
    script.tcp("client", "A", 100, 500, payload=10, stamps=(7, 3))
    script.tcp("client", "A", 100, 500, payload=10, stamps=(8, 3))
    script.tcp("server", "A", 500, 110, stamps=(4, 8), after=10)
    script.tcp("client", "A", 110, 500, payload=10, stamps=(9, 3))
    script.tcp("client", "A", 110, 500, payload=10, stamps=(9, 3))
    script.tcp("server", "A", 500, 120, stamps=(4, 9))
    assert rtts("timestamp") == [
        ("timestamp", 7, None, False),
        ("timestamp", 8, 10, True),
        ("timestamp", 9, None, True),
    ]


def test_it_shows_itself_and_converts(script):
    for seq, wait in enumerate([100, 300, 200]):
        script.echo("client", "request", seq)
        script.echo("server", "reply", seq, after=wait)
    script.echo("client", "request", 9)
    found = Rtts(rtt_table(script.columns(), find_conversations(script.columns())), ("something <is> wrong",))
    document = found.to_json()
    assert document["rtt_ns"]["echo"]["p50"] == 200
    assert (document["rtt_ns"]["echo"]["requests"], document["rtt_ns"]["echo"]["answered"]) == (4, 3)
    assert [row["rtt_ns"] for row in document["samples"]] == [100, 300, 200, None]
    assert "echo" in str(found)
    assert str(found).endswith("warning: something <is> wrong")
    assert "&lt;is&gt;" in found._repr_html_()
    assert max(map(len, str(found).splitlines())) <= 80
    assert found.to_pandas()["rtt_ns"].isna().sum() == 1
