"""What experiments are made with: who was asked, what passed, and what is waited for."""

from __future__ import annotations

import errno

import pytest

import lab
from lab.sayings.scene import LOOPBACK, Scene

PORT = 8080


@pytest.fixture
def scene(world):
    with lab.World(("lo", "veth")) as made:
        scene = Scene(made)
        with scene.opened:
            yield scene


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_who_was_asked_answers(scene, family, kind):
    for address, end in ((LOOPBACK[family], "near"), (scene.far("veth", family), "far")):
        scene.serve(address, PORT, f"that at {end}", kind=kind, end=end)
        answer = scene.ask(address, PORT, kind=kind)
        assert (answer.by, answer.source) == (f"that at {end}", address)
        assert scene.ask(address, PORT + 1, kind=kind).errno == errno.ECONNREFUSED


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_silence_is_told_from_a_server_that_takes_nobody(scene, family, kind):
    server = scene.listen(LOOPBACK[family], PORT, kind=kind)
    answer = scene.ask(LOOPBACK[family], PORT, kind=kind, timeout_s=0.1)
    assert (answer.errno, answer.by) == ((0, "") if kind == "tcp" else (errno.ETIMEDOUT, ""))
    with scene.world.firewall(lab.FirewallRule(verdict="drop", protocol=kind, port=PORT)):
        assert scene.ask(LOOPBACK[family], PORT, kind=kind, timeout_s=0.1).errno == errno.ETIMEDOUT
    assert server.socket.fileno() >= 0


def test_frames_are_counted_where_they_pass(scene):
    with scene.passing("near:lo", "near:veth", "far:veth", filter="icmp") as frames:
        scene.ping(LOOPBACK[4])
        scene.ping(scene.far("veth", 4))
    assert frames == {"near:lo": 2, "near:veth": 2, "far:veth": 2}
    with scene.passing("near:lo", filter="icmp6") as frames:
        scene.ping(LOOPBACK[6])
    assert frames == {"near:lo": 2}


def test_what_does_not_come_is_waited_for_in_vain(scene):
    asked = []
    assert scene.until(lambda: len(asked) == 3 or asked.append(1))
    assert not scene.until(lambda: False, timeout_s=0.01)
