"""Why the kernel drops packets, asked of the kernel that runs: for packets that a test sends in a world of its own.

Some may be dropped in a thread of the kernel, and some strangers' in ours, while others keep the machine busy: no test
rests on the last of them.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

import lab
from lab.taps.drops import watch_drops

ADDRESSES = {4: "127.0.0.1", 6: "::1"}
DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
PORT = 9000
COUNT = 100
A_FEW = COUNT // 10
#: Copies that a tap, or a socket that is closed, lets go of.
COPIES = {"SOCKET_FILTER", "PACKET_SOCK_ERROR", "QUEUE_PURGE"}
NOBODY = "00:00:00:00:00:00"
FRAME = Ether(src=NOBODY, dst=NOBODY) / IP(dst="127.0.0.1") / UDP(sport=1024, dport=PORT) / bytes(24)

SEND = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range({COUNT}):
        sender.sendto(b"", ("127.0.0.1", {PORT}))
"""
TRY = """
import lab
from lab.taps.drops import watch_drops

try:
    watch_drops()
except lab.Unavailable as error:
    print(error.errno, error)
"""


@pytest.fixture(scope="module")
def watch(missing):
    """``watch_drops``; its tests are skipped where the kernel's reasons can't be had."""
    try:
        watch_drops().close()
    except lab.Unavailable as error:
        missing(str(error))
    return watch_drops


def check(drops, reason, count=COUNT, but=0):
    """They are `count` packets dropped for `reason`; copies do not matter. but: how many of them were not kept."""
    seen = Counter(drop.reason for drop in drops if drop.reason not in COPIES)
    assert abs(seen.pop(reason, 0) + but - count) <= A_FEW
    assert seen.total() <= A_FEW


def send(world, family, count=COUNT):
    """Datagrams to a port where nobody listens."""
    with world.socket(DOMAINS[family], socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"", (ADDRESSES[family], PORT))


def inject(world, count=COUNT):
    world.inject(FRAME, "lo", path="l2", count=count, tell=lambda _text: None)


@pytest.fixture
def strict(world):
    """lo of the world as it is on any machine: neither sysctl set."""
    for name in ("route_localnet", "accept_local"):
        world.sysctl(f"ipv4/conf/lo/{name}", 0)
    yield world
    for name in ("route_localnet", "accept_local"):
        world.sysctl(f"ipv4/conf/lo/{name}", 1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "IP_LOCALNET"),
        ({"accept_local": 1}, "IP_LOCALNET"),
        ({"route_localnet": 1}, "IP_LOCAL_SOURCE"),
        ({"route_localnet": 1, "accept_local": 1}, "NO_SOCKET"),
    ],
    ids=lambda value: ",".join(value) or "neither" if isinstance(value, dict) else value,
)
def test_an_injected_ipv4_frame_dies_where_the_sysctls_say(watch, strict, settings, reason):
    for name, value in settings.items():
        strict.sysctl(f"ipv4/conf/lo/{name}", value)
    with watch() as drops:
        inject(strict)
    check(drops.seen, reason)
    assert drops.lost == 0


def test_a_datagram_that_nobody_waits_for(watch, world, family):
    before = time.monotonic_ns()
    with watch() as drops:
        send(world, family)
        while_open = drops.find(protocol=ETHERTYPES[family])
    after = time.monotonic_ns()
    check(drops.seen, "NO_SOCKET")
    check(while_open, "NO_SOCKET")
    check(drops.find(protocol=ETHERTYPES[family]), "NO_SOCKET")
    assert drops.find(pid=os.getpid(), since_ns=before, until_ns=after) == drops.seen
    assert drops.find(pid=os.getppid()) == drops.find(until_ns=before) == drops.find(since_ns=after) == ()
    times = [drop.time_ns for drop in drops.seen]
    assert times == sorted(times)
    assert {drop.cpu for drop in drops.seen} <= os.sched_getaffinity(0)


def test_the_function_is_named_as_far_as_it_may_be_known(watch, world, family):
    with watch() as drops:
        send(world, family)
    ((function, _count),) = Counter(drop.function for drop in drops.seen).most_common(1)
    hidden = not any(int(line.split()[0], 16) for line in Path("/proc/kallsyms").read_text().splitlines())
    assert (function is None) == hidden
    assert hidden or function.startswith("__udp4" if family == 4 else "__udp6")


def test_a_datagram_that_arrives_is_not_dropped(watch, world, family):
    with world.socket(DOMAINS[family], socket.SOCK_DGRAM) as listener, watch() as drops:
        listener.bind((ADDRESSES[family], PORT))
        send(world, family)
        for _ in range(COUNT):
            listener.recv(1)
    check(drops.seen, "NO_SOCKET", 0)


@pytest.mark.parametrize("hook", ["input", "output"])
def test_a_firewall(watch, world, family, hook):
    rule = lab.FirewallRule(verdict="drop", hook=hook, protocol="udp", port=PORT)
    with world.firewall(rule), watch() as drops, world.socket(DOMAINS[family], socket.SOCK_DGRAM) as sender:
        for _ in range(COUNT):
            with pytest.raises(PermissionError) if hook == "output" else contextlib.nullcontext():
                sender.sendto(b"", (ADDRESSES[family], PORT))
    check(drops.seen, "NETFILTER_DROP")


def test_programs_that_are_started_count_and_others_do_not(watch, world):
    """Of those that run already, a number makes one count."""
    waiting = "import sys; sys.stdin.readline()\n" + SEND
    other = world.popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE)
    with watch() as drops, watch(pids=[other.pid]) as both, watch(machine=True) as everybodys:
        started = world.popen([sys.executable, "-c", SEND])
        assert started.wait(30) == 0
        other.communicate(b"\n", timeout=30)
    assert other.returncode == 0
    check(drops.seen, "NO_SOCKET")
    check(drops.find(pid=started.pid), "NO_SOCKET")
    assert drops.find(pid=other.pid) == ()
    check(both.find(pid=started.pid), "NO_SOCKET")
    check(both.find(pid=other.pid), "NO_SOCKET")
    if not everybodys.lost:  # of the whole machine there may be more than the rings hold
        check(everybodys.find(pid=other.pid), "NO_SOCKET")
    assert len(everybodys.seen) + everybodys.lost >= len(both.seen) - A_FEW


def test_threads_count_whenever_they_were_started(watch, world):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with watch() as drops:
            pool.submit(send, world, 4).result()
            with ThreadPoolExecutor(1) as later:
                later.submit(send, world, 6).result()
    check(drops.find(protocol=0x0800), "NO_SOCKET")
    check(drops.find(protocol=0x86DD), "NO_SOCKET")


def test_protocols(watch, world):
    with watch(protocols=[0x86DD]) as only_6, watch(protocols=[]) as every:
        send(world, 4)
        send(world, 6)
    assert {drop.protocol for drop in only_6.seen} == {0x86DD}
    assert {0x0800, 0x86DD} <= {drop.protocol for drop in every.seen}


def test_a_full_ring_loses_some_and_counts_them(watch, world, family):
    with watch(pages=1) as drops:
        send(world, family, 20 * COUNT)
    assert 0 < len(drops.seen) < 10 * COUNT
    check(drops.seen, "NO_SOCKET", 20 * COUNT, but=drops.lost)


def test_a_ring_that_is_emptied_goes_round(watch, world, family):
    """Its one page holds some fifty: the same that loses most above, where nobody looks."""
    with watch(pages=1) as drops:
        for _ in range(COUNT):
            send(world, family, 20)
            assert drops.seen[-1].protocol == ETHERTYPES[family]
    assert drops.lost <= A_FEW
    check(drops.seen, "NO_SOCKET", 20 * COUNT, but=drops.lost)


def test_nothing_is_left(watch, world):
    watch().close()
    gc.collect()

    def state():
        mounts = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/ns/mnt").readlink()
        return mounts, len(list(Path("/proc/self/fd").iterdir()))

    before = state()
    with watch() as drops:
        send(world, 4)
        during = state()
    assert before[0] == during[0]  # tracefs was mounted where nobody else sees it
    assert before[1] < during[1]
    assert state() == before
    check(drops.seen, "NO_SOCKET")


@pytest.mark.parametrize("faults", [[], ["no-rights"]], ids=["root of a user namespace", "nobody"])
def test_without_the_right_it_says_so(faults, root):
    """Root of a user namespace of its own is nobody to the kernel's tracing."""
    launcher = root / "tests" / "launch.py"
    command = [sys.executable, str(launcher), *faults, "--", sys.executable, "-c", TRY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 77), done.stderr
    if done.returncode == 77:
        pytest.skip(done.stderr)
    number, _, text = done.stdout.strip().partition(" ")
    assert int(number) in (errno.EPERM, errno.EACCES)
    assert "It takes root on the machine itself" in text
    assert "\n" not in text
