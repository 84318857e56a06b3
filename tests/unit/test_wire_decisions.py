"""What the wire decides about each frame, derived anew here from the seed, as ``native/impair.c`` documents it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.native.wire import Impairment

MS, HOUR_NS = 1_000_000, 3600 * 10**9


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


# ---- decisions ----


def test_random_loss_is_what_the_seed_says(line):
    made = line(Impairment(loss=0.1), seed=7)
    arrived = made.carry([made.frame(number) for number in range(2000)])
    lost = [n for n in range(2000) if unit(7, 0, n, LOSS) < 0.1]
    events = made.wire.events().events
    assert events["number"][made.flagged(events, "lost")].tolist() == lost
    assert sorted(set(range(2000)) - set(map(made.number_of, arrived))) == lost
    assert made.wire.counters()[0]["lost"] == len(lost)


def test_decisions_do_not_depend_on_what_else_is_switched_on(line):
    """Nor on the other direction's, which draws from a sequence of its own."""
    everything = Impairment(
        loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, delay_ns=MS // 10, ipdv_ns=MS // 20, rate_bps=10**9
    )
    made = line(everything, Impairment(loss=0.1), seed=2**64 - 1)
    made.carry([made.frame(number) for number in range(1000)])
    made.near.setblocking(False)
    for number in range(1000):
        made.far.send(made.frame(number))
        made.drain(made.near)
    events = made.log(2000 + made.wire.counters()[0]["duplicated"])
    out = events[(events["direction"] == 0) & ~made.flagged(events, "copy")]
    out = out[np.argsort(out["number"])]
    lost = made.flagged(out, "lost")
    for name, k in (("lost", LOSS), ("duplicated", DUPLICATE), ("reordered", REORDER), ("corrupted", CORRUPT)):
        drawn = np.array([unit(2**64 - 1, 0, n, k) < 0.1 for n in range(1000)])
        assert made.flagged(out, name).tolist() == (drawn & (~lost | (name == "lost"))).tolist(), name
    assert [unit(2**64 - 1, 1, n, LOSS) < 0.1 for n in range(1000)] != lost.tolist()


@pytest.mark.parametrize("cut", ["clip", "redraw"])
@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
def test_delays_are_what_the_seed_says(line, distribution, cut):
    delay, ipdv = 200_000, 400_000
    made = line(Impairment(delay_ns=delay, ipdv_ns=ipdv, distribution=distribution, cut=cut), seed=11)
    made.carry([made.frame(number) for number in range(400)])
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
    made.carry([made.frame(number) for number in range(4000)])
    events = made.wire.events().events
    excess = events["due_ns"] - events["rx_ns"] - 1000
    assert excess.min() >= 0
    assert 0.85 < excess.mean() / 20_000 < 1.15
    assert 0.5 < np.mean(excess > 5 * 20_000) / (1 + 5 / 2) ** -3 < 1.5


def test_gilbert_elliott_is_what_the_seed_says(line):
    """The chain stepped by hand; and bursts are as long, and losses as frequent, as the model has it."""
    p, r, count = 0.02, 0.25, 20_000
    made = line(Impairment(loss=0.0, loss_bad=1.0, to_bad=p, to_good=r), seed=5)
    made.carry([made.frame(number) for number in range(count)])
    bad, expected = False, []
    for number in range(count):
        expected.append(bad)
        bad ^= unit(5, 0, number, STATE) < (r if bad else p)
    events = made.wire.events().events
    lost = made.flagged(events, "lost")
    assert lost.tolist() == expected
    bursts = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], lost, [0]))))).tolist()[::2]
    assert 0.8 < np.mean(bursts) / (1 / r) < 1.25
    assert 0.8 < lost.mean() / (p / (p + r)) < 1.25


def test_a_duplicate_leaves_right_behind_its_original(line):
    made = line(Impairment(duplicate=0.5), seed=1)
    arrived = [made.number_of(each) for each in made.carry([made.frame(number) for number in range(200)])]
    twice = [unit(1, 0, n, DUPLICATE) < 0.5 for n in range(200)]
    assert arrived == [n for n in range(200) for _ in range(1 + twice[n])]
    events = made.wire.events().events
    assert events["number"].tolist() == arrived
    assert made.flagged(events, "copy").sum() == sum(twice) == made.wire.counters()[0]["duplicated"]


def test_a_reordered_frame_overtakes(line):
    """Those that skip the delay arrive while all others are held."""
    made = line(Impairment(delay_ns=HOUR_NS, reorder=0.2), seed=9)
    for number in range(50):
        made.near.send(made.frame(number))
    early = [n for n in range(50) if unit(9, 0, n, REORDER) < 0.2]
    assert [made.number_of(each) for each in made.receive(len(early))] == early
    events = made.log(len(early))
    assert events["number"].tolist() == early
    assert made.flagged(events, "reordered").all()
    assert (events["due_ns"] == events["rx_ns"]).all()


@pytest.mark.parametrize("header_bytes", [0, 14])
def test_corruption_flips_the_drawn_bit_beyond_the_header(line, header_bytes):
    made = line(Impairment(corrupt=1.0), seed=2, header_bytes=header_bytes)
    sent = [made.frame(number, 20 + number) for number in range(300)]
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
    spared = [ARP, *(ether + icmp6(type_) for type_ in (*range(130, 138), 143))]
    others = [ether + icmp6(type_) for type_ in (128, 129, 138, 142, 144)]
    assert made.carry([*others, *spared, made.frame(0)]) == spared
    events = made.wire.events().events
    assert (events["number"][made.flagged(events, "spared")] == -1).all()
    assert events["number"][~made.flagged(events, "spared")].tolist() == list(range(6))
    assert made.wire.counters()[0]["spared"] == len(spared)


def test_neighbour_discovery_of_bare_packets(line):
    made = line(Impairment(loss=1.0), header_bytes=0)
    spared = [icmp6(type_) for type_ in range(133, 138)]
    assert made.carry([icmp6(128), *spared, icmp6(138)]) == spared


def test_neighbour_discovery_is_delayed_and_passes_a_full_queue(line, wait_until):
    made = line(Impairment(delay_ns=HOUR_NS, ipdv_ns=MS, limit=3))
    for each in [*(made.frame(n) for n in range(6)), ARP]:
        made.near.send(each)
    wait_until(lambda: made.wire.counters()[0]["arrived"] == 7 and made.wire.logged == 3, "all came, three are dropped")
    made.wire.close()
    events = made.wire.events().events
    assert events["number"][made.flagged(events, "queue")].tolist() == [3, 4, 5]
    (arp,) = events[made.flagged(events, "spared")]
    assert arp["due_ns"] - arp["rx_ns"] == HOUR_NS


def test_sparing_can_be_switched_off(line):
    made = line(Impairment(loss=1.0), spare=False)
    assert made.carry([ARP]) == []
