"""Many bytes over every link, and what is told of them: counts and order, never how fast."""

from __future__ import annotations

import json
import signal
import threading

import pytest

import lab
from lab import transfers
from lab.conditions import LINKS
from lab.native.throughput import move_bytes

SHORT = {"rounds": 1, "duration": "40ms", "warmup": "10ms"}


def check(found, *, rounds=1):
    """What is so of every transfer that went well."""
    assert len(found.rounds) == rounds
    assert found.bytes > 0
    assert found.duration_ns > 0
    for each in found.rounds:
        assert 0 < each.bytes <= each.total
        assert each.wrong == 0
        assert not each.late
        assert (each.received[1:] > each.received[:-1]).all()
        assert (each.at_ns[1:] > each.at_ns[:-1]).all()
    assert found.bytes_per_s["min"] <= found.bytes_per_s["p50"] <= found.bytes_per_s["max"]
    assert all(s > 0 for s in found.cpu_s_per_byte.values() if s is not None)


@pytest.mark.parametrize("probe", ["tcp", "udp"])
@pytest.mark.parametrize("link", LINKS)
def test_every_link_carries_bytes_whole(every_link, available, link, probe, family):
    made = available(every_link, link)
    if family in made.missing:
        pytest.skip(f"{link} has no IPv{family} address: errno {made.missing[family]}")
    found = lab.bulk(link, probe=probe, family=family, verify=True, world=every_link, **SHORT)
    check(found)
    assert str(found.condition) == f"{link} IPv{family} {probe}"
    (run,) = found.rounds
    assert (run.lost is None) == (probe == "tcp")
    assert (run.retransmits is None) == (probe == "udp")
    if probe == "udp":
        assert 0 <= run.overrun <= run.lost
        assert run.total == (run.messages - run.lost) * found.condition.size


@pytest.mark.parametrize("probe", ["unix-stream", "pipe", "memcpy"])
def test_what_is_no_network_needs_no_world(probe):
    found = lab.bulk(probe, verify=True, **SHORT)
    check(found)
    assert found.condition.family is None
    assert found.lost is None
    assert (found.cpus["far"] is None) == (probe == "memcpy")


def test_a_round_ends_after_so_many_bytes(world, family):
    found = lab.bulk("veth", family=family, total="1MB", size=1000, world=world, rounds=2, duration="20s", warmup="1ms")
    check(found, rounds=2)
    assert [each.total for each in found.rounds] == [1_000_000] * 2
    assert [each.messages for each in found.rounds] == [1000] * 2


def test_a_size_that_fits_in_one_packet_is_that_of_udp(world, family):
    found = world.bulk("veth", probe="udp", family=family, **SHORT)
    assert found.condition.size == 1500 - 8 - (20 if family == 4 else 40)
    assert not any("fragments" in text for text in found.warnings)
    larger = world.bulk("veth", probe="udp", family=family, size=4000, **SHORT)
    assert any("4,000 bytes leave in fragments" in text for text in larger.warnings)
    check(larger)


def test_lost_datagrams_are_those_that_the_wire_did_not_forward(missing):
    """It loses half of them on purpose, and some of a burst that is longer than its own buffer."""
    with lab.World(["veth"], impair="loss=50%,delay=1ms") as lossy:
        if lossy.skipped:
            missing(lossy.skipped[0].reason)
        found = lossy.bulk("veth", probe="udp", size=1000, total=200_000, rounds=1, warmup="1ms", duration="20s")
        did, _back = lossy.wires["veth"].counters()
    (run,) = found.rounds
    assert run.messages == 200
    assert did["lost"] > 10
    dropped = sum(did[name] for name in ("lost", "missed", "queue", "unsent"))
    assert 0 <= dropped - run.lost < 5  # of those that came before, to find the neighbours
    assert run.duplicates == run.reordered == run.overrun == 0
    assert any("of the datagrams were lost on their way" in text for text in found.warnings)


def test_both_threads_can_share_a_cpu(world):
    found = world.bulk("lo", placement="same-cpu", **SHORT)
    check(found)
    assert found.cpus["near"] == found.cpus["far"]


def test_memory_is_faster_than_any_way_through_the_kernel(world):
    memory = lab.bulk("memcpy", **SHORT).bytes_per_s["p50"]
    for way in ("lo", "unix-stream", "pipe"):
        assert memory > lab.bulk(way, world=world if way == "lo" else None, **SHORT).bytes_per_s["p50"]


# ---- the command ----


@pytest.mark.parametrize("faults", [(), ("no-rights",)], ids=["as we are", "without rights"])
def test_the_command_prints_one_document(run, faults):
    done = run("bulk", "--json", "--rounds", "2", "--duration", "30ms", "--warmup", "5ms", "-6", faults=faults)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["format"] == 1
    assert told["condition"]["family"] == 6
    assert told["bytes"] == sum(each["bytes"] for each in told["rounds"])
    assert set(told["bytes_per_s"]) == {"p50", "p50_ci", "min", "max", "mean"}
    assert told["lost"] is None
    assert len(told["rounds"]) == 2
    assert not told["interrupted"]


def test_the_command_prints_a_line_a_round(run):
    done = run("bulk", "pipe", "--rounds", "3", "--duration", "30ms")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pipe, messages of 65,536 bytes")
    assert sum(line.startswith(f"{n:>3} ") for line in done.stdout.splitlines() for n in (1, 2, 3)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["veth", "--probe", "pipe"], "pipe crosses no link"),
        (["--probe", "icmp"], "choose from tcp, udp"),
        (["-4", "-6"], "give one"),
        (["lo", "--size", "0"], "give 1 to"),
        (["veth", "--world", "host"], "made in a private world"),
    ],
)
def test_bad_usage_is_one_line(run, arguments, said):
    done = run("bulk", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


def test_an_interrupted_transfer_keeps_what_it_has(monkeypatch):
    """Ctrl-C while the third round is under way."""
    begun = []

    def move(spec, stop):
        begun.append(spec)
        if len(begun) == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return move_bytes(spec, stop)

    monkeypatch.setattr(transfers, "move_bytes", move)
    found = lab.bulk("pipe", rounds=100, duration="20ms", warmup="1ms")
    assert found.interrupted
    assert len(found.rounds) == len(begun) == 3
    assert found.rounds[0].bytes > 0
    assert any("interrupted in round 3 of 100" in text for text in found.warnings)
