"""Links worsened on purpose: what the wire says it did, and what the probes saw, must agree.

``by=wire`` throughout, so that it is the wire also where the kernel has netem.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import lab
from lab.conditions import BASELINES
from lab.records import LOST, WIRE_FLAGS

#: Links that a wire can join; tun and tap need /dev/net/tun.
WIREABLE = ("veth", "bridge", "router", "macvlan", "vxlan", "tun", "tap")
MS = 1_000_000


@pytest.fixture(scope="module")
def impaired(missing) -> Iterator[Callable[..., lab.World]]:
    """A world of wireable links, all of them if none are named, with the given impairment; made once for the module."""
    made: dict[str, lab.World] = {}

    def impaired(spec: str, *links: str) -> lab.World:
        if spec not in made:
            try:
                made[spec] = lab.World(links or WIREABLE, impair=f"{spec},by=wire" if spec else None)
            except lab.Unavailable as error:
                missing(str(error))
        return made[spec]

    yield impaired
    for world in made.values():
        world.close()


@pytest.fixture(params=WIREABLE)
def link(request, impaired) -> str:
    """Each link that can be made here; only tun and tap may be absent, and only where their device file is shut."""
    for skip in impaired("").skipped:
        if skip.link == request.param:
            assert skip.link in ("tun", "tap"), skip.reason
            assert not os.access("/dev/net/tun", os.R_OK | os.W_OK), skip.reason
            pytest.skip(skip.reason)
    return request.param


@pytest.fixture
def total(wait_until) -> Callable[[lab.World, str, str], int]:
    """How many frames a link's wire did so to, as its counters and its log say alike once all have left it."""

    def total(world: lab.World, link: str, deed: str) -> int:
        wire = world.wires[link]

        def empty() -> bool:
            return wire.logged == sum(way["arrived"] + way["duplicated"] for way in wire.counters())

        wait_until(empty, "the wire to be empty")
        counted = sum(way[deed] for way in wire.counters())
        assert counted == np.count_nonzero(wire.events().events["flags"] & WIRE_FLAGS[deed])
        return counted

    return total


# ---- loss ----


@pytest.mark.parametrize("probe", ["icmp", "udp"])
def test_lost_are_exactly_those_that_the_wire_dropped(impaired, total, link, family, probe):
    """But for those that a busy machine made late."""
    world = impaired("loss=10%,seed=7")
    before = total(world, link, "lost")
    stream = world.rtt(link, family=family, probe=probe, count=30, warmup=0, timeout="40ms")
    lost = np.flatnonzero(stream.records["status"] == LOST)
    assert lost.tolist() == stream.wire.dropped_seq.tolist()
    assert len(lost) == total(world, link, "lost") - before > 0
    assert stream.received + len(lost) + stream.late == 30
    assert stream.wire.overwritten == 0


def test_neighbour_discovery_is_spared(impaired, total, link, family):
    """Even a wire that loses every packet lets neighbours find each other, inside VXLAN too."""
    world = impaired("loss=100%,seed=1")
    stream = world.rtt(link, family=family, count=3, warmup=0, timeout="20ms")
    assert (stream.received, stream.lost) == (0, 3)
    assert stream.wire.dropped_seq.tolist() == [0, 1, 2]
    if link != "tun":  # which has no neighbours
        assert total(world, link, "spared") >= 2


def dropped(link: str, family: int, seed: int) -> list[int]:
    """Which of the first probes over a new link are lost."""
    with lab.World([link], impair=f"loss=30%,seed={seed},by=wire") as world:
        stream = world.rtt(link, family=family, probe="udp", count=30, warmup=0, timeout="20ms")
    return stream.wire.dropped_seq.tolist()


@pytest.mark.parametrize("name", ["veth", "vxlan"])
def test_the_seed_decides_what_is_lost(name, family):
    """Whatever the kernel sends meanwhile, to find neighbours and listeners, takes no draw."""
    first = dropped(name, family, 1)
    assert dropped(name, family, 1) == first
    assert dropped(name, family, 2) != first


@pytest.mark.parametrize("name", ["veth", "router", "vxlan"])
def test_bursts_lose_neighbours(impaired, name, family):
    """A bad state that is left after two frames on average, and loses all: most losses follow another."""
    stream = impaired("loss=ge:2%:50%,seed=3", "veth", "router", "vxlan").rtt(
        name, family=family, probe="udp", count=600, timeout="10ms"
    )
    events = stream.wire.events
    took_draws = events[(events["number"] >= 0) & (events["direction"] == 0)]
    lost = took_draws["flags"] & WIRE_FLAGS["lost"] != 0
    assert np.mean(lost[1:][lost[:-1]]) > 3 * np.mean(lost) > 0


@pytest.mark.parametrize("name", ["veth", "vxlan"])
def test_tcp_sends_again_what_was_lost(impaired, total, name, family):
    world = impaired("loss=2%,seed=5", "veth", "vxlan")
    stream = world.rtt(name, family=family, probe="tcp", count=80, warmup=0, timeout="60s")
    assert stream.received == 80
    assert total(world, name, "lost") > 0
    assert stream.wire.dropped_seq.tolist() == []


# ---- delay ----


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_a_delay_is_added_in_each_direction(impaired, link, family, probe):
    """No probe is back before its time; half of them are by then and what the wire alone costs, twice over."""
    plain = impaired("loss=0%,seed=1").rtt(link, family=family, probe=probe, count=100)
    late = impaired("delay=5ms,seed=1").rtt(link, family=family, probe=probe, count=12, warmup=1)
    assert late.received == 12
    assert late.rtt_ns.min() >= 10 * MS
    assert np.median(late.rtt_ns) <= 1.2 * (10 * MS + 2 * np.median(plain.rtt_ns))
    held_ns = late.wire.events["tx_ns"] - late.wire.events["rx_ns"]
    assert held_ns[late.wire.events["flags"] == 0].min() >= 5 * MS


@pytest.mark.parametrize("name", ["veth", "vxlan"])
def test_ipdv_varies_the_delay_around_its_mean(impaired, name, family):
    stream = impaired("delay=2ms,ipdv=2ms,seed=2", "veth", "vxlan").rtt(name, family=family, count=100, warmup=1)
    events = stream.wire.events
    delays_ns = (events["due_ns"] - events["rx_ns"])[events["flags"] == 0]
    assert 0 <= delays_ns.min() < 1 * MS
    assert 3 * MS < delays_ns.max() <= 4 * MS
    assert 1.7 * MS < delays_ns.mean() < 2.3 * MS
    assert np.all(events["tx_ns"][events["flags"] == 0] >= events["due_ns"][events["flags"] == 0])


def test_a_frame_that_is_reordered_skips_the_delay(impaired, total, link, family):
    world = impaired("delay=3ms,reorder=50%,seed=4")
    stream = world.rtt(link, family=family, probe="udp", count=40, warmup=1)
    assert stream.received == 40
    assert total(world, link, "reordered") > 0
    # A probe waits for the one before it, so that nothing is overtaken; but each way is waited for, or is not.
    waits = np.bincount(np.clip(stream.rtt_ns // (3 * MS), 0, 2), minlength=3)
    assert np.all(waits > 0)


# ---- the rest ----


@pytest.mark.parametrize("probe", ["icmp", "udp"])
def test_duplicates_are_counted_and_change_nothing_else(impaired, total, link, family, probe):
    world = impaired("duplicate=30%,seed=6")
    stream = world.rtt(link, family=family, probe=probe, count=60, warmup=20)
    assert (stream.sent, stream.received, stream.lost) == (60, 60, 0)
    assert 0 < stream.duplicate <= total(world, link, "duplicated")


def test_what_was_corrupted_is_mostly_lost(impaired, total, link, family):
    """A checksum tells; a bit of a field that nobody looks at does no harm."""
    world = impaired("corrupt=20%,seed=8")
    stream = world.rtt(link, family=family, probe="udp", count=25, warmup=0, timeout="30ms")
    assert 0 < stream.lost - stream.late <= total(world, link, "corrupted")
    assert stream.wire.dropped_seq.tolist() == []  # it passed them on
    assert total(world, link, "lost") == 0


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_a_rate_takes_the_time_of_the_frame(impaired, link, family, probe):
    """At 1 Mbit/s each byte takes 8 µs, twice."""
    stream = impaired("rate=1Mbit,seed=1").rtt(link, family=family, probe=probe, count=20, warmup=1)
    frames = stream.wire.events[stream.wire.events["flags"] == 0]
    there = frames["length"][frames["direction"] == 0]
    assert stream.received == 20
    assert stream.rtt_ns.min() >= 2 * 8_000 * (56 + 8 + 20)
    assert np.all(frames["tx_ns"] - frames["rx_ns"] >= 8_000 * frames["length"].astype(np.int64))
    assert there.max() >= 56 + 8 + 20 + 14 * (link != "tun") + 36 * (link == "vxlan")


def test_a_queue_that_is_full_drops(impaired, total, family):
    """One packet may be held: of the fragments of a probe, which come at once, all but the first are too many."""
    world = impaired("rate=1Mbit,limit=1,seed=1", "veth")
    stream = world.rtt("veth", family=family, probe="udp", size=6_000, count=3, warmup=0, timeout="100ms")
    assert stream.received == 0
    assert total(world, "veth", "queue") >= 3


# ---- what is not impaired ----


@pytest.mark.parametrize("name", ["lo", "lo-net", "own"])
def test_lo_is_impaired_by_netem_or_not_at_all(run, name):
    """And never measured over a link that the wire could join."""
    with lab.World([name], impair="delay=2ms,seed=1") as world:
        assert not world.wires
        if world.links:
            assert world.links[name].impaired == "netem"
            assert world.rtt(name, count=5).rtt_ns.min() >= 4 * MS
            return
        (skip,) = world.skipped
    assert skip.errno == 2
    assert skip.reason == "cannot make the link: put netem on lo: ENOENT (No such file or directory)"
    assert "modprobe sch_netem" in skip.fix
    done = run("rtt", name, "--impair", "delay=2ms")
    assert done.returncode == 1
    assert skip.reason in done.stderr


def test_a_way_that_the_wire_cannot_join_is_refused_by_wire(run):
    done = run("rtt", "lo", "--impair", "delay=2ms,by=wire")
    assert done.returncode == 2
    assert "lo has no cable that the wire could be put in" in done.stderr


def test_baselines_are_not_impaired():
    with lab.World(["veth", *BASELINES], impair="loss=1%,by=wire") as world:
        assert set(world.links) == {"veth"}
        assert [skip.link for skip in world.skipped] == list(BASELINES)
        assert all("no packets that could be impaired" in skip.reason for skip in world.skipped)
        assert all(skip.fix == "Measure it without --impair" for skip in world.skipped)


def test_a_comparison_says_what_it_was_impaired_by(tmp_path):
    study = lab.compare(
        links=("lo", "veth", "tun", "pipe"), impair="loss=20%,seed=9,by=wire", families=4, probes="udp", rounds=2,
        count=30, timeout="20ms", output=tmp_path / "study", progress=lambda step: None,
    )  # fmt: skip
    summary = study.summary().to_json()
    measured = {row["link"] for row in summary["rows"]}
    assert "veth" in measured <= {"veth", "tun"}
    assert all(row["lost"] > 0 for row in summary["rows"])
    assert {skip["link"] for skip in summary["skipped"]} == {"lo", "veth", "tun", "pipe"} - measured
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert document["world"]["links"]["veth"]["impaired"] == "wire"
    assert document["experiment"]["impair"]["loss"] == 0.2
    assert document["experiment"]["impair"]["seed"] == 9


# ---- how the wire waits ----


def test_a_wire_spins_on_a_cpu_of_its_own(impaired, link, missing):
    if len(os.sched_getaffinity(0)) < 2:
        missing("a wire that spins needs two CPUs")
    world = impaired("loss=0%,seed=1")
    stream = world.rtt(link, probe="udp", wait="spin", count=200)
    assert stream.received == 200
    assert stream.cpus.wire not in (None, stream.cpus.near)
    assert world.wires[link].wait == "block"  # again, as it would burn a CPU for nothing
    assert world.rtt(link, count=20).cpus.wire == stream.cpus.near


def test_a_wire_that_spins_is_refused_on_one_cpu(run):
    done = run("rtt", "veth", "--impair", "loss=1%,by=wire", "--wait", "spin", faults=("one-cpu",))
    assert done.returncode == 1
    assert "the near end and the wire need a CPU each, and this process may use 1" in done.stderr
    assert run("rtt", "veth", "--impair", "loss=1%,by=wire", "-c", "5", faults=("one-cpu",)).returncode == 0


def test_three_that_spin_need_three_cpus(impaired, tmp_path):
    """One stream is refused; a comparison skips what it can't have, with that reason, and measures the rest."""
    modes = {"wait": "spin", "placement": "cross-cpu", "count": 20}
    world = impaired("loss=0%,seed=1")
    measured, reasons = ["icmp", "udp"], set()
    if len(os.sched_getaffinity(0)) < 3:
        measured, reasons = ["icmp"], {"the near end, the far end and the wire need a CPU each"}
        with pytest.raises(lab.Unavailable, match=reasons.copy().pop()):
            world.rtt("veth", probe="udp", **modes)
    study = lab.compare(
        links="veth", families=4, probes=("icmp", "udp"), rounds=1, **modes, world=world, output=tmp_path / "study",
        progress=lambda step: None,
    )  # fmt: skip
    summary = study.summary().to_json()
    assert [row["probe"] for row in summary["rows"]] == measured
    told = {skip["reason"].partition(", and this")[0] for skip in summary["skipped"] if skip["link"] == "veth"}
    assert told == reasons
