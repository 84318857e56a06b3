"""Flows from columns made by hand: who is who, what is one flow, how it ended, what was sent again."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from lab.taps.conversations import find_conversations
from lab.taps.flows import Flows, flow_table
from lab.taps.frames import FRAME, HAS
from lab.taps.rtts import rtt_table
from lab.taps.sockdiag import Owner
from lab.taps.speakers import Speaker, endpoint, with_speakers
from lab.taps.transit import transit_table

IN, OUT = 1, 2


@pytest.fixture
def flows(script):
    """The rows of the flows of what the script says."""
    return lambda: flow_table(script.columns(), find_conversations(script.columns()), ["lo", "veth"]).to_dicts()


def again(row):
    return row["retransmissions_to_server"], row["retransmissions_to_client"], row["out_of_order"]


def test_no_frames_are_no_flows(script, flows):
    assert flows() == []
    script.add()  # of no IP packet
    assert flows() == []


def test_a_whole_connection(script, flows):
    script.handshake()
    script.tcp("client", "PA", 101, 501, payload=40)
    script.tcp("server", "PA", 501, 141, payload=1_000)
    script.tcp("client", "FA", 141, 1_501)
    script.tcp("server", "FA", 1_501, 142)
    script.tcp("client", "A", 142, 1_502)
    (row,) = flows()
    assert (row["client"], row["client_port"]) == script.client
    assert (row["server"], row["server_port"]) == script.server
    assert (row["interface"], row["family"], row["protocol"], row["state"]) == ("lo", script.family, "tcp", "closed")
    assert (row["start_ns"], row["duration_ns"]) == (1_001_000, 7_000)
    assert (row["frames_to_server"], row["frames_to_client"]) == (5, 3)
    assert (row["bytes_to_server"], row["bytes_to_client"]) == (500, 300)
    assert (row["payload_to_server"], row["payload_to_client"]) == (40, 1_000)
    assert again(row) == (0, 0, 0)
    assert (row["vlan"], row["icmp_id"], row["resets"], row["zero_windows"]) == (None, None, 0, 0)


STATES = {
    "syn-sent": [("client", "S", 100, 0)] * 2,
    "refused": [("client", "S", 100, 0), ("server", "RA", 0, 101)],
    "syn-received": [("client", "S", 100, 0), ("server", "SA", 500, 101)],
    "established": [("client", "S", 100, 0), ("server", "SA", 500, 101), ("client", "A", 101, 501)],
    "reset": [("client", "S", 100, 0), ("server", "SA", 500, 101), ("client", "R", 101, 0)],
    "half-closed": [("client", "A", 100, 500), ("client", "FA", 100, 500), ("server", "A", 500, 101)],
    "closed": [("client", "FA", 100, 500), ("server", "FA", 500, 101), ("client", "A", 101, 501)],
    "unknown": [("client", "A", 100, 500), ("server", "A", 500, 100)],
}


@pytest.mark.parametrize("state", STATES)
def test_states(script, flows, state):
    for segment in STATES[state]:
        script.tcp(*segment)
    (row,) = flows()
    assert (row["state"], row["resets"]) == (state, sum("R" in flags for _, flags, *_ in STATES[state]))


def test_whoever_answers_a_syn_is_the_server_though_it_was_seen_first(script, flows):
    script.tcp("server", "SA", 500, 101)
    script.tcp("client", "A", 101, 501)
    (row,) = flows()
    assert (row["client_port"], row["server_port"], row["state"]) == (40_000, 80, "established")


def test_whoever_asks_for_an_echo_is_the_client_though_the_reply_was_seen_first(script, flows):
    script.server = ("127.0.0.9" if script.family == 4 else "fe80::9", 80)
    script.echo("server", "reply", 1)
    script.echo("client", "request", 2)
    (row,) = flows()
    assert (row["client"], row["server"], row["frames_to_client"]) == (script.client[0], script.server[0], 1)


def test_a_port_that_is_used_again_is_another_flow(script, flows):
    script.tcp("server", "A", 9, 9)  # of a connection from before
    for seq in (100, 90_000):
        script.handshake(seq)
        script.udp("client")  # something else, between the same ports
        script.tcp("client", "S", seq)  # late, and no new attempt
    rows = flows()
    assert [(row["protocol"], row["frames_to_server"], row["state"]) for row in rows] == [
        ("tcp", 1, "unknown"),
        ("tcp", 3, "established"),
        ("udp", 2, None),
        ("tcp", 3, "established"),
    ]
    assert rows[0]["client_port"] == 80


def test_two_that_call_each_other_at_once_are_one_flow(script, flows):
    script.tcp("client", "S", 100)
    script.tcp("server", "S", 500)
    script.tcp("client", "SA", 100, 501)
    script.tcp("server", "SA", 500, 101)
    (row,) = flows()
    assert (row["client_port"], row["state"]) == (40_000, "established")


def test_only_what_comes_in_counts_where_both_copies_are_linked(script, flows):
    for number, sender in enumerate(["client", "server"], 1):
        script.udp(sender, direction=OUT, packet_id=number)
        script.udp(sender, direction=IN, packet_id=number)
    script.udp("client", direction=OUT)  # was never delivered
    script.udp("client", direction=OUT, interface=1)  # elsewhere there are no copies
    assert [(row["interface"], row["frames_to_server"], row["frames_to_client"]) for row in flows()] == [
        ("lo", 1, 1),
        ("veth", 1, 0),
    ]


def test_interfaces_protocols_and_vlans_are_kept_apart(script, flows):
    script.udp("client")
    script.udp("server", interface=1)
    script.udp("client", has=HAS["vlan"], vlan=0x2005)
    script.udp("client", has=HAS["vlan"], vlan=5)  # another priority, the same VLAN
    script.tcp("client", "A")
    assert [(row["interface"], row["protocol"], row["vlan"]) for row in flows()] == [
        ("lo", "udp", None), ("veth", "udp", None), ("lo", "udp", 5), ("lo", "tcp", None),
    ]  # fmt: skip


def test_echoes_are_flows_by_their_id_also_to_oneself(script, flows):
    for seq in range(3):
        for number in (7, 8):
            script.echo("client", "request", seq, number)
            script.echo("server", "reply", seq, number)
    rows = flows()
    assert [(row["icmp_id"], row["frames_to_server"], row["frames_to_client"]) for row in rows] == [
        (7, 3, 3),
        (8, 3, 3),
    ]
    assert {row["client_port"] for row in rows} == {None}


def test_later_fragments_belong_to_the_first(script, flows):
    ends = (script.client, script.server)
    ports = {"source_port": 40_000, "destination_port": 80}
    script.ip(*ends, 17, HAS["ports"] | HAS["fragment"], fragment_id=9, more_fragments=1, **ports)
    script.ip(*ends, 17, HAS["fragment"], fragment_id=9, fragment_offset=1_480)
    script.ip(*ends, 17, HAS["fragment"], fragment_id=10, fragment_offset=1_480)  # whose first was not seen
    assert [(row["client_port"], row["frames_to_server"]) for row in flows()] == [(40_000, 2), (None, 1)]


# ---- what was sent again ----


@pytest.fixture(params=[100, 2**32 - 700], ids=["from 100", "over the end of the numbers"])
def base(request):
    return request.param


def test_what_was_sent_again_is_told(script, flows, base):
    script.handshake(base)
    for at in (1, 501, 1_001, 501, 1_501, 1, 2_001):
        script.tcp("client", "A", base + at, 501, payload=500)
    assert again(flows()[0]) == (2, 0, 0)


def test_a_part_of_a_large_segment_sent_again_is_told(script, flows, base):
    script.handshake(base)
    script.tcp("client", "A", base + 1, 501, payload=60_000)
    script.tcp("client", "A", base + 1 + 1_448 * 5, 501, payload=1_448)
    assert again(flows()[0]) == (1, 0, 0)


def test_syn_and_fin_sent_again_are_told(script, flows):
    script.tcp("client", "S", 100)
    script.handshake()
    for _ in range(3):
        script.tcp("server", "FA", 501, 101)
    assert again(flows()[0]) == (1, 2, 0)


def test_a_gap_that_is_filled_at_once_is_disorder_and_later_a_repetition(script, flows, base):
    script.handshake(base)  # takes 2,000 ns
    for at in (1, 1_001, 501):
        script.tcp("client", "A", base + at, 501, payload=500)
    assert again(flows()[0]) == (0, 0, 1)
    for at, after in ((1_501, 10), (2_501, 10), (2_001, 2_100)):
        script.tcp("client", "A", base + at, 501, payload=500, after=after)
    assert again(flows()[0]) == (1, 0, 1)
    script.tcp("client", "A", base + 501, 501, payload=500)  # it was there already
    assert again(flows()[0]) == (2, 0, 1)


def test_a_keep_alive_is_no_repetition(script, flows):
    script.handshake()
    script.tcp("client", "A", 101, 501, payload=50)
    script.tcp("server", "A", 501, 151)
    script.tcp("client", "A", 150, 501, payload=1)  # as BSD does
    script.tcp("client", "A", 150, 501)  # as Linux does
    assert again(flows()[0]) == (0, 0, 0)
    script.tcp("client", "A", 151, 501, payload=1)
    script.tcp("client", "A", 151, 501, payload=1)  # what it repeats was not acknowledged
    assert again(flows()[0]) == (1, 0, 0)


def test_a_window_probe_is_no_repetition_nor_is_the_byte_that_follows(script, flows):
    script.handshake()
    script.tcp("client", "A", 101, 501, payload=50)
    script.tcp("server", "A", 501, 151, window=0)
    script.tcp("client", "A", 151, 501, payload=1)
    script.tcp("client", "A", 151, 501, payload=1)
    script.tcp("server", "A", 501, 151)
    script.tcp("client", "A", 151, 501, payload=50)
    (row,) = flows()
    assert again(row) == (0, 0, 0)
    assert row["zero_windows"] == 1


def test_a_reset_with_any_number_disturbs_nothing(script, flows):
    script.handshake()
    script.tcp("client", "A", 101, 501, payload=50)
    script.tcp("client", "R", 0)
    script.tcp("client", "A", 151, 501, payload=50)
    assert again(flows()[0]) == (0, 0, 0)


def test_flows_lie_in_the_order_of_their_first_frames_and_sum_up_to_all(script):
    """Random frames of few endpoints: each in one flow, and each flow whole."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        script.client = (script.client[0], int(rng.integers(40_000, 40_004)))
        sender = ("client", "server")[rng.integers(2)]
        flags = ("S", "SA", "A", "FA", "R")[rng.integers(5)]
        script.tcp(sender, flags, *map(int, rng.integers(0, 2**32, 2)), payload=int(rng.integers(3)))
    columns = script.columns()
    found = find_conversations(columns)
    table = flow_table(columns, found, ["lo"])
    assert sorted(found.rows) == list(range(300))
    assert np.all(np.diff(found.rows[found.first[:-1]]) > 0)
    assert table.select(pl.sum_horizontal("frames_to_server", "frames_to_client").sum()).item() == 300
    assert table["flow"].to_list() == list(range(len(table)))
    for begin, end in zip(found.first[:-1], found.first[1:], strict=True):
        ports = np.stack([columns[f"{name}_port"][found.rows[begin:end]] for name in ("source", "destination")])
        assert len(np.unique(np.sort(ports, axis=0), axis=1).T) == 1
        assert np.all(np.diff(found.rows[begin:end]) > 0)


def test_any_columns_at_all_are_taken():
    """What a hostile file may hold: each frame that counts is in one flow, and nothing is raised."""
    rng = np.random.default_rng(2)
    for size in range(100):
        rows = np.frombuffer(rng.bytes(size * FRAME.itemsize), FRAME).copy()
        rows["interface"] %= 2
        rows["direction"] %= 3
        rows["packet_id"] %= 8
        rows["family"] = rng.choice([4, 6], size)
        if size % 2:  # of few flows, with segments that overlap
            for name in ("source", "destination", "source_port", "destination_port", "vlan"):
                rows[name] %= 2
            rows["has"] = HAS["ip"] | HAS["ports"] | HAS["tcp"] | HAS["payload"] | HAS["timestamps"]
            rows["protocol"], rows["tcp_flags"] = 6, 16
            for name in ("tcp_seq", "tcp_ack", "payload_length"):
                rows[name] %= 2_000
        columns = {name: np.ascontiguousarray(rows[name]) for name in FRAME.names}
        found = find_conversations(columns)
        assert len(np.unique(found.rows)) == len(found.rows) == found.first[-1]
        json.dumps(Flows(with_speakers(flow_table(columns, found, ["a", "b"]), []), ()).to_json())
        assert rtt_table(columns, found)["flow"].is_between(0, len(found.first) - 2).all()
        assert transit_table(columns, ["a", "b"])["packet_id"].is_between(1, 7).all()


def test_it_shows_itself_and_converts(script):
    script.handshake()
    script.udp("server", payload=1_234_567)
    columns = script.columns()
    speaker = Speaker("udp", endpoint(*script.server), "*", Owner(12, "na\x1bme"), 0, 2**62)
    table = with_speakers(flow_table(columns, find_conversations(columns), ["lo"]), [speaker])
    flows = Flows(table, ("something is wrong",))
    text = str(flows)
    assert f"{endpoint(*script.server)} (na�me 12) → {endpoint(*script.client)}" in text
    assert "1,234,567" in text
    assert text.endswith("warning: something is wrong")
    assert max(map(len, text.splitlines())) <= 80
    assert flows.to_json()["flows"][1]["client_process"] == "na\x1bme"
    assert list(flows.to_pandas()["client_pid"].isna()) == [True, False]
