"""Who spoke: the comments, what of them is sure, and the watching of our own sockets."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.taps.sockdiag import Owner, list_sockets, owners
from lab.taps.speakers import Speaker, Speakers, endpoint, parse_speakers, with_speakers

CURL, HTTPD = Owner(1234, "curl"), Owner(99, "a server (of 100 %)")


def who(
    *speakers, protocol="tcp", start_ns=100, duration_ns=50, client="127.0.0.1", client_port=40_000, state="closed"
):
    """(client, server) as told of one flow to port 80."""
    flow = {"client": client, "client_port": client_port, "server": client, "server_port": client_port and 80}
    table = pl.DataFrame(
        [{"protocol": protocol, "start_ns": start_ns, "duration_ns": duration_ns, "state": state, **flow}]
    )
    row = with_speakers(table, speakers).row(0, named=True)
    return tuple((row[f"{side}_pid"], row[f"{side}_process"]) for side in ("client", "server"))


def speaker(local, remote, owner, not_before_ns=0, not_after_ns=1_000, protocol="tcp"):
    return Speaker(protocol, local, remote, owner, not_before_ns, not_after_ns)


UNKNOWN = (None, "unknown")
TO, FROM = ("127.0.0.1:40000", "127.0.0.1:80"), ("127.0.0.1:80", "127.0.0.1:40000")


@given(st.text(), st.integers(0, 2**22))
def test_a_comment_is_one_line_that_is_read_back(name, pid):
    for owner in (Owner(pid, name), None):
        for local, remote in ((*TO,), ("[::1]:53", "*"), ("[::]:80", "listen")):
            before = speaker(local, remote, owner)
            assert len(before.comment().splitlines()) == 1
            assert parse_speakers(["something else", before.comment()]) == [before]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "lab-process",
        "lab-process tcp a b c d 2 3",
        "lab-process tcp a b 1 d 2",
        "lab-process tcp a b 1 d -2 3",
        "lab-process tcp a b 99999999999 d 2 3",
        f"lab-process tcp a b 1 d 2 {'3' * 5_000}",
    ],
)
def test_what_is_no_such_comment_is_left_out(line):
    assert parse_speakers([line]) == []


def test_both_ends_are_named():
    assert who(speaker(*TO, CURL), speaker(*FROM, HTTPD)) == (CURL, HTTPD)
    assert who() == (UNKNOWN, UNKNOWN)
    assert who(speaker(*TO, CURL, protocol="udp")) == (UNKNOWN, UNKNOWN)
    assert who(speaker(*TO, CURL), client_port=None) == (UNKNOWN, UNKNOWN)


def test_a_socket_of_just_this_pair_goes_before_one_that_takes_any_peer():
    child = Owner(100, "child")
    listening = speaker("0.0.0.0:80", "listen", HTTPD)
    assert who(listening)[1] == HTTPD
    assert who(listening, speaker(*FROM, child))[1] == child
    assert who(listening, speaker(*FROM, None))[1] == UNKNOWN
    assert who(speaker("[::]:80", "listen", HTTPD))[1] == HTTPD  # takes IPv4 as well
    assert who(listening, client="::1")[1] == UNKNOWN


def test_what_may_have_been_one_of_two_is_unknown():
    assert who(speaker(*TO, CURL), speaker(*TO, HTTPD))[0] == UNKNOWN
    assert who(speaker(*TO, CURL), speaker(*TO, CURL))[0] == CURL
    assert who(speaker(*TO, CURL), speaker(*TO, HTTPD, not_before_ns=151))[0] == CURL
    assert who(speaker(*TO, CURL, not_after_ns=99), speaker(*TO, HTTPD))[0] == HTTPD


# ---- watching ----


@pytest.fixture
def pairs(family):
    """A connected pair of TCP sockets, and a pair of UDP sockets of which one is connected."""
    kind, address = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}[family]
    listener = socket.create_server((address, 0), family=kind)
    near = socket.create_connection(listener.getsockname()[:2])
    far, _ = listener.accept()
    bound = socket.socket(kind, socket.SOCK_DGRAM)
    bound.bind((address, 0))
    connected = socket.socket(kind, socket.SOCK_DGRAM)
    connected.connect(bound.getsockname())
    yield listener, near, far, bound, connected
    for each in (listener, near, far, bound, connected):
        each.close()


def where(name):
    return endpoint(*name[:2])


def test_sockets_that_are_there_are_told_with_their_process(pairs):
    listener, near, far, bound, connected = pairs
    with Speakers() as speakers:
        pass
    assert speakers.warnings == ()
    found = {(each.protocol, each.local, each.remote): each for each in parse_speakers(speakers.comments())}
    for key in [
        ("tcp", where(listener.getsockname()), "listen"),
        ("tcp", where(near.getsockname()), where(near.getpeername())),
        ("tcp", where(far.getsockname()), where(far.getpeername())),
        ("udp", where(bound.getsockname()), "*"),
        ("udp", where(connected.getsockname()), where(connected.getpeername())),
    ]:
        assert found[key].owner.pid == os.getpid()
        assert found[key].not_before_ns < found[key].not_after_ns


def test_a_socket_that_comes_and_goes_is_told(pairs, wait_until, family):
    listener = pairs[0]
    with Speakers() as speakers:
        near = socket.create_connection(listener.getsockname()[:2])
        local = where(near.getsockname())
        wait_until(lambda: any(f" {local} " in line for line in speakers.comments()), "the socket was seen")
        (before,) = (each for each in parse_speakers(speakers.comments()) if each.local == local)
        near.close()
        peer, _ = listener.accept()
        peer.close()
    (after,) = (each for each in parse_speakers(speakers.comments()) if each.local == local)
    assert (before.owner, before.not_before_ns) == (after.owner, after.not_before_ns)
    assert before.not_after_ns <= after.not_after_ns


def test_a_socket_of_two_processes_is_of_neither(pairs):
    bound = pairs[3]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[bound.fileno()])
    with child, Speakers() as speakers:
        pass
    (found,) = (each for each in parse_speakers(speakers.comments()) if each.local == where(bound.getsockname()))
    assert found.owner is None


def test_a_connection_is_his_who_keeps_it(pairs, wait_until):
    """As of a server that forks for each connection."""
    near = pairs[1]

    def owner():
        told = parse_speakers(speakers.comments())
        return next(each.owner for each in told if each.local == where(near.getsockname()))

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[near.fileno()])
    with child, Speakers() as speakers:
        assert owner() is None
        child.communicate(b"\n")
        wait_until(lambda: owner() is not None, "one of the two is left")
        assert owner().pid == os.getpid()


def test_where_sockets_cannot_be_listed_it_says_so_and_goes_on():
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    with Speakers(refuse) as speakers:
        pass
    assert speakers.comments() == []
    assert "Operation not permitted" in speakers.warnings[0]


def test_an_error_while_watching_is_told_once(wait_until):
    taken = []

    def take(*about):
        taken.append(socket.socket(*about))
        return taken[0]

    with Speakers(take) as speakers:
        taken[0].close()
        wait_until(lambda: speakers.warnings, "it was told")
    assert len(speakers.warnings) == 1


class Netlink:
    """Answers dump requests with these messages."""

    def __init__(self, *messages):
        self.answers = [
            struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body.ljust(-len(body) % 4 + len(body), b"\0")
            for kind, body in messages
        ]

    def send(self, request):
        self.left = list(self.answers)

    def recv(self, size):
        return self.left.pop(0)


def test_the_kernels_refusal_is_raised():
    with pytest.raises(FileNotFoundError):
        list(list_sockets(Netlink((2, struct.pack("=i", -2)))))


def test_only_processes_that_may_be_looked_at_are_looked_at(tmp_path):
    for pid, target in ((5, "socket:[77]"), (6, "socket:[78]"), (7, "/dev/null")):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"name {pid}\n")
        (tmp_path / str(pid) / "fd" / "3").symlink_to(target)
    (tmp_path / "8").mkdir()  # without a folder of descriptors, as one that has just ended
    (tmp_path / "self").mkdir()
    assert owners([77, 79], tmp_path) == {77: {Owner(5, "name 5")}}


def test_nobody_listened_where_a_connection_was_refused():
    later = speaker("127.0.0.1:80", "listen", Owner(7, "httpd"))
    assert who(later) == (UNKNOWN, (7, "httpd"))
    assert who(later, state="refused") == (UNKNOWN, UNKNOWN)
