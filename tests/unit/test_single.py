"""What rtt and compare make of their options, and of what a stream shows."""

from __future__ import annotations

import os

import numpy as np
import pytest

import lab
from lab.cpus import assigned, parse_cpus
from lab.overhead import stamping_cost
from lab.plan import Experiment
from lab.records import STAMPS
from lab.single import stream_doubts, timing
from lab.streams import Cpus


@pytest.fixture
def stream(records):
    def build(rtts, stamps=None, step_ns=0, **condition):
        return lab.Stream(
            condition=lab.Condition(**condition), records=records(rtts), foreign=0, reply_source=None, reply_ttl=None,
            socket_kind="udp", cpus=Cpus(0, None), started_ns=0, ended_ns=1, stamps=stamps, clock_offset_ns=0,
            clock_step_ns=step_ns,
        )  # fmt: skip

    return build


@pytest.fixture
def two_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {2, 5, 7})


@pytest.mark.parametrize(
    ("asked", "placement", "given"),
    [
        ("5", "inline", (5,)),
        ([5], "same-cpu", (5,)),
        ("5,2", "cross-cpu", (5, 2)),
        ("5, 2, 7", "cross-cpu", (5, 2, 7)),
        ("5,5,2", "inline", (5, 5, 2)),
        ("5", None, (5,)),
        ("5,2", None, (5, 2)),
    ],
)
def test_cpus(two_cpus, asked, placement, given):
    assert parse_cpus(asked, placement) == given


@pytest.mark.parametrize(
    ("asked", "placement", "said"),
    [
        ("3", "inline", "CPU '3' is not among those that this process may use: 2, 5, 7"),
        ("", "inline", "CPU '' is not among those"),
        ("-1", "inline", "CPU '-1' is not among those"),
        ("2,5", "inline", "inline is on one CPU: give --cpus 2, or --placement cross-cpu"),
        ("2", "cross-cpu", "give two different ones, NEAR,FAR, of 2, 5, 7"),
        ("2,2", "cross-cpu", "give two different ones"),
        ("2,5,7,2", "cross-cpu", "4 CPUs: give one each for the near end, the far end, the wire"),
    ],
)
def test_cpus_refused(two_cpus, asked, placement, said):
    with pytest.raises(lab.UsageError) as caught:
        parse_cpus(asked, placement)
    assert said in str(caught.value)


def test_whose_cpus_they_are():
    inline, cross = lab.Condition(), lab.Condition(probe="udp", placement="cross-cpu")
    same = lab.Condition(probe="udp", placement="same-cpu")
    assert assigned((5, 2), inline, wired=False) == Cpus(5, None)
    assert assigned((5,), same, wired=True) == Cpus(5, 5, 5)
    assert assigned((5, 2), cross, wired=False) == Cpus(5, 2)
    assert assigned((5, 2, 7), cross, wired=True) == Cpus(5, 2, 7)
    with pytest.raises(lab.UsageError, match="give --cpus NEAR,FAR,WIRE, or --wait block"):
        assigned((5,), lab.Condition(wait="spin"), wired=True)
    with pytest.raises(lab.Unavailable, match=r"between two CPUs, and --cpus 5 is one. Give NEAR,FAR"):
        assigned((5,), cross, wired=False)


def test_options_as_fields():
    assert timing(None, None, "20kpps", None, None, {}) == {
        "timeout_ns": 1_000_000_000, "arrivals": "periodic", "period_ns": 50_000, "think_ns": 0,
    }  # fmt: skip
    assert timing("20ms", None, None, None, "5us", {})["think_ns"] == 5_000
    with pytest.raises(lab.UsageError, match="below the resolution of this machine's clock"):
        timing(None, None, None, "1ns", None, {})
    with pytest.raises(lab.UsageError, match="give interval, such as interval='5ms'"):
        lab.rtt("lo", period_ns=5)


def test_what_knows_no_schedule_or_stages_is_measured_without():
    experiment = Experiment(links=("lo", "pipe", "shm"), arrivals="poisson", period_ns=50_000, stages=True)
    found = {c.probe: (c.arrivals, c.period_ns, c.stages) for c in experiment.conditions()}
    assert found["udp"] == ("poisson", 50_000, True)
    assert found["pipe"] == ("poisson", 50_000, False)
    assert found["shm"] == ("closed", None, False)
    assert experiment.notes() == ["always sent back to back: shm"]
    assert Experiment(links=("lo", "shm")).notes() == []


def test_a_schedule_takes_its_own_time():
    slow = Experiment(links=("lo",), arrivals="periodic", period_ns=10_000_000, count=100, warmup=0, rounds=1)
    assert slow.expected_s() > 2 * 6 * 100 * 0.01


def test_nothing_to_doubt(stream):
    assert stream_doubts(stream([5_000] * 10)) == []


def test_a_clock_that_was_set_is_told(stream):
    (text,) = stream_doubts(stream([5_000], step_ns=-2_000_000))
    assert "the clock was set by -2.00 ms" in text
    assert text.endswith("measure again")


def test_missing_stamps_are_told(stream):
    stamps = np.ones(10, STAMPS)
    stamps["near_soft_real_ns"][0] = 0
    (text,) = stream_doubts(stream([5_000] * 10, stamps, stages=True))
    assert "only 90.0% of the probes have every stamp" in text


def test_the_cost_of_stamps_is_a_difference_within_pairs(stream):
    """Each pair is 10 µs slower than the last; stamps add 500 ns. In turn, either goes first. All are closed-loop."""
    sent = []

    def send(condition, count, _warmup):
        sent.append((condition.arrivals, condition.stages, count))
        pair = (len(sent) - 1) // 2
        return stream([6_000 + 10_000 * pair + 500 * condition.stages] * count)

    condition = lab.Condition(arrivals="periodic", period_ns=1_000, stages=True)
    assert stamping_cost(condition, 1_000_000, send) == (500, 500, 500)
    plain, staged = ("closed", False, 100), ("closed", True, 100)
    assert sent == [plain, staged, staged, plain] * 2 + [plain, staged]


@pytest.mark.parametrize(("typical_ns", "counts"), [(1_000, {500}), (5_000_000, {20}), (5_000_001, set())])
def test_the_cost_of_stamps_is_found_in_bounded_time(stream, typical_ns, counts):
    sent = set()

    def send(_condition, count, _warmup):
        sent.add(count)
        return stream([None] * count)

    assert stamping_cost(lab.Condition(stages=True), typical_ns, send) is None
    assert sent == counts
