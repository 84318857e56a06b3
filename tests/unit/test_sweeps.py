"""What is said of a sweep, and which ranges can be asked."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import Unavailable, UsageError
from lab.native.stop import Stop
from lab.native.sweep import SweepLoop
from lab.sweeps import Sweep, _range_of, _runs


def packed(flags):
    return np.packbits(np.array(flags, bool), bitorder="little")


def made(states, **more):
    """A sweep of addresses from 127.0.0.250 on: "a" answered, "r" was refused, "s" is silent, "-" was not asked."""
    known = {
        "first": "127.0.0.250",
        "count": len(states),
        "asked": len(states) - states.count("-"),
        "answered": states.count("a"),
        "refused": states.count("r"),
        "sent": len(states),
        "tries": 3,
        "duplicates": 0,
        "other_source": 0,
        "foreign": 0,
        "errors": {"EACCES (Permission denied)": states.count("r")} if "r" in states else {},
        "duration_ns": 1_234_000_000,
        "interrupted": "-" in states,
        "answered_map": packed([state == "a" for state in states]),
        "refused_map": packed([state == "r" for state in states]),
        "asked_map": packed([state != "-" for state in states]),
    }
    return Sweep(**known | more)


@given(st.lists(st.booleans(), max_size=64))
def test_runs_are_those_of_a_plain_loop(flags):
    expected, start = [], None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            expected.append((start, i - 1))
            start = None
    assert _runs(packed(flags)) == expected


def test_a_sweep_tells_who_is_missing():
    found = made("aasrrsaa--")
    assert (found.silent, found.missing, found.complete) == (2, 4, False)
    assert found.missing_ranges() == [("127.0.0.252", "127.0.0.255")]
    assert found.refused_ranges() == [("127.0.0.253", "127.0.0.254")]
    assert found.answers("127.0.1.0")
    assert not found.answers("127.0.0.253")
    text = str(found).splitlines()
    assert text[0].startswith("4 of 8 addresses answered, from 127.0.0.250 on, in 1.23 s")
    assert "interrupted: 2 more were not asked" in text
    assert "2 were silent, asked 3 times" in text
    assert "2 were refused by the kernel: EACCES (Permission denied)" in text
    assert "no answer: 127.0.0.252 to 127.0.0.255" in text


def test_a_complete_sweep_says_no_more():
    found = made("a" * 10)
    assert found.complete
    assert found.missing_ranges() == []
    assert len(str(found).splitlines()) == 1


def test_many_ranges_are_counted_and_not_listed():
    found = made("as" * 2000)
    assert str(found).splitlines()[-1] == "… and 1,995 more ranges"
    told = json.loads(json.dumps(found.to_json()))
    assert (len(told["missing_ranges"]), told["missing_range_count"]) == (1000, 2000)
    assert told["missing_ranges"][0] == ["127.0.0.251", "127.0.0.251"]
    assert told["silent"] == 2000


def test_an_address_that_was_not_asked_is_an_error():
    with pytest.raises(UsageError, match=r"give one of 2 addresses from 127\.0\.0\.250 on"):
        made("aa").answers("127.0.0.249")


def test_all_of_the_range_is_loopback():
    assert _range_of("127.0.0.0", None) == ("127.0.0.0", 1 << 24)
    assert _range_of("127.255.255.255", None) == ("127.255.255.255", 1)
    assert _range_of("127.255.255.254", 2) == ("127.255.255.254", 2)


@pytest.mark.parametrize(
    ("first", "count", "said"),
    [
        ("126.255.255.255", 1, "not in 127.0.0.0/8"),
        ("128.0.0.0", None, "not in 127.0.0.0/8"),
        ("127.255.255.255", 2, "give 1 to 1"),
        ("127.0.0.0", (1 << 24) + 1, "give 1 to 16,777,216"),
        ("127.0.0.1", 0, "0 addresses"),
        ("127.1", 1, "no IPv4 address"),
        ("::1", 1, "no IPv4 address"),
    ],
)
def test_other_ranges_are_refused(first, count, said):
    with pytest.raises(UsageError, match=said):
        _range_of(first, count)


# ---- the loop ----


def loop(fd, **more):
    return SweepLoop(
        fd, **{"icmp_id": 1, "first": 127 << 24, "count": 10, "tries": 1, "nonce": 1, "patience_ns": 0} | more
    )


def test_what_is_no_socket_is_told():
    near, far = os.pipe()
    try:
        asking = loop(near)
        with pytest.raises(Unavailable, match="no good any more, after 0 requests") as raised:
            asking.run(Stop())
    finally:
        os.close(near)
        os.close(far)
    assert raised.value.errno == errno.ENOTSOCK
    assert asking.asked == asking.sent == 0
    assert not asking.answered.any()


@pytest.mark.parametrize("more", [{"tries": 0}, {"tries": 101}, {"icmp_id": 1 << 16}, {"patience_ns": -1}])
def test_numbers_out_of_range_are_refused(more):
    with pytest.raises(UsageError, match="out of range"):
        loop(0, **more).run(Stop())


@pytest.mark.parametrize("more", [{"nonce": 1 << 64}, {"first": -1}, {"first": 1 << 32}, {"tries": 1 << 31}])
def test_numbers_that_do_not_fit_are_refused_at_once(more):
    with pytest.raises(UsageError, match="out of range"):
        loop(0, **more)
