"""What is said of many bytes: rates, their intervals, what is doubtful, and which conditions there are."""

from __future__ import annotations

import errno
import inspect
import json
import os
import socket

import numpy as np
import pytest

from lab.accounts import Accounts
from lab.bulks import Bulk, BulkCondition, Round, per_second
from lab.cli.throughput import bulk as command
from lab.doubts import bulk_doubts
from lab.errors import Unavailable, UsageError
from lab.native.stop import Stop
from lab.native.throughput import MAX_MESSAGE, BulkOutcome, BulkSpec, move_bytes
from lab.throughput import _bytes, _placement, _size, _way, bulk
from lab.transfers import measured as measured_round

MS = 1_000_000
QUIET = {"noise": {"before": [], "after": []}, "power": {}, "experiment": {}, "host": {}}


def condition(**more):
    known = {"link": "lo", "family": 4, "probe": "tcp", "size": 65536, "placement": "cross-cpu"}
    return BulkCondition(**known | {"warmup_ns": 20 * MS, "duration_ns": 100 * MS} | more)


def outcome(seen, **more):
    """One look each 10 ms from 10 ms on."""
    at_ns = np.arange(1, len(seen) + 1, dtype=np.int64) * 10 * MS
    known = dict.fromkeys(BulkOutcome.__dataclass_fields__, 0) | {
        "begun_ns": 1000,
        "last_ns": 1000 + int(at_ns[-1]) if len(seen) else 0,
        "received": seen[-1] if seen else 0,
        "sent": seen[-1] if seen else 0,
        "at_ns": at_ns + 1000,
        "bytes": np.array(seen, np.int64),
        "near_switches": (0, 0),
        "far_switches": (0, 0),
        "late": False,
        "error": None,
    }
    return BulkOutcome(**known | more)


def measured(seen, c=None, accounts=None, **more):
    return measured_round(c or condition(), outcome(seen, **more), accounts or Accounts())


def made(*rounds, c=None, **more):
    known = {"condition": c or condition(), "rounds": rounds, "cpus": {"near": 1, "far": 0}}
    return Bulk(**known | more)


# ---- rounds ----


def test_the_warm_up_is_left_out():
    run = measured([100, 200, 5200, 10200, 15200])
    assert (run.bytes, run.duration_ns) == (15000, 30 * MS)
    assert run.rate == 500_000
    assert run.rates(20 * MS).tolist() == [500_000] * 3
    assert run.total == 15200


def test_a_round_that_was_over_before_its_warm_up_counts_as_it_is():
    run = measured([4000, 8000])
    assert (run.bytes, run.duration_ns) == (8000, 20 * MS)
    assert not len(run.rates(20 * MS))
    run = measured([], received=500, last_ns=1000 + 5 * MS)
    assert (run.bytes, run.duration_ns, run.rate) == (500, 5 * MS, 100_000)


def test_nothing_at_all_is_no_rate():
    run = measured([])
    assert (run.bytes, run.duration_ns, run.rate) == (0, 0, 0.0)
    found = made(run)
    assert set(found.bytes_per_s.values()) == {None}
    assert set(found.interval_bytes_per_s.values()) == {None}
    assert found.cpu_s_per_byte == {"near": None, "far": None}
    assert "0 bytes received" in str(found)


def test_datagrams_are_lost_that_were_sent_and_did_not_arrive():
    c = condition(probe="udp", size=1000)
    run = measured([1000, 8000], c, sent=10_000, messages=11, arrived=8)
    assert (run.messages, run.lost) == (10, 2)
    found = made(run, run, c=c)
    assert found.lost == 4
    assert "4 of 20 datagrams lost" in str(found)
    assert made(measured([1])).lost is None


def test_retransmits_are_those_of_both_ends():
    tcp = {"near": {"rtt_ns": 1, "retransmits": 3}, "far": {"rtt_ns": 1, "retransmits": 4}}
    assert measured([1], accounts=Accounts(tcp=tcp)).retransmits == 7
    assert measured([1]).retransmits is None


# ---- all rounds ----


def rounds(*rates):
    return [measured([0, 0, *(int(rate / 100) * n for n in range(1, 4))]) for rate in rates]


def test_rates_are_those_of_the_rounds():
    found = made(*rounds(1e6, 2e6, 3e6, 4e6, 9e6))
    rates = found.bytes_per_s
    assert (rates["p50"], rates["min"], rates["max"], rates["mean"]) == (3e6, 1e6, 9e6, 3.8e6)
    assert 1e6 <= rates["p50_ci"][0] <= 3e6 <= rates["p50_ci"][1] <= 9e6
    assert found.bytes == sum(each.bytes for each in found.rounds)
    assert found.duration_ns == 5 * 30 * MS
    over = found.interval_bytes_per_s
    assert (over["min"], over["p50"], over["max"]) == (1e6, 3e6, 9e6)
    assert made(*rounds(1e6, 2e6)).bytes_per_s["p50_ci"] is None


def test_cpu_time_is_told_by_the_byte():
    run = measured([1000, 2000], near_cpu_ns=4000, far_cpu_ns=2000)
    assert made(run, run).cpu_s_per_byte == pytest.approx({"near": 2e-9, "far": 1e-9})
    alone = made(run, cpus={"near": 1, "far": None}, c=condition(link="memcpy", family=None, probe="memcpy"))
    assert alone.cpu_s_per_byte["far"] is None


def test_the_document_and_the_table():
    found = made(*rounds(1e6, 2e6), warnings=("take care",))
    told = json.loads(json.dumps(found.to_json()))
    assert told["format"] == 1
    assert told["condition"]["size"] == 65536
    assert told["bytes"] == found.bytes
    assert told["bytes_per_s"]["p50"] == 1.5e6
    assert [each["bytes_per_s"] for each in told["rounds"]] == [1e6, 2e6]
    assert told["warnings"] == ["take care"]
    assert told["lost"] is None
    table = found.to_polars()
    assert table.columns == ["round", "at_ns", "received", "measured"]
    assert table["round"].to_list() == [1] * 5 + [2] * 5
    assert table["measured"].to_list() == [False, True, True, True, True] * 2
    assert made().to_polars().shape == (0, 4)


def test_the_text_fits_a_terminal():
    slow, fast = rounds(1e9, 4e9)
    text = str(made(slow, fast, warnings=("one thing after another, " * 8,))).splitlines()
    assert all(len(line) <= 80 for line in text)
    assert text[0] == "lo IPv4 tcp, messages of 65,536 bytes, cross-cpu"
    assert next(line for line in text if line.startswith("  1")) == "  1  1.00 GB/s │▃▃▃"
    assert next(line for line in text if line.startswith("  2")) == "  2  4.00 GB/s │███"


@pytest.mark.parametrize(("rate", "text"), [(None, "–"), (4_210_000_000, "4.21 GB/s"), (12.4, "12 bytes/s")])
def test_rates_have_three_digits(rate, text):
    assert per_second(rate) == text


# ---- doubts ----


def doubts(*runs, cpus=(0, 1), document=QUIET):
    return bulk_doubts("veth", runs, cpus, document, [], 425_984)


def test_a_clean_transfer_is_not_doubted():
    assert doubts(*rounds(1e6)) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"late": True}, "did not come within 2 s"),
        ({"wrong": 7}, "7 bytes were not what was sent"),
        ({"foreign": 3}, "3 datagrams were none of ours"),
        ({"near_switches": (0, 50)}, "other programs took the CPUs 50 times"),
    ],
)
def test_what_is_doubtful_is_told_with_a_remedy(more, said):
    (text,) = doubts(measured([1, 2, 3], **more))
    assert said in text


def test_lost_datagrams_and_segments_are_told():
    c = condition(probe="udp", size=1000)
    run = measured_round(c, outcome([1000], sent=4000, arrived=1), Accounts(), overrun=2)
    full, lossy = doubts(run)
    assert full.startswith("50.0% of the datagrams were lost as the writer is faster")
    assert "426 kB" in full
    assert lossy.startswith("25.0% of the datagrams were lost on their way")
    tcp = {"near": {"rtt_ns": 1, "retransmits": 3}, "far": {"rtt_ns": 1, "retransmits": 0}}
    (text,) = doubts(measured([1], accounts=Accounts(tcp=tcp)))
    assert text.startswith("TCP had to send segments again (3)")


def test_a_busy_cpu_is_told_and_both_ends_on_one_preempt_each_other():
    look = {"cpu": 1, "stolen_ns": 30 * MS, "duration_ns": 100 * MS}
    busy = {**QUIET, "noise": {"before": [look], "after": None}}
    (text,) = doubts(*rounds(1e6), document=busy)
    assert text.startswith("CPU 1 lost 30% of its time")
    assert doubts(measured([1, 2, 3], near_switches=(0, 50)), cpus=(1,)) == []


def test_one_cpu_alone_is_told():
    alone = {**QUIET, "host": {"cpus_allowed": [1]}}
    (text,) = doubts(*rounds(1e6), cpus=(1,), document=alone)
    assert "is the only one that this process may use" in text


# ---- conditions ----


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("lo", None, None), ("lo", "tcp", 4)),
        (("veth", "udp", 6), ("veth", "udp", 6)),
        (("lo", "pipe", None), ("pipe", "pipe", None)),
        (("memcpy", None, None), ("memcpy", "memcpy", None)),
        (("unix-stream", "unix-stream", None), ("unix-stream", "unix-stream", None)),
    ],
)
def test_a_way_is_a_link_or_crosses_none(asked, found):
    assert _way(*asked) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("veth", "pipe", None), "pipe crosses no link: leave veth out"),
        (("pipe", "tcp", None), "no link that tcp could cross"),
        (("lo", "memcpy", 6), "has no IP version; leave -6 out"),
        (("lo", "icmp", None), "unknown probe 'icmp': choose from tcp, udp, unix-stream, pipe, memcpy"),
    ],
)
def test_other_ways_are_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        _way(*asked)


@pytest.mark.parametrize(("given", "found"), [(1440, 1440), ("1440", 1440), ("64KiB", 65536), ("1GB", 10**9)])
def test_bytes_have_a_unit_or_none(given, found):
    assert _bytes(given) == found


@pytest.mark.parametrize(
    ("size", "probe", "said"),
    [
        (0, "tcp", "a number of bytes of 0"),
        ("5 parsecs", "tcp", "not a size"),
        ("1GiB", "pipe", "pipe takes 1 to 268,435,456"),
        (15, "udp", "udp takes 16 to 65,507"),
        (65508, "udp", "udp takes 16 to 65,507"),
    ],
)
def test_other_sizes_are_refused(size, probe, said):
    with pytest.raises(UsageError, match=said):
        _size(size, probe)


def test_the_placement_is_two_cpus_where_there_are_two(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    assert _placement("tcp", None, None) == "cross-cpu"
    assert _placement("tcp", None, "1") == "same-cpu"
    assert _placement("tcp", None, "0,1") == "cross-cpu"
    assert _placement("tcp", "same-cpu", None) == "same-cpu"
    assert _placement("memcpy", None, None) == "inline"
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    assert _placement("tcp", None, None) == "same-cpu"


def test_two_cpus_are_asked_for_where_there_is_one(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    with pytest.raises(Unavailable, match="give --placement same-cpu"):
        bulk("pipe", placement="cross-cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"placement": "inline"}, "unknown placement 'inline': choose from same-cpu, cross-cpu"),
        ({"probe": "memcpy", "placement": "same-cpu"}, "memcpy is one thread"),
        ({"probe": "pipe", "impair": "delay=1ms"}, "no packets that could be impaired"),
        ({"rounds": 0}, "rounds of 0"),
        ({"duration": "1"}, "not a duration"),
        ({"way": "vet"}, "unknown link 'vet'"),
        ({"way": "nic:eth0"}, "nothing of ours reads at its other end"),
        ({"family": 5}, "unknown family 5"),
    ],
)
def test_what_can_never_work_is_refused_before_anything_is_opened(options, said):
    with pytest.raises(UsageError, match=said):
        bulk(**options)


def test_the_command_line_has_the_defaults_of_python():
    options = {name: each.default for name, each in inspect.signature(command).parameters.items()}
    ours = {name: each.default for name, each in inspect.signature(bulk).parameters.items()}
    assert options.keys() - {"ipv4", "ipv6", "as_json"} == ours.keys() - {"family"}
    assert {name: value for name, value in options.items() if name in ours} == {
        name: value for name, value in ours.items() if name in options
    }


def test_conditions_are_told_apart():
    assert str(condition()) == "lo IPv4 tcp"
    assert str(condition(link="pipe", family=None, probe="pipe")) == "pipe"
    assert Round.__dataclass_params__.frozen


# ---- the loop ----


def spec(**more):
    return BulkSpec(**{"kind": "unix-stream", "far_cpu": min(os.sched_getaffinity(0)), "size": 1000} | more)


def test_all_bytes_are_moved_whole():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with near, far:
        asked = spec(out_fd=near.fileno(), in_fd=far.fileno(), duration_ns=10**10, limit_bytes=123_456, verify=True)
        found = move_bytes(asked, Stop())
    assert found.error is None
    assert found.sent == found.received == 123_456
    assert found.wrong == 0
    assert found.begun_ns < found.last_ns


def test_an_end_that_is_gone_is_told():
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    other, idle = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with near, other:
        far.close()
        idle.close()
        found = move_bytes(spec(out_fd=near.fileno(), in_fd=other.fileno(), duration_ns=10**10), Stop())
    assert found.error is not None
    assert found.error.errno in (errno.EPIPE, errno.ECONNRESET)
    assert "measure again" in str(found.error)


def test_a_stopped_transfer_ends_at_once():
    stop = Stop()
    stop.set()
    found = move_bytes(spec(kind="memcpy", far_cpu=-1, duration_ns=10**10), stop)
    assert found.received == 0
    assert found.error is None


@pytest.mark.parametrize(
    "more",
    [
        {"size": MAX_MESSAGE + 1},
        {"duration_ns": 0},
        {"duration_ns": 10**13},
        {"limit_bytes": 1 << 63},
        {"interval_ns": 0},
    ],
)
def test_numbers_of_a_transfer_out_of_range_are_refused(more):
    with pytest.raises(UsageError, match="out of range"):
        move_bytes(spec(**{"kind": "memcpy", "far_cpu": -1, "duration_ns": 1000} | more), Stop())
