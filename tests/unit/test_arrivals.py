"""Schedules: exact, or drawn as they should be; and what is said of one that was not kept."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.arrivals import due_times, lag, schedule
from lab.checks import MAX_COUNT
from lab.conditions import MAX_PERIOD_NS
from lab.records import UNSENT

POISSON = lab.Condition(arrivals="poisson", period_ns=50_000)


def test_periodic_is_exact_to_the_last_probe():
    for period_ns in (1, 33_333, MAX_PERIOD_NS):
        due = due_times(lab.Condition(arrivals="periodic", period_ns=period_ns), MAX_COUNT, 1)
        assert due.dtype == np.int64
        assert due[0] == 0
        assert int(due[-1]) == (MAX_COUNT - 1) * period_ns
        assert np.all(np.diff(due[-1000:]) == period_ns)


def test_poisson_gaps_have_the_mean_and_the_dispersion_of_the_exponential_distribution():
    due = due_times(POISSON, 200_001, 7)
    assert due[0] == 0
    gaps = np.diff(due)
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(50_000, rel=0.01)
    assert gaps.std() == pytest.approx(50_000, rel=0.02)
    assert np.mean(gaps > 50_000) == pytest.approx(np.exp(-1), rel=0.02)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.01  # no memory
    per_ms = np.bincount(due // 1_000_000)[:-1]
    assert per_ms.var() / per_ms.mean() == pytest.approx(1, abs=0.05)  # counts in equal windows are Poisson's


def test_a_seed_gives_one_schedule():
    first = due_times(POISSON, 1_000, 1)
    assert np.array_equal(first, due_times(POISSON, 1_000, 1))
    assert np.array_equal(first[:10], due_times(POISSON, 10, 1))
    assert not np.array_equal(first, due_times(POISSON, 1_000, 2))


def test_a_single_probe_is_due_at_once():
    assert due_times(POISSON, 1, 1).tolist() == [0]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ((None, None, None), ("closed", None)),
        (("closed", None, None), ("closed", None)),
        ((None, "10kpps", None), ("periodic", 100_000)),
        ((None, 20_000, None), ("periodic", 50_000)),
        ((None, 0.5, None), ("periodic", 2_000_000_000)),
        ((None, "30kpps", None), ("periodic", 33_333)),
        ((None, None, "2ms"), ("periodic", 2_000_000)),
        (("poisson", "1000Mpps", None), ("poisson", 1)),
    ],
)
def test_what_rate_and_interval_mean(asked, meant):
    assert schedule(*asked) == meant


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((None, "10kpps", "1ms"), "--rate 10kpps and --interval 1ms together: give one"),
        ((None, "fast", None), "'fast' is not a rate: give packets a second"),
        ((None, "0", None), "'0' is not a rate"),
        ((None, "1001Mpps", None), "below the clock's resolution (1 ns); give 1000Mpps or less"),
        ((None, None, "100"), "'100' is not a duration"),
    ],
)
def test_what_is_no_schedule(asked, said):
    with pytest.raises(lab.UsageError) as caught:
        schedule(*asked)
    assert said in str(caught.value)


def on_schedule(records, late_ns):
    """Probes that left so many ns after they were due, once every 100 µs."""
    made = records([5_000] * len(late_ns))
    made["due_ns"] = 1_000_000_000 + np.arange(len(late_ns)) * 100_000
    made["tx_ns"] = made["due_ns"] + late_ns
    return made


def test_a_stall_is_no_lag(records):
    late = np.full(1_000, 60)
    late[400:500] = np.linspace(10_000_000, 60, 100)  # 10 ms, made good
    assert lag(on_schedule(records, late), 100_000) is None


def test_falling_behind_is_told_with_both_rates(records):
    late = np.arange(1_000) * 100_000  # each takes twice its period
    text = lag(on_schedule(records, late), 100_000)
    assert "10,000/s were due and 5,000/s were sent" in text
    assert "give a lower --rate" in text


def test_a_constant_lag_is_told_too(records):
    assert "left 2.00 ms late or more" in lag(on_schedule(records, np.full(1_000, 2_000_000)), 100_000)


def test_too_few_probes_say_nothing(records):
    made = on_schedule(records, np.full(3, 2_000_000))
    made["status"][1:] = UNSENT
    assert lag(made, 100_000) is None
