"""Every address of a part of 127.0.0.0/8 is asked: who answers, who doesn't, and why not."""

from __future__ import annotations

import signal

import pytest

import lab
from lab.sweeps import sweep

COUNT = 1 << 14


@pytest.fixture
def fresh(missing):
    """A world of its own, to be changed."""
    try:
        made = lab.World(["lo"])
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        yield made


@pytest.mark.parametrize("threads", [1, 2, None])
def test_every_address_answers(world, threads):
    told = []
    found = sweep(world, first="127.0.0.0", count=COUNT, threads=threads, progress=lambda *each: told.append(each))
    assert found.complete
    assert not found.interrupted
    assert (found.asked, found.answered, found.refused, found.silent) == (COUNT, COUNT, 0, 0)
    assert (found.duplicates, found.other_source) == (0, 0)
    assert found.missing_ranges() == []
    assert told[-1] == (COUNT, COUNT)
    assert found.answers("127.0.0.0")
    assert found.answers("127.0.63.255")


def test_the_far_end_has_addresses_of_its_own(world):
    assert sweep(world, first="127.9.9.9", count=100, end="far").complete


def test_the_last_address_is_for_broadcast(fresh):
    refused = sweep(fresh, first="127.255.255.0")
    assert refused.answered == 255
    assert refused.missing_ranges() == refused.refused_ranges() == [("127.255.255.255", "127.255.255.255")]
    assert list(refused.errors) == ["EACCES (Permission denied)"]
    silent = sweep(fresh, first="127.255.255.0", broadcast=True)
    assert (silent.answered, silent.refused, silent.silent) == (255, 0, 1)
    fresh.sysctl("ipv4/icmp_echo_ignore_broadcasts", 0)
    other = sweep(fresh, first="127.255.255.0", broadcast=True)
    assert (other.answered, other.silent) == (255, 1)  # the reply comes from a unicast address (RFC 1122 3.2.2.6)
    assert other.other_source == 3  # of each try


def test_what_is_not_local_is_found_to_an_address(fresh):
    fresh.add_route("127.3.1.4/30", kind="blackhole")
    fresh.add_route("127.3.2.0/24", kind="unreachable")
    fresh.add_route("127.3.3.7/32", kind="prohibit")
    found = sweep(fresh, first="127.3.0.0", count=1 << 11)
    assert found.answered == (1 << 11) - 4 - 256 - 1
    assert found.missing_ranges() == [
        ("127.3.1.4", "127.3.1.7"),
        ("127.3.2.0", "127.3.2.255"),
        ("127.3.3.7", "127.3.3.7"),
    ]
    assert found.missing_ranges() == found.refused_ranges()
    named = {name.split()[0]: count for name, count in found.errors.items()}
    assert named == {"EINVAL": 4, "EHOSTUNREACH": 256, "EACCES": 1}
    assert sweep(fresh, first="127.4.0.0", count=1 << 11).complete


def test_what_a_rule_drops_is_silent(fresh):
    with fresh.firewall(lab.FirewallRule(verdict="drop", protocol="icmp", destination="127.5.1.0/24")):
        found = sweep(fresh, first="127.5.0.0", count=1 << 10)
    assert (found.answered, found.refused, found.silent) == (768, 0, 256)
    assert found.missing_ranges() == [("127.5.1.0", "127.5.1.255")]
    assert found.sent >= 768 + found.tries * 256
    assert sweep(fresh, first="127.5.0.0", count=1 << 10).complete


def test_an_interrupted_sweep_keeps_what_it_has(world):
    pressed = []

    def interrupt(asked, _count):
        if asked and not pressed:
            pressed.append(asked)
            signal.raise_signal(signal.SIGINT)

    found = sweep(world, threads=2, progress=interrupt)
    assert found.interrupted
    assert 0 < found.answered <= found.asked < found.count == 1 << 24
    assert not found.complete
    assert sum(bool(found.asked_map[i // 8] >> i % 8 & 1) for i in (0, (1 << 24) - 1)) == 1
