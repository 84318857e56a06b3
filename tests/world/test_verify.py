"""``lab verify`` finds a loop that errs, by the check that must find it, and passes the one that we have.

Each fault is planted in what the loop returns, or in what it is asked to do: it is what such a loop would report.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lab import probes
from lab.probes import send_stream
from lab.records import RECEIVED
from lab.verification import causality, comparison, known_delay, stall, verify, witness
from lab.verification.subject import Subject

SHIFT_NS = 5_000

CHECKS = {
    "causality": partial(causality.findings, count=500),
    "known-delay": partial(known_delay.findings, judged=[("udp", "block", "inline")], shown=()),
    "stall": stall.findings,
    "second-witness": partial(witness.findings, probes=("icmp", "udp"), count=500),
    "a-a": partial(comparison.alike, count=50),
    "sensitivity": partial(comparison.sensitivity, probes=("udp",)),
}


# ---- loops that err ----


def tampered(change):
    """A loop whose rows are changed before anybody sees them. change: takes the records and the options."""

    def send(condition, ends, **options):
        stream = send_stream(condition, ends, **options)
        records = stream.records.copy()
        change(records, options)
        return replace(stream, records=records)

    return send


@tampered
def stamp_after_send(records, options):
    records["tx_ns"] = records["tx_done_ns"]
    records["due_ns"] = np.maximum(records["due_ns"], records["tx_ns"])


@tampered
def dropped_slots(records, options):
    """What falls due while the loop waits for a reply is sent, and said to be due, when it has come."""
    open_until = np.maximum.accumulate(np.where(records["status"] == RECEIVED, records["rx_ns"], 0))
    for name in ("due_ns", "tx_ns"):
        records[name][1:] = np.maximum(records[name][1:], open_until[:-1])


@tampered
def fast_clock(records, options):
    """The near end's clock is ahead of everybody else's."""
    for name in ("due_ns", "tx_ns", "tx_done_ns", "rx_ns"):
        records[name] += SHIFT_NS


@tampered
def slow_clock(records, options):
    for name in ("due_ns", "tx_ns", "tx_done_ns", "rx_ns"):
        records[name] -= SHIFT_NS


@tampered
def boasting_reflector(records, options):
    """It says that it held for twice as long as it did."""
    records["far_tx_ns"] += options.get("hold_ns", 0)


def idle_reflector(condition, ends, *, hold_ns=0, **options):
    """It does not hold at all, and says that it did."""
    stream = send_stream(condition, ends, **options)
    records = stream.records.copy()
    records["far_tx_ns"] += hold_ns
    return replace(stream, records=records)


#: Each fault, and the checks that must find it.
FAULTS = {
    "stamp after send": (stamp_after_send, ("causality", "second-witness")),
    "dropped slots": (dropped_slots, ("stall",)),
    "a clock that is ahead": (fast_clock, ("causality", "second-witness")),
    "a clock that is behind": (slow_clock, ("causality", "second-witness")),
    "a reflector that boasts": (boasting_reflector, ("known-delay", "sensitivity")),
    "a reflector that idles": (idle_reflector, ("known-delay", "sensitivity")),
}


def statuses(world, name, send=send_stream, **options):
    found = list(CHECKS[name](Subject(world, send), **options))
    print(*found, sep="\n")
    return {finding.status for finding in found}


@pytest.mark.parametrize("name", CHECKS)
def test_the_loop_that_we_have_passes(world, name):
    assert statuses(world, name) == {"pass"}


@pytest.mark.parametrize(("fault", "name"), [(fault, name) for fault in FAULTS for name in FAULTS[fault][1]])
def test_a_loop_that_errs_is_found_out(world, fault, name):
    send, _names = FAULTS[fault]
    assert "fail" in statuses(world, name, send)


def test_a_biased_comparison_is_found_out(world):
    """The reflector itself holds one label's replies for 500 ns."""
    assert statuses(world, "a-a", comparisons=20, holds_ns=(0, 500)) == {"fail"}


def test_a_buffer_that_is_too_small_is_told_from_a_loop_that_drops(world, monkeypatch):
    monkeypatch.setattr(probes, "_MOST_ROOM", 100_000)
    scheduled, closed = CHECKS["stall"](Subject(world))
    assert (scheduled.status, closed.status) == ("pass", "pass")
    assert "no room for 0" not in scheduled.evidence


def test_what_a_place_lacks_is_skipped(world):
    """The machine's own network has no veth of ours."""
    told = []
    check = replace(causality.CHECK, findings=partial(causality.findings, probes=("udp",), families=(4,), count=200))
    report = verify(world="host", checks=[check], say=told.append)
    (item,) = report.items
    assert [finding.status for finding in item.findings][1:] == ["skipped", "pass"]
    assert "veth is made in a private world" in item.findings[1].evidence
    assert item.findings[2].where.endswith("periodic")
    assert told == [f"1 of 1, causality: {check.claim}"]
