"""The wire over socket pairs, which keep the bounds of frames: no network, no privilege.

What it decides is derived anew here from the seed, as ``native/impair.c`` documents it.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import lab
from lab.native import Impairment
from lab.records import WIRE_EVENT, WIRE_FLAGS
from lab.wire import Wire, dropped_probes, probe_numbers

MS, HOUR_NS = 1_000_000, 3600 * 10**9
DELIVERED = ("forwarded", "held")
UNDELIVERED = ("lost", "queue", "oversize", "unsent", "discarded")
CLEAN = Impairment()


class Line:
    """A wire with something to hold at either end. What is sent at an end is forwarded to the other."""

    def __init__(self, out=CLEAN, back=CLEAN, **more):
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        (self.near, near), (self.far, far) = pairs
        for end in (self.near, self.far, near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.near.settimeout(20)
        self.far.settimeout(20)
        self.wire = Wire(near, far, (out, back), **more)

    def close(self):
        self.wire.close()
        self.near.close()
        self.far.close()

    def carry(self, frames):
        """Sends frames from near to far a few at a time, waits for their fates, and returns what arrived."""
        arrived = []
        self.far.setblocking(False)
        deadline = time.monotonic() + 30
        for start in range(0, len(frames), 16):
            for frame in frames[start : start + 16]:
                self.near.send(frame)
            while settled(self.wire) < min(start + 16, len(frames)) or self.wire.counters()[0]["held"]:
                arrived += drain(self.far)
                assert time.monotonic() < deadline, self.wire.counters()
        arrived += drain(self.far)
        self.far.settimeout(20)
        return arrived

    def log(self, count):
        """The events, once there are `count`: a frame arrives right before its event is written."""
        deadline = time.monotonic() + 30
        while self.wire.logged < count:
            assert time.monotonic() < deadline, self.wire.counters()
        return self.wire.events().events


def settled(wire):
    out = wire.counters()[0]
    return sum(out[name] for name in (*DELIVERED, *UNDELIVERED)) - out["duplicated"]


def drain(end):
    frames = []
    try:
        while True:
            frames.append(end.recv(1 << 16))
    except BlockingIOError:
        return frames


@pytest.fixture
def line():
    made = []

    def build(*arguments, **more):
        made.append(Line(*arguments, **more))
        return made[-1]

    yield build
    for each in made:
        each.close()


def frame(number, length=64):
    """An Ethernet frame of a type set aside for experiments (IEEE 802), numbered."""
    return struct.pack("!12xHI", 0x88B5, number).ljust(length, b"\x5a")


def number_of(frame):
    return struct.unpack_from("!I", frame, 14)[0]


def flagged(events, name):
    return events["flags"] & WIRE_FLAGS[name] != 0


# ---- the draws, derived anew ----

MASK = (1 << 64) - 1
LOSS, STATE, DUPLICATE, REORDER, CORRUPT, BIT, DELAY = range(7)


def splitmix(key, index):
    z = (key + (index + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def draw(seed, direction, number, k):
    return splitmix(splitmix(splitmix(seed, direction), number), k)


def unit(seed, direction, number, k):
    return (draw(seed, direction, number, k) >> 11) * 2.0**-53


def deviate(distribution, seed, number, k):
    u = 1 - unit(seed, 0, number, k)
    if distribution == "uniform":
        return 1 - 2 * u
    if distribution == "pareto":
        return 2 * (u ** (-1 / 3) - 1)
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * unit(seed, 0, number, k + 1))


def test_the_reference_is_splitmix64():
    """The first values of the sequence of seed 1234567, from its authors' C (prng.di.unimi.it/splitmix64.c)."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [splitmix(1234567, i) for i in range(4)] == expected


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
    arrived = made.carry([frame(0, 100), frame(1, 101), frame(2, 3000), frame(3, 64)])
    assert [number_of(each) for each in arrived] == [0, 3]
    events = made.wire.events().events
    assert flagged(events, "oversize").tolist() == [False, True, True, False]
    assert events["number"].tolist() == [0, -1, -1, 1]
    assert made.wire.counters()[0]["oversize"] == 2


def test_what_the_kernel_takes_no_copy_of_is_unsent(line, wait_until):
    """Nobody reads at the far end, so that the wire's write meets a full buffer."""
    made = line()
    for number in range(5000):
        made.near.send(frame(number, 1500))
    wait_until(lambda: settled(made.wire) == 5000, "every frame met its fate")
    counters = made.wire.counters()[0]
    assert counters["unsent"] > 0
    assert counters["unsent"] + counters["forwarded"] == 5000
    arrived = [number_of(each) for each in drain_blocking(made.far, counters["forwarded"])]
    events = made.wire.events().events
    assert arrived == events["number"][~flagged(events, "unsent")].tolist()
    assert (events["tx_ns"] == 0).tolist() == flagged(events, "unsent").tolist()


def drain_blocking(end, count):
    return [end.recv(4096) for _ in range(count)]


# ---- decisions ----


def test_random_loss_is_what_the_seed_says(line):
    made = line(Impairment(loss=0.1), seed=7)
    arrived = made.carry([frame(number) for number in range(2000)])
    lost = [n for n in range(2000) if unit(7, 0, n, LOSS) < 0.1]
    events = made.wire.events().events
    assert events["number"][flagged(events, "lost")].tolist() == lost
    assert sorted(set(range(2000)) - set(map(number_of, arrived))) == lost
    assert made.wire.counters()[0]["lost"] == len(lost)


def test_decisions_do_not_depend_on_what_else_is_switched_on(line):
    """Nor on the other direction's, which draws from a sequence of its own."""
    everything = Impairment(
        loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, delay_ns=MS // 10, ipdv_ns=MS // 20, rate_bps=10**9
    )
    made = line(everything, Impairment(loss=0.1), seed=2**64 - 1)
    made.carry([frame(number) for number in range(1000)])
    made.near.setblocking(False)
    for number in range(1000):
        made.far.send(frame(number))
        drain(made.near)
    events = made.log(2000 + made.wire.counters()[0]["duplicated"])
    out = events[(events["direction"] == 0) & ~flagged(events, "copy")]
    out = out[np.argsort(out["number"])]
    lost = flagged(out, "lost")
    for name, k in (("lost", LOSS), ("duplicated", DUPLICATE), ("reordered", REORDER), ("corrupted", CORRUPT)):
        drawn = np.array([unit(2**64 - 1, 0, n, k) < 0.1 for n in range(1000)])
        assert flagged(out, name).tolist() == (drawn & (~lost | (name == "lost"))).tolist(), name
    assert [unit(2**64 - 1, 1, n, LOSS) < 0.1 for n in range(1000)] != lost.tolist()


@pytest.mark.parametrize("cut", ["clip", "redraw"])
@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
def test_delays_are_what_the_seed_says(line, distribution, cut):
    delay, ipdv = 200_000, 400_000
    made = line(Impairment(delay_ns=delay, ipdv_ns=ipdv, distribution=distribution, cut=cut), seed=11)
    made.carry([frame(number) for number in range(400)])
    events = made.wire.events().events
    events = events[np.argsort(events["number"])]
    expected = []
    for number in range(400):
        tries = (
            delay + round(ipdv * deviate(distribution, 11, number, DELAY + 2 * i))
            for i in range(32 * (cut == "redraw") or 1)
        )
        expected.append(next((each for each in tries if each >= 0), 0))
    got = events["due_ns"] - events["rx_ns"]
    assert np.abs(got - expected).max() <= 1  # halves may be rounded either way
    assert (events["tx_ns"] >= events["due_ns"]).all()
    negative = [deviate(distribution, 11, n, DELAY) < -delay / ipdv for n in range(400)]
    assert any(negative) == (distribution != "pareto")
    assert ((got == 0) == (np.array(negative) & (cut == "clip"))).all()


def test_pareto_has_its_mean_and_its_tail(line):
    """Mean ipdv, never below the delay, and P(excess > x) = (1 + x / 2 ipdv)^-3."""
    made = line(Impairment(delay_ns=1000, ipdv_ns=20_000, distribution="pareto"), seed=3)
    made.carry([frame(number) for number in range(4000)])
    events = made.wire.events().events
    excess = events["due_ns"] - events["rx_ns"] - 1000
    assert excess.min() >= 0
    assert 0.85 < excess.mean() / 20_000 < 1.15
    assert 0.5 < np.mean(excess > 5 * 20_000) / (1 + 5 / 2) ** -3 < 1.5


def test_gilbert_elliott_is_what_the_seed_says(line):
    """The chain stepped by hand; and bursts are as long, and losses as frequent, as the model has it."""
    p, r, count = 0.02, 0.25, 20_000
    made = line(Impairment(loss=0.0, loss_bad=1.0, to_bad=p, to_good=r), seed=5)
    made.carry([frame(number) for number in range(count)])
    bad, expected = False, []
    for number in range(count):
        expected.append(bad)
        bad ^= unit(5, 0, number, STATE) < (r if bad else p)
    events = made.wire.events().events
    lost = flagged(events, "lost")
    assert lost.tolist() == expected
    bursts = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], lost, [0]))))).tolist()[::2]
    assert 0.8 < np.mean(bursts) / (1 / r) < 1.25
    assert 0.8 < lost.mean() / (p / (p + r)) < 1.25


def test_a_duplicate_leaves_right_behind_its_original(line):
    made = line(Impairment(duplicate=0.5), seed=1)
    arrived = [number_of(each) for each in made.carry([frame(number) for number in range(200)])]
    twice = [unit(1, 0, n, DUPLICATE) < 0.5 for n in range(200)]
    assert arrived == [n for n in range(200) for _ in range(1 + twice[n])]
    events = made.wire.events().events
    assert events["number"].tolist() == arrived
    assert flagged(events, "copy").sum() == sum(twice) == made.wire.counters()[0]["duplicated"]


def test_a_reordered_frame_overtakes(line):
    """Those that skip the delay arrive while all others are held."""
    made = line(Impairment(delay_ns=HOUR_NS, reorder=0.2), seed=9)
    for number in range(50):
        made.near.send(frame(number))
    early = [n for n in range(50) if unit(9, 0, n, REORDER) < 0.2]
    assert [number_of(each) for each in drain_blocking(made.far, len(early))] == early
    events = made.log(len(early))
    assert events["number"].tolist() == early
    assert flagged(events, "reordered").all()
    assert (events["due_ns"] == events["rx_ns"]).all()


@pytest.mark.parametrize("header_bytes", [0, 14])
def test_corruption_flips_the_drawn_bit_beyond_the_header(line, header_bytes):
    made = line(Impairment(corrupt=1.0), seed=2, header_bytes=header_bytes)
    sent = [frame(number, 20 + number) for number in range(300)]
    for number, (before, after) in enumerate(zip(sent, made.carry(sent), strict=True)):
        changed = int.from_bytes(before, "little") ^ int.from_bytes(after, "little")
        bit = draw(2, 0, number, BIT) % ((len(before) - header_bytes) * 8)
        assert changed == 1 << (header_bytes * 8 + bit)


def test_a_frame_that_is_all_header_is_not_corrupted(line):
    made = line(Impairment(corrupt=1.0))
    assert made.carry([bytes(14)]) == [bytes(14)]
    assert made.wire.counters()[0]["corrupted"] == 0


# ---- neighbour discovery ----

ARP = bytes(12) + b"\x08\x06" + bytes(28)


def icmp6(type_):
    return bytes([0x60, 0, 0, 0, 0, 24, 58, 255]) + bytes(32) + bytes([type_]) + bytes(23)


def test_neighbour_discovery_is_spared_and_takes_no_draw(line):
    made = line(Impairment(loss=1.0))
    ether = bytes(12) + b"\x86\xdd"
    spared = [ARP, *(ether + icmp6(type_) for type_ in range(133, 138))]
    others = [ether + icmp6(type_) for type_ in (128, 129, 132, 138, 143)]
    assert made.carry([*others, *spared, frame(0)]) == spared
    events = made.wire.events().events
    assert (events["number"][flagged(events, "spared")] == -1).all()
    assert events["number"][~flagged(events, "spared")].tolist() == list(range(6))
    assert made.wire.counters()[0]["spared"] == len(spared)


def test_neighbour_discovery_of_bare_packets(line):
    made = line(Impairment(loss=1.0), header_bytes=0)
    spared = [icmp6(type_) for type_ in range(133, 138)]
    assert made.carry([icmp6(128), *spared, icmp6(138)]) == spared


def test_neighbour_discovery_is_delayed_and_passes_a_full_queue(line, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS, ipdv_ns=MS, limit=3))
    for each in [*(frame(n) for n in range(6)), ARP]:
        made.near.send(each)
    wait_until(lambda: made.wire.counters()[0]["arrived"] == 7 and made.wire.logged == 3, "all came, three are dropped")
    made.wire.close()
    events = made.wire.events().events
    assert events["number"][flagged(events, "queue")].tolist() == [3, 4, 5]
    (arp,) = events[flagged(events, "spared")]
    assert arp["due_ns"] - arp["rx_ns"] == HOUR_NS


def test_sparing_can_be_switched_off(line):
    made = line(Impairment(loss=1.0), spare=False)
    assert made.carry([ARP]) == []


# ---- delay, rate, queue ----


@pytest.mark.parametrize("spin_ns", [0, 500_000])
@pytest.mark.parametrize("wait", ["block", "spin"])
def test_no_frame_leaves_before_it_is_due_and_order_is_kept(line, wait, spin_ns):
    made = line(Impairment(delay_ns=3 * MS), wait=wait, spin_ns=spin_ns)
    sent_ns, got_ns, got = [], [], []
    for number in range(300):
        sent_ns.append(time.monotonic_ns())
        made.near.send(frame(number))
    for _ in range(300):
        got.append(number_of(made.far.recv(4096)))
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
        made.near.send(frame(0, length))
    drain_blocking(made.far, len(lengths))
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
        made.near.send(frame(number))
    wait_until(lambda: made.wire.counters()[0]["queue"] == 20, "twenty frames are dropped")
    assert made.wire.counters()[0]["held"] == 10
    events = made.wire.events().events
    assert events["number"].tolist() == list(range(10, 30))
    assert flagged(events, "queue").all()
    assert not events["due_ns"].any()


def test_what_is_held_has_no_event_yet_and_is_discarded_at_the_end(line, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS))
    for number in range(5):
        made.near.send(frame(number))
    wait_until(lambda: made.wire.counters()[0]["held"] == 5, "five frames are held")
    assert made.wire.logged == 0
    made.wire.close()
    events = made.wire.events().events
    assert events["number"].tolist() == list(range(5))
    assert flagged(events, "discarded").all()
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
        made.near.send(frame(number, 1001 if number % 10 == 0 else 64))
    made.wire.close()
    out, back = made.wire.counters()
    assert out["arrived"] + out["duplicated"] == sum(out[name] for name in ("forwarded", *UNDELIVERED))
    assert not any(back.values())
    events = made.wire.events().events
    assert len(events) == made.wire.logged
    for name in UNDELIVERED:
        assert flagged(events, name).sum() == out[name], name
    assert (events["tx_ns"] > 0).sum() == out["forwarded"]


# ---- the log ----


def test_the_log_keeps_the_newest_and_says_how_many_are_gone(line):
    made = line(log_size=64)
    made.carry([frame(number) for number in range(100)])
    log = made.wire.events()
    assert log.overwritten == 36
    assert log.events["number"].tolist() == list(range(36, 100))
    mark = made.wire.logged
    made.carry([frame(number) for number in range(10)])
    since = made.wire.events(since=mark)
    assert since.overwritten == 0
    assert since.events["number"].tolist() == list(range(100, 110))


def test_reading_while_it_is_overwritten_shows_whole_events_only(line):
    made = line(wait="spin", log_size=32)
    seen, read = -1, 0
    made.far.setblocking(False)
    for burst in range(200):
        for number in range(16):
            made.near.send(struct.pack("!14xQ", burst * 16 + number) * 5)
        while made.wire.logged < (burst + 1) * 16:
            log = made.wire.events()
            drain(made.far)
            numbers = log.events["number"]
            stamped = log.events["snap"][:, 14:22].copy().view(">u8").ravel()
            assert (numbers == stamped).all()
            assert (np.diff(numbers) == 1).all()
            if len(numbers):
                assert numbers[0] == log.overwritten
                assert numbers[-1] >= seen
                seen, read = numbers[-1], read + 1
    assert read


# ---- probes in the log ----

NONCE = 0xFEDCBA9876543210


def packet(family, probe, seq, *, nonce=NONCE, options=0, ip_options=0):
    """Headers of a probe as far as decoding looks at them, and the head of its payload."""
    head = struct.pack("=QQ", nonce, seq) + bytes(16)
    tcp = bytes(12) + bytes([(5 + options) << 4]) + bytes(7 + 4 * options)
    transport = tcp if probe == "tcp" else bytes(8)
    protocol = {"udp": 17, "tcp": 6, "icmp": 1 if family == 4 else 58}[probe]
    if family == 4:
        ip = bytes([0x45 + ip_options]) + bytes(8) + bytes([protocol]) + bytes(10 + 4 * ip_options)
    else:
        ip = b"\x60" + bytes(5) + bytes([protocol]) + bytes(33)
    return ip + transport + head


@pytest.mark.parametrize("header_bytes", [0, 14])
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_probes_are_found_in_the_log(line, family, probe, header_bytes):
    made = line(header_bytes=header_bytes)
    link = bytes(12) + (b"\x08\x00" if family == 4 else b"\x86\xdd") if header_bytes else b""
    option_words = range(11) if probe == "tcp" else [0]
    sent = [link + packet(family, probe, 1000 + words, options=words) for words in option_words]
    made.carry([*sent, link + packet(family, probe, 5, nonce=1), link + packet(family, probe, 2**63 + 1)])
    ours, seq = probe_numbers(made.wire.events().events, NONCE, header_bytes)
    assert ours.tolist() == [True] * len(sent) + [False, True]
    assert seq[ours].tolist() == [*(1000 + words for words in option_words), 2**63 + 1]


def test_ipv4_options_are_stepped_over(line):
    made = line(header_bytes=0)
    made.carry([packet(4, "udp", words, ip_options=words) for words in range(11)])
    ours, seq = probe_numbers(made.wire.events().events, NONCE, 0)
    assert seq[ours].tolist() == list(range(11))


def test_bytes_that_are_no_probe_are_none_of_ours(line):
    generator = np.random.default_rng(1)
    made = line(header_bytes=0)
    frames = [generator.bytes(length) for length in range(1, 150)]
    cut = [packet(6, "icmp", 1)[:length] for length in range(1, 64)]
    made.carry([*frames, *cut])
    ours, _seq = probe_numbers(made.wire.events().events, NONCE, 0)
    assert not ours.any()
    assert probe_numbers(np.zeros(0, WIRE_EVENT), NONCE)[0].shape == (0,)


def test_dropped_probes_are_those_that_did_not_arrive(line, family):
    made = line(Impairment(loss=0.2), Impairment(), seed=6, header_bytes=0)
    arrived = made.carry([packet(family, "udp", seq) for seq in range(500)])
    out, back = made.wire.dropped_probes(NONCE)
    came = {struct.unpack_from("=Q", each, len(each) - 24)[0] for each in arrived}
    assert set(out.tolist()) == set(range(500)) - came
    assert len(out) > 50
    assert back.tolist() == []


def test_a_probe_that_was_sent_again_is_not_dropped():
    events = np.zeros(4, WIRE_EVENT)
    events["snapped"] = 136
    for row, seq in zip(events, (1, 2, 1, 2**63), strict=True):
        bytes_ = packet(4, "tcp", seq)
        row["snap"][: len(bytes_)] = np.frombuffer(bytes_, np.uint8)
    events["flags"] = [1, 1, 0, 1]
    assert [way.tolist() for way in dropped_probes(events, NONCE, 0)] == [[2], []]


# ---- the running wire ----


def test_waiting_can_be_changed_while_it_runs(line):
    """A wire that spins burns its CPU's time, one that blocks hardly any: told by the thread's own CPU clock."""
    made = line()

    def busy():
        clock = time.pthread_getcpuclockid(made.wire._running.thread.ident)
        used, real = time.clock_gettime_ns(clock), time.monotonic_ns()
        while time.monotonic_ns() - real < 200 * MS:
            made.near.send(frame(0))
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
    made.near.send(frame(0))
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
    [{"frame_bytes": 63}, {"frame_bytes": 65_554}, {"header_bytes": 4}, {"log_size": 0}, {"seed": -1}, {"spin_ns": -1}],
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
from lab.native import Impairment
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
