"""The judges of ``lab verify``, each with what it must pass and what it must not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lab.records import LOST, RECEIVED, RECORD, STAMPS
from lab.verification import causality, comparison, known_delay, stall, witness
from lab.verification.findings import Finding, Item, Report
from lab.verification.rounds import Rounds
from lab.verification.sightings import Messages, by_number

OFFSET_NS = 1_700_000_000_000_000_000
OWN = ("due_ns", "tx_ns", "far_rx_ns", "far_tx_ns", "rx_ns")
ORDER = [*causality.NEAR_OUT, *causality.FAR, *causality.NEAR_IN]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def probes(count=1_000):
    """Records and stamps of probes whose every stamp lies 100 ns after the one before."""
    records, stamps = np.zeros(count, RECORD), np.zeros(count, STAMPS)
    records["status"] = RECEIVED
    start = np.arange(count) * 10_000
    for place, name in enumerate(ORDER):
        if name in OWN:
            records[name] = start + 100 * place
        else:
            stamps[name] = start + 100 * place + OFFSET_NS
    return records, stamps


def rounds(added, held, noise=0.0, rng=None, count=40):
    """`count` rounds whose columns beyond the first have so much added to 7,000 ns, and say it was `held`."""
    shape = (count, 1 + len(added))
    common = np.zeros(shape) if rng is None else rng.normal(0, 500, (count, 1)) + rng.normal(0, noise, shape)
    return Rounds(7_000 + np.array([0, *added]) + common, 40 + np.array([0, *held]) + np.zeros(shape))


# ---- causality ----


def test_stamps_in_order_pass():
    found = causality.judge("here", *probes(), OFFSET_NS, reflected=True)
    assert (found.status, found.evidence) == ("pass", "1,000 of 1,000 probes have all 11 stamps, all of them in order")


@pytest.mark.parametrize("place", range(1, len(ORDER)))
def test_one_stamp_before_its_predecessor_fails(place):
    records, stamps = probes()
    row = (records if ORDER[place] in OWN else stamps)[500:501]
    row[ORDER[place]] -= 101
    found = causality.judge("here", records, stamps, OFFSET_NS, reflected=True)
    assert found.status == "fail"
    assert f"{ORDER[place]} lies before {ORDER[place - 1]} in 1 of them, by up to 1 ns" in found.evidence


@pytest.mark.parametrize(("missing", "status"), [(1, "pass"), (2, "fail"), (1_000, "fail")])
def test_one_probe_in_a_thousand_may_lack_a_stamp(missing, status):
    records, stamps = probes()
    stamps["far_soft_real_ns"][:missing] = 0
    assert causality.judge("here", records, stamps, OFFSET_NS, reflected=True).status == status


def test_the_kernels_reply_has_no_stamps_of_the_far_end():
    records, stamps = probes()
    for name in causality.FAR:
        (records if name in OWN else stamps)[name] = 0
    assert causality.judge("here", records, stamps, OFFSET_NS, reflected=False).status == "pass"
    assert causality.judge("here", records, stamps, OFFSET_NS, reflected=True).status == "fail"


def test_nothing_received_proves_nothing():
    records, stamps = probes()
    records["status"] = LOST
    assert causality.judge("here", records, stamps, OFFSET_NS, reflected=True).status == "fail"


# ---- known delay ----


@pytest.mark.parametrize(
    ("added", "held", "status"),
    [
        ((5_000, 20_000, 100_000), (5_000, 20_000, 100_000), "pass"),
        ((5_150, 20_390, 101_900), (5_000, 20_000, 100_000), "pass"),
        ((5_160, 20_000, 100_000), (5_000, 20_000, 100_000), "fail"),
        ((4_840, 20_000, 100_000), (5_000, 20_000, 100_000), "fail"),
        ((5_000, 20_410, 100_000), (5_000, 20_000, 100_000), "fail"),
        ((5_000, 20_000, 102_100), (5_000, 20_000, 100_000), "fail"),
        ((0, 0, 0), (5_000, 20_000, 100_000), "fail"),
        ((5_000, 20_000, 100_000), (2_500, 10_000, 50_000), "fail"),
        ((0, 0, 0), (0, 0, 0), "fail"),
    ],
)
def test_what_was_held_must_come_out(added, held, status):
    assert known_delay.judge("here", rounds(added, held)).status == status


def test_the_noise_of_a_round_is_shared_by_its_runs(rng):
    delays = (5_000, 20_000, 100_000)
    assert known_delay.judge("here", rounds(delays, delays, noise=100, rng=rng)).status == "pass"


# ---- stall ----

STALL_NS, PERIOD_NS = 100_000_000, 100_000


def scheduled(room=10_000):
    """3,000 probes on a schedule; the reflector stops at number 500, and then answers `room` of those that wait."""
    records = np.zeros(3_000, RECORD)
    records["due_ns"] = np.arange(3_000) * PERIOD_NS
    records["tx_ns"] = records["due_ns"] + 200
    records["far_rx_ns"], records["far_tx_ns"] = records["tx_ns"] + 3_000, records["tx_ns"] + 3_050
    records["status"] = RECEIVED
    end = records["far_rx_ns"][500] + STALL_NS
    records["far_tx_ns"][500] = end
    waiting = np.arange(501, 501 + 1_000)
    records["far_rx_ns"][waiting] = end + 4_000 * np.arange(1, 1_001)
    records["far_tx_ns"][waiting] = records["far_rx_ns"][waiting] + 50
    records["rx_ns"] = records["far_tx_ns"] + 3_000
    records["status"][waiting[room:]] = LOST
    return records


def judge_schedule(records, dropped=0):
    return stall.judge_schedule("here", records, stall_ns=STALL_NS, period_ns=PERIOD_NS, dropped=dropped)


def test_all_that_were_due_while_the_reflector_stopped_waited():
    found = judge_schedule(scheduled())
    assert found.status == "pass"
    assert "1,000 probes were due, 1,000 waited" in found.evidence


def test_what_is_lost_must_have_been_dropped_by_the_kernel():
    found = judge_schedule(scheduled(room=256), dropped=744)
    assert found.status == "pass"
    assert "256 waited" in found.evidence
    assert judge_schedule(scheduled(room=256), dropped=743).status == "fail"
    assert judge_schedule(scheduled(room=0), dropped=1_000).status == "fail"


def test_a_reply_out_of_the_middle_of_the_stop_is_found_out():
    records = scheduled()
    records["rx_ns"][700] = records["tx_ns"][700] + 5_000
    assert judge_schedule(records).status == "fail"


def test_a_schedule_that_waits_for_the_reply_is_found_out():
    records = scheduled()
    end = records["far_tx_ns"][500]
    waiting = (records["due_ns"] < end) & (records["due_ns"] > records["far_rx_ns"][500])
    records["due_ns"][waiting] = records["tx_ns"][waiting] = end + 1
    found = judge_schedule(records)
    assert found.status == "fail"
    assert "0 waited" in found.evidence
    assert "slots are not where they should be" in found.evidence


def test_one_slot_that_moved_is_found_out():
    records = scheduled()
    records["due_ns"][2_000] += 1
    assert judge_schedule(records).status == "fail"


def test_a_reflector_that_never_stopped_proves_nothing():
    records = scheduled()
    records["far_tx_ns"] = records["far_rx_ns"] + 50
    assert judge_schedule(records).status == "fail"


@pytest.mark.parametrize(("slow", "status"), [(0, "fail"), (1, "pass"), (2, "fail")])
def test_a_closed_loop_shows_the_stop_once(slow, status):
    records = np.zeros(1_000, RECORD)
    records["status"] = RECEIVED
    records["rx_ns"] = 7_000
    records["rx_ns"][:slow] += STALL_NS
    assert stall.judge_closed("here", records, stall_ns=STALL_NS).status == status


# ---- second witness ----

SEEN = ("near tap out", "far tap in", "far tap out", "near tap in")
ALONG = ("tx_ns", *SEEN[:2], "far_rx_ns", "far_tx_ns", *SEEN[2:], "rx_ns")


def witnessed(count=100):
    records, seen = np.zeros(count, RECORD), {}
    records["status"] = RECEIVED
    for place, name in enumerate(ALONG):
        times = np.arange(count) * 10_000 + 1_000 * place
        if name in SEEN:
            seen[name] = times + OFFSET_NS
        else:
            records[name] = times
    return records, seen


def judge_witness(records, seen, reflected=True):
    return witness.judge("here", records, seen, OFFSET_NS, 200, reflected=reflected)


def test_what_the_taps_saw_in_its_place_passes():
    assert judge_witness(*witnessed()).status == "pass"


@pytest.mark.parametrize("place", range(1, len(ALONG)))
def test_one_sighting_out_of_place_fails(place):
    name, before = ALONG[place], ALONG[place - 1]
    slack = 0 if (name in SEEN) == (before in SEEN) else 200
    for beyond, status in ((0, "pass"), (1, "fail")):
        records, seen = witnessed()
        times = seen[name] if name in SEEN else records[name]
        times[50] -= 1_000 + slack + beyond
        found = judge_witness(records, seen)
        assert found.status == status
    assert f"{name.removesuffix('_ns')} lies before {before.removesuffix('_ns')} in 1 of them" in found.evidence


def test_a_probe_that_a_tap_did_not_see_fails():
    records, seen = witnessed()
    seen["far tap out"][7] = 0
    assert judge_witness(records, seen).status == "fail"
    records["status"][7] = LOST
    assert judge_witness(records, seen).status == "pass"


def test_sightings_are_told_by_their_number():
    """Number 0 is seen twice, 1 once, 2 three times, 3 never, 4 twice; 9 is not asked for."""
    messages = Messages(np.array([0, 4, 0, 1, 2, 2, 2, 4, 9, 9]), np.arange(10, 20), np.ones(10, bool))
    assert by_number(messages, 5, 2).tolist() == [[10, 12], [0, 0], [0, 0], [0, 0], [11, 17]]
    assert by_number(messages, 5, 1).tolist() == [[0], [13], [0], [0], [0]]


# ---- comparisons ----


def comparisons(rng, bias=0.0, spread=50.0):
    return [Rounds(rng.normal([0, bias], spread, (10, 2)), np.zeros((10, 2))) for _ in range(200)]


def test_an_interval_that_holds_zero_as_often_as_it_says_passes(rng):
    assert comparison.judge_alike("here", comparisons(rng)).status == "pass"


def test_a_biased_comparison_fails(rng):
    assert comparison.judge_alike("here", comparisons(rng, bias=100)).status == "fail"


def test_a_comparison_that_never_finds_anything_fails_too(rng):
    """As one would that shows every label the same runs."""
    same = [Rounds(np.repeat(rng.normal(0, 50, (10, 1)), 2, axis=1), np.zeros((10, 2))) for _ in range(200)]
    assert comparison.judge_alike("here", same).status == "fail"


@pytest.mark.parametrize(
    ("added", "held", "status"),
    [
        (500, 510, "pass"),
        (600, 510, "pass"),
        (620, 510, "fail"),
        (390, 510, "fail"),
        (-500, 510, "fail"),
        (0, 0, "fail"),
    ],
)
def test_half_a_microsecond_must_be_found(rng, added, held, status):
    planted = rounds((added,), (held,), noise=5, rng=rng)
    assert comparison.judge_added("here", planted).status == status


# ---- the report ----


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "skipped"), "pass"),
        (("skipped", "skipped"), "skipped"),
        (("shown", "skipped"), "skipped"),
        (("pass", "fail", "skipped"), "fail"),
    ],
)
def test_a_check_fails_if_it_fails_anywhere(statuses, status):
    findings = tuple(Finding(f"place {n}", found, f"told {n}") for n, found in enumerate(statuses))
    report = Report((Item("some", "what must hold", findings, "what to do"),))
    (item,) = json.loads(json.dumps(report.to_json()))["items"]
    assert (item["status"], report.ok) == (status, status != "fail")
    assert item["fix"] == ("what to do" if status == "fail" else "")
    assert item["evidence"] == ("place 1: fail: told 1" if status == "fail" else item["evidence"])
    assert all(len(line) <= 80 for line in str(report).splitlines())
