"""What came of an injection: lanes added up, the pacing error, the document, and what is doubtful."""

from __future__ import annotations

import errno
import json

import numpy as np
import polars as pl
import pytest

from lab.injector.result import Injection
from lab.injector.survey import Survey
from lab.native.injection import LATE_EDGES_NS, MOST_PACKETS, Counts
from lab.stats import summary

MS = 1_000_000


def counts(late_ns=(), **more):
    """Of a lane that sent a packet of 60 bytes so late each, one in a millisecond; the last was the latest."""
    late_ns = np.asarray(late_ns, np.int64)
    n = len(late_ns)
    plain = {name: 0 for name in Counts.__dataclass_fields__ if name not in ("errors", "late")}
    plain |= {"sent": n, "bytes": 60 * n, "begun_ns": MS, "ended_ns": MS + n * MS}
    if n:
        plain |= {
            "late_sum_ns": int(late_ns.sum()),
            "late_min_ns": int(late_ns.min()),
            "late_max_ns": int(late_ns.max()),
            "last_due_ns": more.get("ended_ns", plain["ended_ns"]) - MS - int(late_ns.max()),
        }
    bins = np.searchsorted(LATE_EDGES_NS, late_ns, "right") - 1
    return Counts(**{"errors": {}, "late": np.bincount(bins, minlength=len(LATE_EDGES_NS)), **plain, **more})


def survey(frames=3, path="l2", **more):
    rows = {"offsets": np.int64, "lengths": np.int32, "ways": np.uint8}
    arrays = {name: np.zeros(frames, kind) for name, kind in rows.items()}
    return Survey(**arrays, lanes=None, path=path, **more)


def injection(*lanes, surveyed=None, **more):
    sent = sum(lane.sent for lane in lanes)
    asked = {"link": "lo", "delivered": sent, "scheduled": False, "total": sent, **more}
    return Injection.of(lanes, surveyed or survey(), **asked)


def test_lanes_are_added_up_and_last_from_the_first_begin_to_the_last_end():
    first = counts([0] * 10, begun_ns=100, ended_ns=900, errors={errno.EPERM: 1}, failed=1, retried=2)
    second = counts([0] * 20, begun_ns=50, ended_ns=550, errors={errno.EPERM: 2, errno.EINVAL: 4}, failed=6, retried=3)
    idle = counts(ended_ns=0, begun_ns=0)
    both = injection(first, second, idle, delivered=28)
    assert (both.sent, both.bytes, both.failed, both.retried) == (30, 1800, 7, 5)
    assert (both.duration_ns, both.lost) == (850, 2)
    assert both.errors == {errno.EPERM: 3, errno.EINVAL: 4}
    assert both.pps == pytest.approx(30 / 850e-9)


def test_nothing_sent_has_no_rate_and_no_pacing_error():
    none = injection(counts(begun_ns=0, ended_ns=0), scheduled=True)
    assert (none.sent, none.duration_ns, none.pps, none.complete) == (0, 0, 0.0, False)
    assert set(none.pacing_error_ns.values()) == {None}
    assert str(none) == "0 packets sent on lo by l2, 0 bytes\n0 delivered, none lost"
    json.dumps(none.to_json(), allow_nan=False)


# ---- the pacing error ----


@pytest.mark.parametrize("n", [1, 2, 99, 9_999, 10_000, 50_000])
def test_the_pacing_error_is_that_of_the_packets_to_the_width_of_a_bin(n):
    late_ns = np.random.default_rng(n).exponential(20_000, n).astype(np.int64)
    lanes = counts(late_ns[: n // 2]), counts(late_ns[n // 2 :])
    told, exact = injection(*lanes, scheduled=True).pacing_error_ns, summary(late_ns)
    assert list(told) == list(exact)
    assert all(value is None or type(value) is int for value in told.values())
    for name in ("min", "max"):
        assert told[name] == exact[name]
    assert told["mean"] == round(exact["mean"])
    for name in ("p50", "p90", "p99", "p999"):
        if exact[name] is None:
            assert told[name] is None
        else:
            assert exact[name] <= told[name] <= exact[name] * (1 + 1 / 64)
    assert (told["p999"] is None) == (n < 10_000)


def test_what_is_later_than_all_bins_has_its_maximum():
    far_ns = int(LATE_EDGES_NS[-1]) + 5
    told = injection(counts([0, far_ns]), scheduled=True).pacing_error_ns
    assert (told["min"], told["p50"], told["p99"], told["max"]) == (0, 0, far_ns, far_ns)


def test_without_a_schedule_there_is_no_pacing_error():
    plain = injection(counts([0, 0]))
    assert plain.pacing_error_ns is None
    assert plain.to_json()["pacing_error_ns"] is None
    assert "pacing" not in str(plain)
    assert plain.to_polars().shape == (0, 3)


def test_the_histogram_holds_every_packet_between_its_edges():
    late_ns = np.array([0, 5, 5, 1_000, 10**6, int(LATE_EDGES_NS[-1]) + 7])
    table = injection(counts(late_ns), scheduled=True).to_polars()
    assert table["packets"].to_list() == [1, 2, 1, 1, 1]
    assert table["to_ns"].to_list()[-1] is None
    for late, (low, high) in zip(np.unique(late_ns), table.select("from_ns", "to_ns").rows(), strict=True):
        assert low <= late
        assert high is None or late < high
    assert table.schema == dict.fromkeys(("from_ns", "to_ns", "packets"), pl.Int64)


# ---- documents ----


def test_the_document():
    lane = counts([100] * 4, errors={errno.EMSGSIZE: 2, 0: 1}, failed=3)
    document = injection(lane, delivered=None, scheduled=True, interrupted=True).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document.pop("warnings")
    assert document.pop("pacing_error_ns")["max"] == 100
    assert document == {
        "format": 1, "link": "lo", "path": "l2", "sent": 4, "failed": 3, "delivered": None, "lost": None, "bytes": 240,
        "duration_ns": 4 * MS, "pps": 1000.0, "left_out": 0, "retried": 0, "errors": {"other": 1, "EMSGSIZE": 2},
        "interrupted": True, "error": None,
    }  # fmt: skip


def test_the_text():
    lane = counts(np.full(100_000, 123_456), errors={errno.EMSGSIZE: 2}, failed=2, retried=3)
    surveyed = survey(path="raw4+raw6", left_out={"larger than the MTU of lo (65,536)": 1})
    told = injection(lane, surveyed=surveyed, delivered=99_998, scheduled=True)
    lines = told.lines()
    assert lines == [
        "100,000 packets sent on lo by raw4+raw6 in 100 s: 1,000/s, 6.00 MB",
        "99,998 delivered, 2 lost, 2 refused (EMSGSIZE 2), 1 frame left out, 3 retried",
        "pacing error  p50 123 µs  p90 123 µs  p99 123 µs  max 123 µs",
    ]
    assert str(told).splitlines() == [*lines, *(f"warning: {text}" for text in told.warnings)]
    assert injection(lane, scheduled=True, interrupted=True).lines()[-1] == "interrupted"


def test_no_name_or_number_is_too_long_for_a_terminal():
    errors = dict.fromkeys((errno.EMSGSIZE, errno.ENETUNREACH, errno.EHOSTUNREACH), 10**11)
    lane = counts([10**11] * 2, sent=10**12, bytes=10**15, errors=errors, failed=10**12)
    told = injection(lane, surveyed=survey(path="l2+raw4+raw6"), link="nic:enp0s31f6np123", delivered=10**11)
    assert max(map(len, told.lines())) <= 80


def test_a_page_is_not_steered_by_names():
    assert "<b>" not in injection(counts([0]), link="<b>")._repr_html_()


# ---- what is doubtful ----


def test_all_sent_and_delivered_leaves_no_doubt():
    fine = injection(counts([0, 10, 20]), scheduled=True)
    assert (fine.warnings, fine.error, fine.complete) == ((), None, True)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMSGSIZE, "larger than the MTU of lo"),
        (errno.ENETUNREACH, "ip route get"),
        (errno.EHOSTUNREACH, "ip route get"),
        (errno.EPERM, "nft list ruleset"),
        (errno.EACCES, "single hosts"),
        (errno.EINVAL, "--path l2"),
        (errno.EDOM, "lab capture"),
    ],
)
def test_what_was_refused_is_told_with_its_errno_and_a_remedy(number, remedy):
    lanes = [
        counts([0], errors={number: 2}, failed=2, first_failed=7, first_error=number),
        counts([0], errors={number: 1}, failed=1, first_failed=4, first_error=number),
    ]
    told = injection(*lanes)
    (warning,) = told.warnings
    assert warning.startswith(f"refused by the kernel, {errno.errorcode[number]} (")
    assert "): 3 packets, packet 5 first: " in warning
    assert remedy in warning
    assert not told.complete


def test_reasons_of_the_survey_are_told():
    why = survey(10, left_out={"too large": 1}, undelivered={"martian": 2})
    told = injection(counts([0] * 9), surveyed=why, delivered=7)
    assert told.warnings == (
        "left out: 1 of 10 frames: too large",
        "sent, to reach no program: 2 of 10 frames: martian",
    )
    assert not told.complete


def test_what_was_lost_for_no_known_reason_is_told():
    (warning,) = injection(counts([0] * 9), delivered=8).warnings
    assert warning.startswith("did not arrive: 1 of 9 packets: ")
    assert injection(counts([0] * 9), delivered=None).warnings == ()


def test_what_was_lost_is_not_told_while_some_is_under_way_or_others_send_too():
    halfway, crowded = injection(counts([0] * 9), delivered=5, interrupted=True), injection(counts([0]), delivered=3)
    assert halfway.lost is crowded.lost is None
    assert (halfway.lines()[1], crowded.lines()[1]) == ("5 delivered", "3 delivered")
    (warning,) = halfway.warnings
    assert warning.startswith("not there yet when it was interrupted: 4 packets: ")
    (warning,) = crowded.warnings
    assert warning.startswith("arrived beyond those sent: 2 packets: ")
    assert injection(counts([0] * 9), interrupted=True).lost == 0


def test_waits_for_room_matter_only_to_a_schedule():
    lane = counts([0] * 9, retried=5)
    assert injection(lane).warnings == ()
    (warning,) = injection(lane, scheduled=True).warnings
    assert warning.startswith("lo had no room 5 times")


def behind(late_ns, **more):
    return [text for text in injection(counts(late_ns, **more), scheduled=True).warnings if " were due " in text]


def test_a_schedule_that_was_not_kept_is_told_with_both_rates():
    # 10,000 packets were due in 1 ms and left in 20: each is later than the one before.
    (warning,) = behind(np.linspace(0, 19 * MS, 10_000), ended_ns=21 * MS)
    assert warning.startswith("10,000,000/s were due and 500,000/s left, half of the packets ")
    assert "--rate" in warning


@pytest.mark.parametrize(
    "late_ns",
    [
        [0] * 5,
        [0] * 60 + list(range(40 * MS, 0, -MS)),  # a stall, made good
        [50_000] * 1_000,  # a clock that wakes late
        np.tile(np.arange(100) * 500, 10),  # bursts
        [0, 5 * MS, 10 * MS],  # too few to tell
    ],
    ids=["kept", "stall", "late", "bursts", "few"],
)
def test_a_schedule_that_was_kept_but_for_stalls_is_no_doubt(late_ns):
    assert not behind(late_ns)


def test_one_burst_is_no_schedule_to_fall_behind():
    assert not behind(np.arange(1_000) * 1_000, ended_ns=2 * MS, last_due_ns=0)
    assert behind(np.arange(1_000) * 1_000, ended_ns=2 * MS, last_due_ns=1)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENODEV, "lo went away"),
        (errno.ENXIO, "lo went away"),
        (errno.ENETDOWN, "lo went down"),
        (errno.ENOBUFS, "lo took nothing for a while"),
        (errno.EBADF, "lo: EBADF (Bad file descriptor)"),
    ],
)
def test_what_ended_it_is_told_with_how_far_it_came(number, said):
    told = injection(counts([0] * 9), error=number, total=1_000)
    assert told.error.startswith(f"after 9 of 1,000 packets: {said}")
    assert not told.complete
    assert f"error: {told.error}" in str(told)
    assert injection(counts([0]), error=number, total=MOST_PACKETS).error.startswith("after 1 packet: ")


def test_warnings_of_before_are_told_first():
    told = injection(counts([0] * 9), delivered=8, warnings=["the machine is odd"])
    assert told.warnings[0] == "the machine is odd"
    assert len(told.warnings) == 2
