"""Doubts about the machine, from planted evidence: each is raised by its own, said once, and names a remedy."""

from __future__ import annotations

import pytest

from lab.doubts import machine_doubts

QUIET = {"voluntary": 0, "involuntary": 0, "minor_faults": 0, "major_faults": 0}
SECOND = 1_000_000_000


def look(cpu=1, stolen=0.001):
    return {"cpu": cpu, "duration_ns": 1_000_000, "stolen_ns": round(stolen * 1_000_000)}


def run(placement="inline", far=None, wire=None, link="lo", **usage):
    return {
        "link": link,
        "placement": placement,
        "sent": 1000,
        "start_ns": 5 * SECOND,
        "end_ns": 6 * SECOND,
        "cpus": {"near": 1, "far": far, "wire": wire},
        "usage": {"near": {**QUIET, **usage}, "far": None if far is None else QUIET},
        "softnet_dropped": 0,
        "napi_ids": {"near": 0},
    }


def document(before=(), after=(), power=None, power_after=None, allowed=(0, 1), **asked):
    return {
        "experiment": {"tuning": asked},
        "host": {"cpus_allowed": list(allowed)},
        "noise": {"before": list(before), "after": list(after)},
        "power": {"before": power or {}, "after": power_after or {}},
    }


def test_a_quiet_machine_is_not_talked_about():
    power = {
        "governors": {"1": "performance"},
        "idle_us": {"1": {"POLL": 0, "C1": 2, "C1E": 20}},
        "thermal_throttles": 5,
        "cgroup_throttles": 7,
    }
    slept = run("cross-cpu", far=0, voluntary=1000, involuntary=2, minor_faults=10)
    assert machine_doubts(document([look()], [look()], power, power), [slept, run()]) == []


def test_an_older_study_and_one_that_was_stopped_are_read():
    assert machine_doubts({"experiment": {}}, [{"link": "lo", "sent": 5}]) == []
    stopped = document([look()]) | {
        "noise": {"before": [look()], "after": None},
        "power": {"before": {}, "after": None},
    }
    assert machine_doubts(stopped, []) == []


@pytest.mark.parametrize(
    ("evidence", "runs", "said"),
    [
        (
            document([look(0), look(1, 0.03)], [look(0), look(1, 0.01)]), [run()],
            "CPU 1 lost 2% of its time to something else: p99 tells of that too; "
            "stop other programs, or choose quieter CPUs with taskset",
        ),
        (
            document(), [run(involuntary=60), run("cross-cpu", far=0, involuntary=60)],
            "other programs took the CPU 120 times while probes were under way; "
            "stop them, choose other CPUs with taskset, or give --fifo",
        ),
        (
            document(allowed=[1]), [run(involuntary=60)],
            "CPU 1 is the only one that this process may use, and everything else too; allow more (taskset)",
        ),
        (
            document(power={"governors": {"0": "powersave", "1": "performance", "2": "schedutil"}}), [run()],
            "CPU 0, 2 run at a changing clock rate (governor powersave, schedutil); "
            "cpupower frequency-set -g performance",
        ),
        (
            document(power={"idle_us": {"1": {"C6": 133, "C10": 890}, "2": {"C1": 2}}}),
            [run(), run("cross-cpu", far=0, voluntary=900)],
            "CPU 1 may sleep so deeply between probes that waking takes 890 µs (C10); give --awake",
        ),
        (
            document(power={"thermal_throttles": 5}, power_after={"thermal_throttles": 8}), [run()],
            "3 times while this was measured, the CPU got hot and was slowed down; let it cool down, and measure again",
        ),
        (
            document(power={"cgroup_throttles": 0}, power_after={"cgroup_throttles": 2}), [run()],
            "2 times while this was measured, a limit of CPU time stopped this process; "
            "raise its cgroup's cpu.max, and measure again",
        ),
        (
            document(), [run(minor_faults=50), run(minor_faults=1)],
            "51 page faults while probes were under way; give --mlock, or free some memory",
        ),
        (
            document(), [run(major_faults=1), run()],
            "1 page faults while probes were under way; give --mlock, or free some memory",
        ),
        (
            document(), [run() | {"softnet_dropped": 3}, run() | {"softnet_dropped": None}],
            "the kernel dropped 3 packets as a backlog was full; sysctl net.core.netdev_max_backlog=10000",
        ),
        (
            document(busy_poll_ns=50_000),
            [run(), run(), run(link="veth"), run(link="tap") | {"napi_ids": {"near": 9}}],
            "SO_BUSY_POLL did nothing on lo, veth: packets have no NAPI id there; use --wait spin",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_each_is_said_once(evidence, runs, said):
    assert machine_doubts(evidence, runs) == [said]


def test_preemption_by_our_own_threads_is_none():
    shared = [run("same-cpu", far=1, involuntary=900), run(wire=1, involuntary=900)]
    assert machine_doubts(document(), shared) == []


def test_deep_sleep_matters_only_to_those_who_sleep():
    deep = {"idle_us": {"1": {"C6": 133}}}
    sleeper = run("cross-cpu", far=0, voluntary=900)
    assert machine_doubts(document(power=deep), [sleeper])
    assert machine_doubts(document(power=deep, awake=True), [sleeper]) == []
    assert machine_doubts(document(power=deep), [run(voluntary=5), run("same-cpu", far=1, voluntary=900)]) == []
