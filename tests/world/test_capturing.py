"""What a capture is told to tap: interfaces and links, of the host, of a process, and of a private world."""

from __future__ import annotations

import socket

import pytest

import lab
from lab.capturing import taps_of


def tapped(where, world=None):
    """The names of the taps; each opens a socket in the namespace of its interface, or it could not be bound to it."""
    with taps_of(where, world) as taps:
        for tap in taps:
            with tap.socket_at(socket.AF_PACKET, socket.SOCK_RAW, 0) as end:
                end.bind((tap.interface, 0))
        assert len({tap.description for tap in taps}) == len(taps)
        return [tap.name for tap in taps]


def test_the_interfaces_of_a_private_world(world):
    assert tapped("lo", world) == ["lo"]
    assert tapped("veth", world) == ["near:veth", "far:veth"]
    assert tapped("far:veth", world) == ["far:veth"]
    assert tapped("near:veth", world) == ["veth"]
    assert tapped(["veth", "lo", "near:veth"], world) == ["near:veth", "far:veth", "near:lo"]
    assert tapped(world) == tapped("all", world) == ["near:lo", "near:veth", "far:veth"]


def test_the_interfaces_of_a_process(world):
    assert tapped("lo, veth", world.pid) == ["lo", "veth"]
    assert tapped(world.pid) == tapped("all", str(world.pid)) == ["lo", "veth"]


def test_of_links_that_share_a_device_it_is_tapped_once(missing):
    with lab.World(["lo", "own"]) as made:
        if made.skipped:
            missing(made.skipped[0].reason)
        assert tapped(made) == ["lo"]


@pytest.mark.parametrize(
    ("where", "at", "said"),
    [
        ("nope", "host", r"this machine has no interface 'nope': give lo, .* or all"),
        ("veth", "host", r"veth is a link of private worlds: lab.World\(\['veth'\]\).capture\(\)"),
        ("far:lo", "host", r"this machine has no interface 'far:lo'"),
        ("", "host", r"has no interface ''"),
        ("lo", "new", r"lab exec --capture FILE -- CMD, or give --world the number of a process"),
        ("lo", "mars", r"unknown world 'mars'"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(where, at, said):
    with pytest.raises(lab.UsageError, match=said), taps_of(where, at):
        pass


def test_what_a_private_world_has_not(world):
    for where, at, said in (
        ("eth0", world, "this world has no interface 'eth0': give lo, veth, or all"),
        ("far:nope", world, "this world has no interface 'far:nope'"),
        ("nope", world.pid, "that process's network has no interface 'nope': give lo, veth, or all"),
    ):
        with pytest.raises(lab.UsageError, match=said), taps_of(where, at):
            pass
