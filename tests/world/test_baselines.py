"""Ways that are no interface: every message comes back, in the same records as those of links."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import lab
from lab.conditions import BASELINES, EMPTY, MAX_PAYLOAD, MIN_PAYLOAD

MODES = [("block", "inline"), ("spin", "inline"), ("block", "same-cpu"), ("block", "cross-cpu"), ("spin", "cross-cpu")]
MESSAGES = [name for name in BASELINES if name not in EMPTY]
KERNEL = [name for name in MESSAGES if name != "shm"]


def measure(missing, name, **options):
    if options.get("placement") == "cross-cpu" and len(os.sched_getaffinity(0)) < 2:
        missing("cross-cpu needs two CPUs")
    return lab.rtt(name, **options)


def check(stream: lab.Stream, size: int) -> None:
    """Every message came back, whole, and its stamps are in order."""
    rows = stream.records
    assert (stream.sent, stream.received, stream.lost, stream.foreign) == (len(rows), len(rows), 0, 0)
    assert np.all(rows["tx_ns"] <= rows["tx_done_ns"])
    assert np.all(rows["tx_done_ns"] <= rows["rx_ns"])
    assert np.all(rows["tx_ns"] <= rows["far_rx_ns"])
    assert np.all(rows["far_rx_ns"] <= rows["far_tx_ns"])
    assert np.all(rows["far_tx_ns"] <= rows["rx_ns"])
    assert np.all(rows["rx_ns"][:-1] <= rows["tx_ns"][1:])
    assert np.all(rows["reply_bytes"] == size)


@pytest.mark.parametrize(("wait", "placement"), MODES)
@pytest.mark.parametrize("name", KERNEL)
def test_every_message_comes_back(missing, name, wait, placement):
    stream = measure(missing, name, wait=wait, placement=placement, count=500, warmup=20)
    check(stream, 56)
    assert (stream.condition.family, stream.condition.probe) == (None, name)
    assert stream.reply == {"source": None, "ttl": None, "bytes": 56}


def test_shm_is_two_cpus_that_spin(missing):
    stream = measure(missing, "shm", placement="cross-cpu", count=2_000)
    check(stream, 56)
    assert stream.cpus.near != stream.cpus.far
    for options in ({"wait": "block"}, {"placement": "inline"}):
        with pytest.raises(lab.UsageError, match="needs --wait spin --placement cross-cpu"):
            lab.rtt("shm", **options)


@pytest.mark.parametrize("size", [MIN_PAYLOAD["pipe"], 57, 9_000, MAX_PAYLOAD])
@pytest.mark.parametrize("name", MESSAGES)
def test_sizes(missing, name, size):
    placement = "cross-cpu" if name == "shm" else "inline"
    check(measure(missing, name, size=size, placement=placement, count=50, warmup=5), size)


def test_the_kernel_takes_longer_than_a_cache_line(missing):
    """Both ends on CPUs of their own, spinning: what the kernel does, shm does not. The best of three, in one run."""
    best = {
        name: min(
            float(np.median(measure(missing, name, wait="spin", placement="cross-cpu", count=2_000).rtt_ns))
            for _ in range(3)
        )
        for name in ("shm", "unix-dgram")
    }
    assert best["shm"] < best["unix-dgram"]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_no_ip_version_and_no_other_probe(name):
    for options in ({"family": 4}, {"family": 6}, {"probe": "udp"}):
        with pytest.raises(lab.UsageError, match=f"{name} is no network|shm is one cache line"):
            lab.rtt(name, **options)


def test_a_comparison_has_one_row_for_each(run, tmp_path):
    done = run(
        "compare", "--links", f"lo,{','.join(BASELINES)}", "--probes", "udp", "--families", "4", "--rounds", "5",
        "--count", "50", "-o", "study", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = {row["link"]: row for row in document["rows"]}
    missing_shm = {"shm"} if len(os.sched_getaffinity(0)) < 2 else set()
    assert set(rows) == {"lo", *BASELINES} - missing_shm
    for name in set(rows) - {"lo"}:
        assert (rows[name]["family"], rows[name]["probe"], rows[name]["received"]) == (None, name, 250)
    table = lab.Study.load(tmp_path / "study").to_polars()
    assert table.filter(table["link"] == "pipe")["family"].null_count() == 250


def test_shm_needs_two_cpus(run):
    done = run("rtt", "shm", faults=("one-cpu",))
    assert done.returncode == 1
    assert "the near end and the far end need a CPU each, and this process may use 1" in done.stderr
