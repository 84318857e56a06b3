"""How an impairment is written, what contradicts itself, and that it is written as it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab
from lab.impairments import CUTS, DISTRIBUTIONS, KEYS, MEANS, Impairment, parse_impairment
from lab.units import format_duration


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("delay=5ms", "delay_ns", 5_000_000),
        ("delay=250us", "delay_ns", 250_000),
        ("delay=5ms,ipdv=1ms", "ipdv_ns", 1_000_000),
        ("delay=5ms,ipdv=1ms,dist=normal", "dist", "normal"),
        ("delay=1ms,ipdv=5ms,cut=redraw", "cut", "redraw"),
        ("ipdv=5ms,dist=pareto", "ipdv_ns", 5_000_000),  # never below zero, so it needs no cut
        ("loss=1%", "loss", 0.01),
        ("loss=0.25%", "loss", 0.0025),
        ("loss=100%", "loss", 1.0),
        ("loss=ge:1%:30%", "burst", (0.01, 0.3, 1.0, 0.0)),
        ("loss=ge:1%:30%:80%:2%", "burst", (0.01, 0.3, 0.8, 0.02)),
        ("duplicate=2%", "duplicate", 0.02),
        ("delay=1ms,reorder=25%", "reorder", 0.25),
        ("corrupt=0.1%", "corrupt", 0.001),
        ("rate=100Mbit", "rate_bps", 100_000_000),
        ("limit=7", "limit", 7),
        ("seed=7", "seed", 7),
        ("by=wire", "by", "wire"),
        (" delay=5ms , loss=1% ", "loss", 0.01),
    ],
)
def test_each_key_sets_its_field(text, field, value):
    assert getattr(parse_impairment(text), field) == value


@pytest.mark.parametrize("text", ["loss=7%,seed=1", "loss=0.1%,seed=1", "loss=ge:1%:30%:100%:0%,seed=1", "seed=1"])
def test_it_is_written_as_a_user_writes_it(text):
    assert str(parse_impairment(text)) == text


def test_what_is_not_given_stays_as_by_default():
    assert parse_impairment("delay=5ms,seed=3") == Impairment(delay_ns=5_000_000, seed=3)


def test_without_a_seed_one_is_drawn_and_kept():
    drawn = [parse_impairment("loss=1%").seed for _ in range(8)]
    assert len(set(drawn)) > 1
    assert f"seed={drawn[0]}" in str(Impairment(loss=0.01, seed=drawn[0]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "impairment '': give key=value, of delay, ipdv, "),
        ("delay", "impairment 'delay': give key=value"),
        ("delay=5ms,", "impairment '': give key=value"),
        ("latency=5ms", "impairment 'latency=5ms': give key=value, of delay, ipdv, "),
        ("delay_ns=5", "give key=value, of delay, ipdv, "),
        ("delay=5", "impairment 'delay=5' cannot be read: write it as in delay=5ms"),
        ("delay=-5ms", "impairment 'delay=-5ms' cannot be read: write it as in delay=5ms"),
        ("loss=0.5", "impairment 'loss=0.5' cannot be read: write it as in loss=1%"),
        ("loss=nan%", "impairment 'loss=nan%' cannot be read: write it as in loss=1%"),
        ("loss=150%", "loss=150%: give 0% to 100%"),
        ("loss=-1%", "loss=-1%: give 0% to 100%"),
        ("loss=ge:1%", "cannot be read: write it as in loss=ge:1%:30%"),
        ("loss=ge:1%:30%:5%", "cannot be read: write it as in loss=ge:1%:30%"),
        ("loss=ge:1%:130%", "loss=130%: give 0% to 100%"),
        ("rate=fast", "cannot be read: write it as in rate=100Mbit"),
        ("limit=0", "limit=0: give 1 to 100,000 packets"),
        ("limit=many", "cannot be read: write it as in limit=1000"),
        ("seed=-1", "seed=-1: give 0 to 2**63 - 1"),
        ("delay=61s", "delay of 61000000000 ns: give 0 to 60s"),
        ("dist=cauchy", "choose from uniform, normal, pareto"),
        ("cut=off", "choose from clip, redraw"),
        ("by=magic", "choose from any, netem, wire"),
        ("loss=1%,loss=2%", "loss is given twice"),
        ("loss=1%,loss=ge:1%:30%", "loss by chance and in bursts together: give one"),
        ("ipdv=1ms", "ipdv above delay draws delays below zero: add cut=clip"),
        ("delay=1ms,ipdv=2ms,dist=normal", "ipdv above delay draws delays below zero: add cut=clip"),
        ("reorder=10%", "reorder without delay: there is nothing to overtake"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_remedy(text, said):
    with pytest.raises(lab.UsageError) as caught:
        parse_impairment(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_key_is_told_to_who_gives_another():
    with pytest.raises(lab.UsageError) as caught:
        parse_impairment("nonsense=1")
    assert ", ".join(KEYS) in str(caught.value)


@pytest.mark.parametrize("loss", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_refused_in_python_too(loss):
    with pytest.raises(lab.UsageError, match=r"loss=.*: give 0% to 100%"):
        Impairment(loss=loss)


# Durations and fractions of any size, as the fields hold them.
DELAYS = st.integers(0, 60_000_000_000)
FRACTIONS = st.floats(0, 1)


@st.composite
def impairments(draw) -> Impairment:
    """Any that does not contradict itself."""
    delay_ns = draw(DELAYS)
    in_bursts = draw(st.booleans())
    return Impairment(
        delay_ns=delay_ns,
        ipdv_ns=draw(DELAYS),
        dist=draw(st.sampled_from(DISTRIBUTIONS)),
        cut=draw(st.sampled_from(CUTS)),
        loss=0.0 if in_bursts else draw(FRACTIONS),
        burst=draw(st.tuples(*[FRACTIONS] * 4)) if in_bursts else None,
        duplicate=draw(FRACTIONS),
        reorder=draw(FRACTIONS) if delay_ns else 0.0,
        corrupt=draw(FRACTIONS),
        rate_bps=draw(st.just(0) | st.integers(1_000, 100_000_000_000)),
        limit=draw(st.integers(1, 100_000)),
        seed=draw(st.integers(0, 2**63 - 1)),
        by=draw(st.sampled_from(MEANS)),
    )


@given(impairments())
def test_what_is_written_is_read_as_the_same(impairment):
    assert parse_impairment(str(impairment)) == impairment


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        read = parse_impairment(text)
    except lab.UsageError:
        return
    assert parse_impairment(str(read)) == read


@given(st.integers(1, 60_000_000_000))
def test_a_delay_is_exact_to_the_nanosecond(delay_ns):
    assert parse_impairment(f"delay={format_duration(delay_ns)},seed=1").delay_ns == delay_ns
