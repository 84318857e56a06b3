from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.units import byte_count, duration, format_bytes, format_ns, format_pace, micros, packet_rate


@pytest.mark.parametrize(
    ("text", "ns"),
    [("5ms", 5_000_000), ("200us", 200_000), ("200µs", 200_000), ("2s", 2_000_000_000), ("1.5 s", 1_500_000_000),
     ("1ns", 1), ("1min", 60_000_000_000)],
)  # fmt: skip
def test_durations(text, ns):
    assert duration(text) == ns


@pytest.mark.parametrize("text", ["5", "", "ms", "5 minutes", "-5ms", "5e3ms", "0s", "0.1ns", "5ms x"])
def test_bad_durations_name_the_units(text):
    with pytest.raises(lab.UsageError, match="give"):
        duration(text)


@given(st.integers(1, 10**15))
def test_nanoseconds_survive(ns):
    assert duration(f"{ns}ns") == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [(None, "–"), (0, "0 ns"), (999, "999 ns"), (999.6, "1.00 µs"), (6_520, "6.52 µs"), (12_345, "12.3 µs"),
     (99_960, "100 µs"), (999_600, "1.00 ms"), (1.5e9, "1.50 s"), (-2_500, "-2.50 µs")],
)  # fmt: skip
def test_format(ns, text):
    assert format_ns(ns) == text


def test_micros():
    assert micros(1_050, sign=True) == "+1.05"
    assert micros(-1_050, sign=True) == "-1.05"
    assert micros(74_760) == "74.8"
    assert micros(None) == "–"


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20000", 20_000), ("10kpps", 10_000), ("1.5Mpps", 1_500_000), ("0.5 pps", 0.5), ("1000Mpps", 1_000_000_000)],
)
def test_packet_rates(text, rate):
    assert packet_rate(text) == rate


@pytest.mark.parametrize("text", ["", "pps", "0", "0.0kpps", "-1", "1e4", "10 kbit", "10KPPS"])
def test_bad_packet_rates_name_the_units(text):
    with pytest.raises(lab.UsageError, match=r"give packets a second \(pps, kpps, Mpps\)"):
        packet_rate(text)


@pytest.mark.parametrize(("period_ns", "text"), [(50_000, "20,000/s"), (33_333, "30,000/s"), (3e8, "3.33/s")])
def test_paces(period_ns, text):
    assert format_pace(period_ns) == text


@pytest.mark.parametrize(("text", "size"), [("64MiB", 67_108_864), ("1.5 kB", 1_500), ("1GB", 10**9), ("2KiB", 2_048)])
def test_sizes(text, size):
    assert byte_count(text) == size


@pytest.mark.parametrize("text", ["64", "", "MiB", "64 Mib", "-1MB", "0MB", "0.0001kB", 64])
def test_bad_sizes_name_the_units(text):
    with pytest.raises(lab.UsageError, match=r"give a number and a unit \(KiB, MiB"):
        byte_count(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (999.6, "1.00 kB"), (123_456, "123 kB"), (9_100_000_000, "9.10 GB"),
     (999_600, "1.00 MB"), (12 * 10**12, "12000 GB")],
)  # fmt: skip
def test_bytes(size, text):
    assert format_bytes(size) == text
