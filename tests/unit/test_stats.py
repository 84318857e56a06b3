"""The numbers in the table, against a second way to compute them."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import stats

delays = st.lists(st.integers(1, 10**10), min_size=1, max_size=200)


@given(delays)
def test_a_quantile_is_a_measured_value_with_its_share_below(values):
    array = np.array(values)
    for name in ("p50", "p90", "p99"):
        found = stats.quantile(array, name)
        level = stats.QUANTILES[name]
        assert found in values
        assert np.mean(array <= found) >= level - 1e-12
        assert np.mean(array < found) < level + 1e-12


def test_p999_needs_ten_samples_beyond_it():
    assert stats.quantile(np.arange(9_999), "p999") is None
    found = stats.quantile(np.arange(10_000), "p999")
    assert found is not None
    assert np.count_nonzero(np.arange(10_000) > found) == 10


@given(delays)
def test_summary_is_in_order(values):
    found = stats.summary(np.array(values))
    told = [found[name] for name in ("min", "p50", "p90", "p99", "max")]
    assert told == sorted(told)
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    assert found["p999"] is None


def test_summary_of_nothing_is_nothing():
    assert set(stats.summary(np.empty(0, np.int64)).values()) == {None}


def test_no_interval_under_five_rounds():
    assert stats.median_interval([1.0] * 4, seed=1) is None
    assert stats.median_interval([1.0] * 5, seed=1) == (1.0, 1.0)


def test_the_interval_is_reproducible_and_encloses_the_median():
    values = list(np.random.default_rng(0).normal(100, 5, 11))
    low, high = stats.median_interval(values, seed=7)
    assert (low, high) == stats.median_interval(values, seed=7)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Ten rounds, as by default: 95 % intervals of the median hold the true one in 90 to 99 % of 400 experiments."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(400):
        low, high = stats.median_interval(list(rng.lognormal(0, 0.5, 10)), seed)
        held += low <= 1.0 <= high
    assert 0.90 <= held / 400 <= 0.99


@given(delays)
def test_the_ecdf_of_few_values_is_exact(values):
    x, y = stats.ecdf(np.array(values))
    assert list(x) == sorted(values)
    assert y[-1] == 1
    assert np.all(np.diff(y) > 0)


def test_the_ecdf_of_many_values_keeps_body_and_tail():
    values = np.random.default_rng(1).lognormal(2, 1, 300_000)
    x, y = stats.ecdf(values, points=2_000)
    assert len(x) <= 2_100
    ordered = np.sort(values)
    assert np.array_equal(x[-3:], ordered[-3:])
    assert y == pytest.approx(np.searchsorted(ordered, x, side="right") / len(ordered))
    assert np.max(np.diff(y)) < 0.01


# ---- trends ----


def test_a_trend_is_found_with_its_size():
    change, p_value = stats.trend([100, 103, 101, 104, 106, 105, 108, 110, 109, 112], seed=1)
    assert change == pytest.approx(12, abs=2)
    assert p_value < 0.01
    assert stats.trend([112, 109, 110, 108, 105, 106, 104, 101, 103, 100], seed=1) == (pytest.approx(-change), p_value)


@pytest.mark.parametrize("values", [[], [5], [5, 5, 5, 5, 5, 5, 5, 5], [1, 2, 3]])
def test_too_little_shows_no_trend(values):
    assert stats.trend(values, seed=1)[1] > 0.05


def test_a_p_value_is_one():
    """Without a trend, it lies below p in a fraction p of all series."""
    rng = np.random.default_rng(7)
    below = [stats.trend(rng.normal(size=10), seed=i)[1] < 0.1 for i in range(1000)]
    assert 0.07 < np.mean(below) < 0.13


def test_a_long_series_is_thinned():
    change, p_value = stats.trend(np.arange(10_000), seed=1)
    assert change == pytest.approx(10_000, rel=0.01)
    assert p_value < 0.01
