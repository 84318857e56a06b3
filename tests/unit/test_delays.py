"""What lies between stamps, with records whose delays are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lab
from lab import delays
from lab.records import LOST, RECEIVED, RECORD, STAMPS
from lab.streams import Cpus

#: CLOCK_REALTIME less CLOCK_MONOTONIC: as large as it is, so that a float in between would show.
OFFSET_NS = 1_790_000_000_123_456_789
REFLECTED = {
    "user→qdisc": 1_370, "qdisc→device": 350, "device→far stack": 400, "far stack→far user": 900, "far user": 60,
    "far user→qdisc": 1_200, "far qdisc→device": 340, "device→near stack": 410, "near stack→user": 870,
}  # fmt: skip
REPLIED = {"user→qdisc": 1_370, "qdisc→device": 350, "device→reply": 1_970, "reply→user": 800}


#: The stamp that ends each of them.
ENDS = (
    "near_sched_real_ns", "near_soft_real_ns", "far_rx_real_ns", "far_rx_ns", "far_tx_ns", "far_sched_real_ns",
    "far_soft_real_ns", "near_rx_real_ns", "rx_ns",
)  # fmt: skip


def planted(stages, count=3):
    """Records and stamps of probes whose stages take so long, each probe 10 ns longer in every stage than the last."""
    rows, stamps = np.zeros(count, RECORD), np.zeros(count, STAMPS)
    rows["status"] = RECEIVED
    ends = ENDS if stages is REFLECTED else [ENDS[i] for i in (0, 1, 7, 8)]
    now = rows["due_ns"] = rows["tx_ns"] = 1_000_000_000 + np.arange(count) * 100_000
    for end, took in zip(ends, stages.values(), strict=True):
        now = now + took + 10 * np.arange(count)
        if end.endswith("real_ns"):
            stamps[end] = now + OFFSET_NS
        else:
            rows[end] = now
    return rows, stamps


@pytest.fixture
def stream():
    def build(rows, stamps=None, **condition):
        return lab.Stream(
            condition=lab.Condition(**condition), records=rows, foreign=0, reply_source="127.0.0.1", reply_ttl=64,
            socket_kind="udp", cpus=Cpus(0, None), started_ns=0, ended_ns=1, stamps=stamps,
            clock_offset_ns=None if stamps is None else OFFSET_NS,
        )  # fmt: skip

    return build


@pytest.mark.parametrize("stages", [REFLECTED, REPLIED], ids=["reflected", "replied"])
def test_stages_are_found_in_order_and_leave_nothing_out(stages):
    rows, stamps = planted(stages)
    found = delays.stages_ns(rows, stamps, OFFSET_NS)
    assert list(found) == list(stages)
    assert {name: each.tolist() for name, each in found.items()} == {
        name: [took, took + 10, took + 20] for name, took in stages.items()
    }
    assert np.array_equal(sum(found.values()), delays.rtt_ns(rows))


def test_a_probe_that_lacks_a_stamp_is_left_out(stream):
    rows, stamps = planted(REFLECTED, 4)
    stamps["far_soft_real_ns"][1] = 0
    rows["status"][2] = LOST
    found = stream(rows, stamps, probe="udp", stages=True)
    assert found.stages_ns["user→qdisc"].tolist() == [1_370, 1_400]
    assert found.stages_complete == pytest.approx(2 / 3)


def test_the_acknowledgement_is_beside_the_stages():
    rows, stamps = planted(REFLECTED)
    stamps["ack_real_ns"][1:] = rows["tx_ns"][1:] + OFFSET_NS + 5_000
    assert delays.ack_ns(rows, stamps, OFFSET_NS).tolist() == [5_000, 5_000]


def test_each_way_has_its_delay_and_its_variation(stream):
    """Ways of 1, 4, (lost), 2, 9 µs there, and 2 µs back; the reflector takes 1 µs."""
    there = np.array([1_000, 4_000, 0, 2_000, 9_000])
    rows, _ = planted(REFLECTED, 5)
    rows["far_rx_ns"] = rows["tx_ns"] + there
    rows["far_tx_ns"] = rows["far_rx_ns"] + 1_000
    rows["rx_ns"] = rows["far_tx_ns"] + 2_000
    rows["status"][2] = LOST
    found = stream(rows, probe="udp")
    assert found.one_way_ns["near_to_far"].tolist() == [1_000, 4_000, 2_000, 9_000]
    assert found.one_way_ns["far_to_near"].tolist() == [2_000] * 4
    assert found.ipdv_ns["near_to_far"].tolist() == [3_000, 7_000]  # none over the probe that was lost
    assert found.pdv_ns["near_to_far"].tolist() == [0, 3_000, 1_000, 8_000]
    assert found.pdv_ns["far_to_near"].tolist() == [0] * 4


def test_where_the_kernel_replies_there_are_no_ways(stream):
    rows, stamps = planted(REPLIED)
    found = stream(rows, stamps, stages=True)
    assert found.one_way_ns == found.ipdv_ns == found.pdv_ns == {}
    document = found.to_json()
    assert document["one_way_ns"] is document["ipdv_ns"] is document["pdv_ns"] is None


def test_of_no_probes_at_all(stream):
    rows, stamps = planted(REFLECTED)
    rows["status"] = LOST
    document = stream(rows, stamps, probe="udp", stages=True).to_json()
    assert document["stages"]["complete"] is None
    assert document["one_way_ns"] is None
    assert all(summary["p50"] is None for summary in document["stages_ns"].values())


def test_json_with_stages(stream):
    rows, stamps = planted(REFLECTED)
    document = stream(rows, stamps, probe="tcp", stages=True).to_json()
    assert list(document["stages_ns"]) == list(REFLECTED)
    assert sum(summary["p50"] for summary in document["stages_ns"].values()) == document["rtt_ns"]["p50"]
    assert document["stages"] == {"complete": 1.0, "cost_ns": None, "ack_ns": dict.fromkeys(document["rtt_ns"])}
    assert document["clock"]["realtime_offset_ns"] == OFFSET_NS
    assert stream(rows, probe="tcp").to_json()["stages"] is None


def test_response_and_lateness_on_a_schedule(stream):
    """The second probe should have left 70 µs before it did."""
    rows, _ = planted(REFLECTED)
    rows["due_ns"][1] -= 70_000
    found = stream(rows, probe="udp", arrivals="periodic", period_ns=100_000)
    assert found.lateness_ns.tolist() == [0, 70_000, 0]
    assert (found.response_ns - found.rtt_ns).tolist() == [0, 70_000, 0]
    document = found.to_json()
    assert document["response_ns"]["max"] - document["rtt_ns"]["max"] > 50_000
    assert document["lateness_ns"]["max"] == 70_000
    assert document["schedule"]["rate_pps"] == document["schedule"]["achieved_pps"] == 10_000
    closed = stream(rows, probe="udp").to_json()
    assert closed["response_ns"] is closed["lateness_ns"] is closed["schedule"] is None


def test_a_study_s_columns_serve_as_well(stream):
    rows, stamps = planted(REFLECTED)
    table = stream(rows, stamps, probe="udp", stages=True).to_polars().fill_null(0)
    columns = {name: table[name].to_numpy() for name in table.columns}
    found = delays.stages_ns(columns, columns, OFFSET_NS)
    assert [each.tolist() for each in found.values()] == [[took, took + 10, took + 20] for took in REFLECTED.values()]


def test_the_text_shows_stages_that_sum_up_to_the_round_trip(stream):
    rows, stamps = planted(REFLECTED)
    found = replace(stream(rows, stamps, probe="udp", stages=True), stamping_cost_ns=(512.0, 480.0, 610.0))
    lines = str(found).splitlines()
    shown = {line.rsplit(maxsplit=3)[0]: float(line.split()[-3]) for line in lines if line.startswith(tuple(REFLECTED))}
    assert list(shown) == list(REFLECTED)
    assert sum(shown.values()) == pytest.approx(found.to_json()["rtt_ns"]["p50"] / 1000)
    assert "sum of medians 5.99 µs, 100.0% of the median round trip" in lines
    assert "100.00% of the probes have every stamp" in lines
    assert "taking them adds 512 ns (480 ns to 610 ns) to the p50 of a round trip" in lines
    assert [line.split()[0] for line in lines if line.startswith(("near→far", "far→near"))] == ["near→far", "far→near"]
    assert max(map(len, lines)) <= 80


def test_the_text_shows_response_and_lateness(stream):
    rows, _ = planted(REFLECTED, 12_000)
    found = stream(rows, probe="udp", arrivals="poisson", period_ns=50_000)
    lines = str(replace(found, seed=2**32 - 1)).splitlines()
    assert lines[1] == "poisson: 20,000/s asked, 10,000/s achieved, seed 4294967295"
    assert [line.split()[0] for line in lines[4:7]] == ["rtt", "response", "lateness"]
    assert max(map(len, lines)) <= 80
    assert "10us between the end of a probe and the next" in str(stream(rows, probe="udp", think_ns=10_000))
