"""TCP's states in ladders of real connections: RFC 9293's own sequences, and what the kernel has of its sockets."""

from __future__ import annotations

import socket
import subprocess

import pytest
from flow_traffic import AT_ONCE, WORDS, Way, deaf, received, resent, say

import lab
from lab.flow.ladder.ladders import Ladder

#: The active and the passive end of a close (RFC 9293, figure 12), and of one by both at once (figure 13).
ACTIVE = ["FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"]
PASSIVE = ["CLOSE-WAIT", "LAST-ACK", "CLOSED"]
BOTH = ["FIN-WAIT-1", "CLOSING", "TIME-WAIT"]
#: Of who calls and of who is called (figure 6); of both at once (figure 7).
CALLS = ["SYN-SENT", "ESTABLISHED"]
CALLED = ["SYN-RECEIVED", "ESTABLISHED"]
BOTH_CALL = ["SYN-SENT", "SYN-RECEIVED", "ESTABLISHED"]
#: By traffic, the states of the client and of the server, one after the other.
EXPECTED = {
    "tcp": (CALLS + ACTIVE, CALLED + PASSIVE),
    "half_closed": (CALLS + ACTIVE, CALLED + PASSIVE),
    "closed_by_server": (CALLS + PASSIVE, CALLED + ACTIVE),
    "refused": (["SYN-SENT", "CLOSED"], []),
    "reset": ([*CALLS, "CLOSED"], [*CALLED, "CLOSED"]),
    "closed_at_once": (CALLS + BOTH, CALLED + BOTH),
    "opened_at_once": (BOTH_CALL, BOTH_CALL),
}
#: What ``ss`` calls them otherwise.
SS = {"ESTAB": "ESTABLISHED", "SYN-RECV": "SYN-RECEIVED"}
SLOW = "delay=20ms"


def told(ladder: Ladder) -> tuple[list[str], list[str]]:
    """The states that a ladder of one connection tells, of the client and of the server."""
    states: tuple[list[str], list[str]] = ([], [])
    for step in ladder.steps:
        for column, state in zip((step.source, step.target), step.states, strict=True):
            if state is not None:
                states[column].extend(state.split(" → "))
    return states


def tcp_ladder(capture: lab.taps.captures.Capture) -> Ladder:
    (flow,) = capture.flows().to_polars().filter(protocol="tcp")["flow"]
    return capture.ladder(flow, packets=1000)


@pytest.mark.parametrize(
    ("name", "link"),
    [(name, link) for name in EXPECTED for link in ("lo", "veth") if (name, link) not in [(n, "lo") for n in AT_ONCE]],
)
def test_states_follow_one_another_as_the_rfc_has_it(recorded, family, name, link):
    impair = SLOW if name in AT_ONCE else ""
    with lab.read(recorded(name, link, family, impair=impair)) as capture:
        states = told(tcp_ladder(capture))
    wanted = EXPECTED[name]
    if name == "opened_at_once":  # its ends are closed afterwards, one by one
        states = tuple(each[: len(BOTH_CALL)] for each in states)
    assert states == wanted


class Connection:
    """A connection whose ends' states are asked of the kernel, and of the ladder of what was captured meanwhile."""

    def __init__(self, way: Way, ss: str, near: socket.socket, far: socket.socket) -> None:
        self.way, self.ss = way, ss
        self.ports = near.getsockname()[1], far.getsockname()[1]

    def by_kernel(self) -> tuple[str, str]:
        """The states of the near end and of the far end; CLOSED, if the kernel knows the connection no more."""
        found = []
        for end, ports in (("near", self.ports), (self.way.link.far_end, self.ports[::-1])):
            listing = self.way.world.popen([self.ss, "-Htan"], end=end, stdout=subprocess.PIPE, text=True)
            lines = [line.split() for line in listing.communicate(timeout=30)[0].splitlines()]
            assert listing.returncode == 0
            states = [
                line[0]
                for line in lines
                if tuple(int(place.rpartition(":")[2].strip("*") or 0) for place in line[3:5]) == ports
            ]
            found.append(SS.get(states[0], states[0]) if states else "CLOSED")
        return tuple(found)


@pytest.mark.parametrize("first", ["near", "far"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_states_are_those_of_the_kernel_at_every_turn(world, tool, family, wait_until, link, first):
    way, ss = Way(world, link, family, wait_until), tool("ss")
    with way.record(filter="tcp") as capture, way.pair() as (near, far):
        connection = Connection(way, ss, near, far)
        seen = []

        def compare():
            kernel = connection.by_kernel()
            ladder = tuple(states[-1] for states in told(tcp_ladder(capture)))
            assert ladder == kernel
            seen.append(kernel)

        compare()
        say(near, far, b"words")
        compare()
        closes, stays = (near, far) if first == "near" else (far, near)
        closes.shutdown(socket.SHUT_WR)
        way.reach(closes, "FIN-WAIT-2")
        compare()
        say(stays, closes, b"last words")
        compare()
        stays.shutdown(socket.SHUT_WR)
        way.reach(stays, "CLOSED")
        compare()
    ends = [("ESTABLISHED", "ESTABLISHED")] * 2 + [("FIN-WAIT-2", "CLOSE-WAIT")] * 2 + [("TIME-WAIT", "CLOSED")]
    assert seen == (ends if first == "near" else [each[::-1] for each in ends])


def test_ends_that_close_at_once_both_wait(worlds, tool, family, wait_until):
    way = Way(worlds(SLOW), "veth", family, wait_until)
    with way.record(filter="tcp") as capture, way.pair() as (near, far):
        connection = Connection(way, tool("ss"), near, far)
        near.shutdown(socket.SHUT_WR)
        far.shutdown(socket.SHUT_WR)
        for end in (near, far):
            way.reach(end, "CLOSED")
        assert connection.by_kernel() == ("TIME-WAIT", "TIME-WAIT")
    assert told(tcp_ladder(capture)) == EXPECTED["closed_at_once"]


@pytest.mark.parametrize("link", ["lo", "veth"])
def test_the_kernel_resends_what_is_marked_so(world, family, wait_until, link):
    """Nothing passes the tap twice but what the sender's kernel counts as sent again."""
    way = Way(world, link, family, wait_until)
    with way.record(filter="tcp") as capture, way.pair() as (near, far):
        say(near, far, b"first")
        for _ in range(3):
            with deaf(way, far):
                near.sendall(b"lost")
            for word in WORDS:
                near.sendall(word)
            received(far, 4 + sum(map(len, WORDS)))
        counted = resent(near)
        steps = tcp_ladder(capture).steps
    assert sum("retransmission" in step.marks for step in steps) == counted >= 3
