"""What the CPUs do besides: the loop on real ones, and the kernel's counters from planted files."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import lab
from lab.accounts import accounting
from lab.host import power
from lab.noise import THRESHOLD_NS, Background, _Counters, noise_floor

CPUS = sorted(os.sched_getaffinity(0))
MS = 1_000_000


def plant(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


# ---- the loop ----


def test_every_cpu_is_watched_for_as_long_as_asked():
    before = os.sched_getaffinity(0)
    floor = noise_floor(CPUS, 5 * MS)
    assert [noise.cpu for noise in floor] == CPUS
    for noise in floor:
        assert noise.duration_ns >= 5 * MS
        assert sum(count for _edge, count in noise.histogram) == noise.reads
        gaps = noise.gap_ns
        assert gaps["p50"] <= gaps["p99"] <= gaps["p999"] <= gaps["max"]
        beyond = sum(edge * count for edge, count in noise.histogram if edge >= THRESHOLD_NS)
        assert beyond <= noise.stolen_ns <= noise.duration_ns
        assert noise.to_json()["stolen_fraction"] == noise.stolen_ns / noise.duration_ns
    assert os.sched_getaffinity(0) == before


#: Keeps CPU argv[1] busy until its parent dies, or kills it.
NEIGHBOUR = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
print("busy", flush=True)
while os.getppid() == parent:
    pass
"""


def test_a_busy_neighbour_is_seen():
    """It takes about half of the CPU's time."""
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR, str(CPUS[-1])], stdout=subprocess.PIPE)
    with neighbour:
        assert neighbour.stdout.readline() == b"busy\n"
        (noise,) = noise_floor(CPUS[-1:], 200 * MS)
        neighbour.kill()
    assert noise.stolen_fraction > 0.2
    assert noise.gap_ns["max"] > 100 * noise.gap_ns["p50"]


def test_a_cpu_that_is_not_there_is_refused():
    with pytest.raises(lab.Unavailable, match=r"cannot run on CPU 1023.*Allow it with taskset, or name another"):
        noise_floor([1023], MS)


@pytest.mark.parametrize("duration_ns", [0, 10**10 + 1])
def test_a_duration_out_of_range_is_refused(duration_ns):
    with pytest.raises(lab.UsageError, match="give 1 to 10000000000"):
        noise_floor(CPUS[:1], duration_ns)


def test_a_background_has_a_before_and_an_after():
    background = Background(CPUS[:1], MS)
    told = background.to_json()
    assert set(told) == {"noise", "power"}
    assert [noise["cpu"] for noise in told["noise"]["before"]] == CPUS[:1]
    assert told["noise"]["after"] is told["power"]["after"] is None
    background.look_again()
    assert [noise["cpu"] for noise in background.to_json()["noise"]["after"]] == CPUS[:1]


# ---- the kernel's counters ----

INTERRUPTS = """\
            CPU0       CPU2
  1:          9          0  IR-IO-APIC    1-edge      i8042
 24:          5         70  PCI-MSIX-0000:00:02.0   0-edge      eth0
NMI:          0          1   Non-maskable interrupts
LOC:       1000       2000   Local timer interrupts
ERR:          3
"""
SOFTIRQS = (
    "                    CPU0       CPU2\n          HI:          1          0\n      NET_RX:         10         20\n"
)
STAT = "cpu  1 2 3 4 5 6 7 90 0 0\ncpu0 1 2 3 4 5 6 7 40 0 0\ncpu2 1 2 3 4 5 6 7 50 0 0\nintr 5\n"


def test_counters_are_read_by_cpu(tmp_path):
    """CPU 1 is offline."""
    read = _Counters.read(plant(tmp_path, {"interrupts": INTERRUPTS, "softirqs": SOFTIRQS, "stat": STAT}))
    assert read.interrupts == {
        0: {"1 i8042": 9, "24 eth0": 5, "NMI": 0, "LOC": 1000},
        2: {"1 i8042": 0, "24 eth0": 70, "NMI": 1, "LOC": 2000},
    }
    assert read.softirqs[2] == {"HI": 0, "NET_RX": 20}
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert read.steal_ns == {0: 40 * tick_ns, 2: 50 * tick_ns}


def test_counters_that_are_hidden_are_left_out(tmp_path):
    read = _Counters.read(plant(tmp_path, {"stat": STAT}))
    assert read.interrupts == read.softirqs == {}


def test_power_is_read(tmp_path):
    cpu = "sys/devices/system/cpu/cpu3"
    plant(tmp_path, {
        f"{cpu}/cpufreq/scaling_governor": "powersave\n",
        f"{cpu}/cpuidle/state0/name": "POLL\n", f"{cpu}/cpuidle/state0/latency": "0\n",
        f"{cpu}/cpuidle/state0/disable": "0\n",
        f"{cpu}/cpuidle/state1/name": "C6\n", f"{cpu}/cpuidle/state1/latency": "133\n",
        f"{cpu}/cpuidle/state1/disable": "0\n",
        f"{cpu}/cpuidle/state2/name": "C10\n", f"{cpu}/cpuidle/state2/latency": "890\n",
        f"{cpu}/cpuidle/state2/disable": "1\n",
        f"{cpu}/thermal_throttle/core_throttle_count": "2\n", f"{cpu}/thermal_throttle/package_throttle_count": "40\n",
        "proc/self/cgroup": "0::/user.slice/app\n",
        "sys/fs/cgroup/user.slice/app/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 7\n",
        "sys/fs/cgroup/user.slice/cpu.stat": "usage_usec 5\nnr_throttled 4\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 5\n",
        "sys/fs/cpu.stat": "nr_throttled 1000\n",
    })  # fmt: skip
    assert power([3], tmp_path) == {
        "governors": {"3": "powersave"},
        "idle_us": {"3": {"POLL": 0, "C6": 133}},
        "thermal_throttles": 42,
        "cgroup_throttles": 7,
    }


def test_control_groups_of_version_1_are_read(tmp_path):
    plant(tmp_path, {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:cpuset:/\n2:name=systemd:/docker/x\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 7\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
    })  # fmt: skip
    assert power([], tmp_path)["cgroup_throttles"] == 3


def test_power_where_the_kernel_tells_nothing(tmp_path):
    nothing = {"governors": {}, "idle_us": {}, "thermal_throttles": None, "cgroup_throttles": None}
    assert power([0], tmp_path) == nothing


# ---- accounts ----


class Ends:
    def __init__(self, near=None, far=None, kind="shm"):
        self.near, self.far, self.kind = near, far, kind


def test_drops_and_migrations_are_of_the_block_alone(tmp_path):
    drops = "0000000a 0000000{} 00000000\n00000001 00000010 00000000\n"
    sched = "python (12, #threads: 1)\n-----\nse.nr_migrations    :      {}\n"
    plant(tmp_path, {"net/softnet_stat": drops.format(1), "thread-self/sched": sched.format(5)})
    with accounting(Ends(), tmp_path) as accounts:
        plant(tmp_path, {"net/softnet_stat": drops.format("f"), "thread-self/sched": sched.format(7)})
    assert (accounts.softnet_dropped, accounts.migrations) == (14, 2)
    assert accounts.napi_ids == {}
    assert accounts.tcp is None


def test_accounts_that_are_hidden_are_null(tmp_path):
    with accounting(Ends(), tmp_path) as accounts:
        pass
    assert accounts.softnet_dropped is accounts.migrations is None
