"""The wire over socket pairs: what it forwards, holds and drops, and how it is run."""

from __future__ import annotations

import errno
import math
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import lab
from lab.native.wire import Impairment
from lab.wire import Wire

MS, HOUR_NS = 1_000_000, 3600 * 10**9
CLEAN = Impairment()
UNDELIVERED = ("lost", "queue", "oversize", "unsent", "discarded")


# ---- forwarding ----


@pytest.mark.parametrize("wait", ["block", "spin"])
def test_frames_cross_both_ways_whole_and_in_order(line, wait):
    made = line(wait=wait)
    for length in (1, 14, 60, 64, 1514, 2048):
        for sender, receiver in ((made.near, made.far), (made.far, made.near)):
            sent = [os.urandom(length) for _ in range(5)]
            for each in sent:
                sender.send(each)
            assert [receiver.recv(4096) for _ in sent] == sent
    events = made.log(60)
    for counters in made.wire.counters():
        assert counters["arrived"] == counters["forwarded"] == 30
    assert len(events) == 60
    for direction in (0, 1):
        of = events[events["direction"] == direction]
        assert of["number"].tolist() == list(range(30))
        assert of["length"].tolist() == [n for n in (1, 14, 60, 64, 1514, 2048) for _ in range(5)]
        assert (of["due_ns"] == of["rx_ns"]).all()
        assert (of["tx_ns"] >= of["due_ns"]).all()
        assert (np.diff(of["tx_ns"]) >= 0).all()
    assert not events["flags"].any()


def test_an_event_keeps_the_first_bytes_as_they_came(line):
    made = line(Impairment(corrupt=1.0))
    sent = [os.urandom(length) for length in (20, 135, 136, 137, 500)]
    made.carry(sent)
    for row, each in zip(made.wire.events().events, sent, strict=True):
        assert row["snapped"] == min(len(each), 136)
        assert row["snap"].tobytes() == each[:136].ljust(136, b"\0")


def test_a_frame_too_long_is_dropped_and_said_so(line):
    made = line(frame_bytes=100)
    arrived = made.carry([made.frame(0, 100), made.frame(1, 101), made.frame(2, 3000), made.frame(3, 64)])
    assert [made.number_of(each) for each in arrived] == [0, 3]
    events = made.wire.events().events
    assert made.flagged(events, "oversize").tolist() == [False, True, True, False]
    assert events["number"].tolist() == [0, -1, -1, 1]
    assert made.wire.counters()[0]["oversize"] == 2


def test_what_the_kernel_takes_no_copy_of_is_unsent(line, wait_until):
    """Nobody reads at the far end, so that the wire's write meets a full buffer."""
    made = line()
    for number in range(5000):
        made.near.send(made.frame(number, 1500))
    wait_until(lambda: made.settled() == 5000, "every frame met its fate")
    counters = made.wire.counters()[0]
    assert counters["unsent"] > 0
    assert counters["unsent"] + counters["forwarded"] == 5000
    arrived = [made.number_of(each) for each in made.receive(counters["forwarded"])]
    events = made.wire.events().events
    assert arrived == events["number"][~made.flagged(events, "unsent")].tolist()
    assert (events["tx_ns"] == 0).tolist() == made.flagged(events, "unsent").tolist()


# ---- delay, rate, queue ----


@pytest.mark.parametrize("spin_ns", [0, 500_000])
@pytest.mark.parametrize("wait", ["block", "spin"])
def test_no_frame_leaves_before_it_is_due_and_order_is_kept(line, wait, spin_ns):
    made = line(Impairment(delay_ns=3 * MS), wait=wait, spin_ns=spin_ns)
    sent_ns, got_ns, got = [], [], []
    for number in range(300):
        sent_ns.append(time.monotonic_ns())
        made.near.send(made.frame(number))
    for _ in range(300):
        got.append(made.number_of(made.far.recv(4096)))
        got_ns.append(time.monotonic_ns())
    assert got == list(range(300))
    assert min(np.array(got_ns) - sent_ns) >= 3 * MS
    events = made.log(300)
    assert (events["due_ns"] - events["rx_ns"] == 3 * MS).all()
    assert (events["tx_ns"] >= events["due_ns"]).all()


def test_rate_paces_by_length(line):
    """At 8 Mbit/s a byte takes 1 µs: no frame is sent before the one ahead of it has been, nor in less time."""
    made = line(Impairment(rate_bps=8_000_000, delay_ns=MS))
    lengths = [64, 1500, 200, 1000] * 10
    for length in lengths:
        made.near.send(made.frame(0, length))
    made.receive(len(lengths))
    events = made.log(len(lengths))
    assert events["length"].tolist() == lengths
    end_ns = 0
    for row in events:
        end_ns = max(end_ns, int(row["rx_ns"])) + int(row["length"]) * 1000
        assert row["due_ns"] == end_ns + MS
    assert (events["tx_ns"] >= events["due_ns"]).all()
    assert events["tx_ns"][-1] - events["rx_ns"][0] >= sum(lengths) * 1000 + MS


def test_the_limit_bounds_what_is_held(line, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS, limit=10))
    for number in range(30):
        made.near.send(made.frame(number))
    wait_until(lambda: made.wire.counters()[0]["queue"] == 20, "twenty frames are dropped")
    assert made.wire.counters()[0]["held"] == 10
    events = made.wire.events().events
    assert events["number"].tolist() == list(range(10, 30))
    assert made.flagged(events, "queue").all()
    assert not events["due_ns"].any()


def test_what_is_held_has_no_event_yet_and_is_discarded_at_the_end(line, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS))
    for number in range(5):
        made.near.send(made.frame(number))
    wait_until(lambda: made.wire.counters()[0]["held"] == 5, "five frames are held")
    assert made.wire.logged == 0
    made.wire.close()
    events = made.wire.events().events
    assert events["number"].tolist() == list(range(5))
    assert made.flagged(events, "discarded").all()
    counters = made.wire.counters()[0]
    assert (counters["discarded"], counters["held"], counters["arrived"]) == (5, 0, 5)


def test_counters_add_up(line):
    made = line(
        Impairment(
            delay_ns=MS, ipdv_ns=MS, loss=0.2, duplicate=0.3, reorder=0.1, corrupt=0.1, rate_bps=50_000_000, limit=20
        ),
        seed=4,
        frame_bytes=1000,
    )
    for number in range(2000):
        made.near.send(made.frame(number, 1001 if number % 10 == 0 else 64))
    made.wire.close()
    out, back = made.wire.counters()
    assert out["arrived"] + out["duplicated"] == sum(out[name] for name in ("forwarded", *UNDELIVERED))
    assert not any(back.values())
    events = made.wire.events().events
    assert len(events) == made.wire.logged
    for name in UNDELIVERED:
        assert made.flagged(events, name).sum() == out[name], name
    assert (events["tx_ns"] > 0).sum() == out["forwarded"]


# ---- the running wire ----


def test_waiting_can_be_changed_while_it_runs(line):
    """A wire that spins burns its CPU's time, one that blocks hardly any: told by the thread's own CPU clock."""
    made = line()

    def busy():
        clock = time.pthread_getcpuclockid(made.wire._running.thread.ident)
        used, real = time.clock_gettime_ns(clock), time.monotonic_ns()
        while time.monotonic_ns() - real < 200 * MS:
            made.near.send(made.frame(0))
            made.far.recv(4096)
            time.sleep(0.005)
        return (time.clock_gettime_ns(clock) - used) / (time.monotonic_ns() - real)

    blocking = busy()
    made.wire.wait = "spin"
    assert made.wire.wait == "spin"
    spinning = busy()
    made.wire.wait = "block"
    assert busy() < spinning / 2
    assert blocking < spinning / 2
    with pytest.raises(lab.UsageError, match="choose from block, spin"):
        made.wire.wait = "yield"


def test_pinning(line):
    made = line()
    cpu = max(os.sched_getaffinity(0))
    made.wire.pin(cpu)
    assert os.sched_getaffinity(made.wire._running.thread.native_id) == {cpu}
    with pytest.raises(lab.Unavailable, match="Choose one of") as refused:
        made.wire.pin(1023)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("wait", ["block", "spin"])
def test_closing_ends_the_thread_and_closes_both_sides(line, wait, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS), wait=wait)
    made.near.send(made.frame(0))
    wait_until(lambda: made.wire.counters()[0]["held"] == 1, "a frame is held")
    made.wire.close()
    assert not made.wire._running.thread.is_alive()
    assert made.near.recv(10) == b""
    assert made.far.recv(10) == b""
    made.wire.close()
    made.wire.wait = "block"


def test_a_side_that_ends_is_an_error_that_closing_raises(line, wait_until):
    made = line()
    made.far.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: made.wire.error is not None, "the wire noticed")
    with pytest.raises(lab.Unavailable, match=r"the wire ended: ECONNRESET .* Make the link anew"):
        made.wire.close()
    made.wire.close()


def test_descriptors_alone_are_enough():
    """A tun or tap device is a file."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    near, far = (os.fdopen(inner.detach(), "r+b", 0) for _outer, inner in pairs)
    with Wire(near, far):
        pairs[0][0].send(b"frame")
        assert pairs[1][0].recv(10) == b"frame"
    for outer, _inner in pairs:
        outer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": 1.5},
        {"loss": -0.1},
        {"loss_bad": math.nan},
        {"to_bad": 2.0},
        {"to_good": 2.0},
        {"duplicate": 2.0},
        {"reorder": 2.0},
        {"corrupt": 2.0},
        {"delay_ns": -1},
        {"delay_ns": HOUR_NS + 1},
        {"ipdv_ns": -1},
        {"rate_bps": 999},
        {"rate_bps": -1},
        {"limit": 0},
        {"limit": 1_000_001},
        {"delay_ns": 2**64},
    ],
    ids=str,
)
def test_a_number_out_of_range_is_refused(wrong):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, pytest.raises(lab.UsageError, match="out of range: give probabilities from 0 to 1"):
        Wire(near, far, (CLEAN, Impairment(**wrong)))


@pytest.mark.parametrize("wrong", [{"distribution": "flat"}, {"cut": "fold"}], ids=str)
def test_an_unknown_name_is_refused(wrong):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, pytest.raises(lab.UsageError, match="choose from"):
        Wire(near, far, (Impairment(**wrong), CLEAN))


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_bytes": 63},
        {"frame_bytes": 65_554},
        {"header_bytes": 4},
        {"log_size": 0},
        {"log_size": 1 << 25},
        {"seed": -1},
        {"spin_ns": -1},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(wrong):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, pytest.raises(lab.UsageError, match="out of range"):
        Wire(near, far, **wrong)


@pytest.mark.parametrize(
    "ending", ["", "os._exit(0) if os.fork() == 0 else os.wait()", "sys.exit(os.fork() and 0)", "del wire"]
)
def test_an_interpreter_with_a_wire_exits(ending):
    """Also one that forked: the child has no such thread, and the parent's wire must not notice the child's end."""
    code = f"""
import os, socket, sys
from lab.native.wire import Impairment
from lab.wire import Wire
(near, a), (far, b) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
wire = Wire(a, b, (Impairment(delay_ns=3600_000_000_000), Impairment()))
near.send(b"held")
far.send(b"through")
assert near.recv(10) == b"through"
{ending}
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]  # of forking beside a thread
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_queue_that_no_memory_holds_is_refused():
    code = """
import resource, socket
from lab.errors import UsageError
from lab.native.wire import Impairment
from lab.wire import Wire
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    Wire(near, far, (Impairment(limit=1_000_000), Impairment(limit=1_000_000)))
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "give a smaller limit" in done.stdout, done.stderr
