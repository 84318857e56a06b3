"""Tuning on the machine itself: seen from inside while a stream runs, refused without the right, and bounded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lab
from lab import tuning


def try_it(missing, world, way="lo", **options):
    try:
        return lab.rtt(way, world=world, **options)
    except lab.Unavailable as error:
        missing(str(error))


def real_time_threads():
    """How many threads of this process have SCHED_FIFO."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            found += os.sched_getscheduler(int(task.name)) == os.SCHED_FIFO
        except ProcessLookupError:
            continue
    return found


def locked_kib():
    return int(re.search(r"VmLck:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def while_it_runs(seen, wait_until, what, work):
    """Runs `work` in another thread, and waits until `seen`."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    try:
        wait_until(lambda: seen() or not thread.is_alive(), what)
        held = seen()
    finally:
        thread.join()
    return held, result[0]


@pytest.mark.parametrize(
    ("probe", "placement", "threads"), [("udp", "same-cpu", 2), ("tcp", "cross-cpu", 2), ("icmp", "inline", 1)]
)
def test_both_ends_have_real_time_priority_and_nobody_else(
    world, missing, wait_until, family, probe, placement, threads
):
    try_it(missing, world, fifo=True, count=1)
    most = 0

    def seen():
        nonlocal most
        most = max(most, real_time_threads())
        return most >= threads

    held, stream = while_it_runs(seen, wait_until, "real-time threads", lambda: lab.rtt(
        world=world, family=family, probe=probe, placement=placement, fifo=True, count=30_000,
    ))  # fmt: skip
    assert held
    assert most == threads
    assert stream.received == 30_000
    assert real_time_threads() == 0


@pytest.mark.parametrize("probe", ["udp", "tcp"])
def test_real_time_ends_that_spin_have_a_cpu_each(world, missing, family, probe):
    """The reflector's thread begins on the near end's CPU, which that never leaves: it must get away all the same."""
    check_spinning(try_it(missing, world, family=family, probe=probe, **SPINNING))


def test_real_time_ends_of_shared_memory(missing):
    check_spinning(try_it(missing, None, "shm", **SPINNING))


SPINNING = {"wait": "spin", "placement": "cross-cpu", "fifo": True, "count": 1000, "warmup": 100}


def check_spinning(stream):
    assert stream.received == 1000
    assert stream.accounts.migrations in (0, None)


def test_a_real_time_stream_is_bounded(world, missing, monkeypatch):
    try_it(missing, world, fifo=True, count=1)
    monkeypatch.setattr(tuning, "FIFO_LIMIT_NS", 100_000_000)
    stream = lab.rtt(world=world, probe="udp", wait="spin", fifo=True, count=1_000_000)
    assert 0 < len(stream.records) < 1_000_000
    assert "stopped after 100ms, as --fifo lets nothing else run: give a smaller --count" in stream.warnings


def test_memory_stays_while_it_is_asked_to(world, missing, wait_until):
    try_it(missing, world, mlock=True, count=1)
    assert locked_kib() == 0
    held, stream = while_it_runs(
        lambda: locked_kib() > 1000, wait_until, "locked memory", lambda: lab.rtt(world=world, mlock=True, count=50_000)
    )
    assert held
    assert stream.received == 50_000
    assert locked_kib() == 0


def test_cpus_stay_awake_while_they_are_asked_to(world, missing, wait_until):
    try_it(missing, world, awake=True, count=1)

    def opened():
        return any(os.path.realpath(link) == "/dev/cpu_dma_latency" for link in Path("/proc/self/fd").iterdir())

    held, _stream = while_it_runs(
        opened, wait_until, "the device file", lambda: lab.rtt(world=world, awake=True, count=50_000)
    )
    assert held
    assert not opened()


def test_busy_polling_without_a_queue_is_told(world, missing, family):
    stream = try_it(missing, world, family=family, probe="udp", busy_poll="50us", count=10)
    assert stream.accounts.napi_ids == {"near": 0, "far": 0}
    assert "SO_BUSY_POLL did nothing on lo: packets have no NAPI id there; use --wait spin" in stream.warnings


REFUSED = """
import json, lab
try:
    lab.rtt(world="host", probe="udp", count=1, {})
except lab.Unavailable as error:
    print(json.dumps([error.errno, str(error)]))
"""


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("fifo=True", "no real-time priority (SCHED_FIFO): EPERM (Operation not permitted). Run as root, or allow it"),
        ("mlock=True", "cannot keep memory in RAM (mlockall): ENOMEM (Cannot allocate memory). Run as root, or"),
    ],
)
def test_each_is_refused_without_the_right(root, missing, option, said):
    launcher = [sys.executable, str(root / "tests/launch.py"), "no-rights", "--"]
    limit = ["prlimit", "--memlock=8388608", "--rtprio=0"]
    done = subprocess.run(
        [*limit, *launcher, sys.executable, "-c", REFUSED.format(option)], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    if done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    number, text = json.loads(done.stdout)
    assert number
    assert text.startswith(said)


def test_a_study_keeps_how_it_was_tuned_and_what_was_going_on(world, tmp_path):
    study = lab.compare(
        links="lo",
        probes="tcp",
        families=4,
        rounds=2,
        count=50,
        world=world,
        busy_poll="50us",
        output=tmp_path / "study",
    )
    document = lab.Study.load(study.path).document
    tuned = {"fifo": False, "mlock": False, "awake": False, "busy_poll_ns": 50_000}
    assert document["experiment"]["tuning"] == tuned
    cpus = sorted({run["cpus"]["near"] for run in document["runs"]})
    for when in ("before", "after"):
        assert [noise["cpu"] for noise in document["noise"][when]] == cpus
        assert set(document["power"][when]) == {"governors", "idle_us", "thermal_throttles", "cgroup_throttles"}
    for run in document["runs"]:
        assert run["usage"]["far"] is None
        assert set(run["tcp"]) == {"near", "far"}
        assert all(end["rtt_ns"] > 0 and end["retransmits"] == 0 for end in run["tcp"].values())
        assert run["softnet_dropped"] == 0
        assert run["migrations"] in (0, None)
