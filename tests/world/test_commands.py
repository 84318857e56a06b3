"""The commands from end to end, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import polars as pl
import pytest

import lab
from lab.figures import KINDS

ROWS = [(probe, family, link) for probe in ("icmp", "udp", "tcp") for family in (4, 6) for link in ("lo", "veth")]


@pytest.mark.parametrize("rights", ["as we are", "unprivileged"])
def test_compare_prints_a_row_for_each_condition(run, world, rights):
    faults = ("no-rights",) if rights == "unprivileged" else ()
    done = run(
        "compare",
        "--links",
        "lo,veth",
        "--rounds",
        "5",
        "--count",
        "200",
        "--seed",
        "3",
        "-o",
        "study",
        "--json",
        faults=faults,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(row["probe"], row["family"], row["link"]) for row in document["rows"]] == ROWS
    assert document["skipped"] == []
    for row in document["rows"]:
        assert (row["rounds"], row["sent"], row["received"], row["lost"]) == (5, 1_000, 1_000, 0)
        low, high = row["p50_ci_ns"]
        assert 0 < low <= row["p50_ns"] <= high
        assert row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"]
        assert row["p999_ns"] is None
        assert (row["p50_minus_lo_ns"] is None) == (row["link"] == "lo")
        assert (row["p50_minus_lo_ci_ns"] is None) == (row["link"] == "lo")


def test_a_study_is_shown_and_drawn_again(run, world, tmp_path):
    done = run("compare", "--rounds", "5", "--count", "100", "--probes", "udp", "--links", "lo,veth", "--stages")
    assert done.returncode == 0, done.stderr
    assert "runs, about" in done.stderr
    (folder,) = (tmp_path / "studies").iterdir()
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted(f"{kind}.png" for kind in KINDS)
    again = run("show")
    assert again.stdout in done.stdout
    assert json.loads(run("show", str(folder), "--json").stdout)["study"] == str(folder)
    drawn = run("plot", "--kind", "ccdf", "-o", "tails.svg")
    assert drawn.stdout == "tails.svg\n"
    assert run("plot", "--kind", "ecdf", "--highlight", "lo").stdout == "ecdf.png\n"
    assert (tmp_path / "tails.svg").read_text().startswith("<?xml")
    study = json.loads((folder / "study.json").read_text())
    assert study["complete"] is True
    assert study["host"]["kernel"]
    assert study["world"]["links"]["veth"]["mtu"] == 1_500
    assert study["world"]["offloads"]["near veth"]
    assert study["world"]["sysctls"]["net.ipv4.tcp_congestion_control"]
    assert study["clock"]["after"]["monotonic_ns"] > study["clock"]["before"]["monotonic_ns"]


def test_the_same_seed_gives_the_same_order(run, world, tmp_path):
    orders = []
    for name in ("a", "b"):
        run("compare", "--links", "lo,veth", "--rounds", "3", "--count", "20", "--seed", "11", "-o", name)
        runs = json.loads((tmp_path / name / "study.json").read_text())["runs"]
        orders.append([(r["round"], r["link"], r["family"], r["probe"]) for r in runs])
    assert orders[0] == orders[1]
    first, second = ([o[1:] for o in orders[0] if o[0] == r] for r in (1, 2))
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_rtt_prints_one_document(run, world, family, probe):
    done = run("rtt", "lo", "--probe", probe, family, "--count", "20000", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["sent"] == document["received"] == 20_000
    assert document["inline_fraction"] > 0.9
    rtt = document["rtt_ns"]
    assert 0 < rtt["min"] <= rtt["p50"] <= rtt["p90"] <= rtt["p99"] <= rtt["p999"] <= rtt["max"]
    assert document["reply"]["source"] == {"-4": "127.0.0.1", "-6": "::1"}[family]
    assert document["response_ns"] is document["stages_ns"] is None
    assert document["clock"]["read_ns"] > 0
    assert document["condition"]["probe"] == probe


def test_rtt_in_the_terminal(run, world):
    done = run("rtt", "veth", "--probe", "udp", "-6", "--wait", "spin", "--placement", "inline", "--count", "500")
    lines = done.stdout.splitlines()
    assert lines[0] == "veth IPv6 udp → 2001:2:0:3::2, 56 bytes, spin, inline, ttl 64"
    assert lines[1].startswith("500 sent, 500 received, 0 lost")
    assert max(len(line) for line in lines if not line.startswith("warning: ")) <= 80
    bars = [line for line in lines if "│" in line]
    assert len(bars) >= 10
    assert sum(int(line.split()[-1]) for line in bars) == 500


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp", "unix-stream", "pipe"])
@pytest.mark.parametrize("arrivals", ["periodic", "poisson"])
def test_a_schedule_is_kept_and_told(run, world, probe, arrivals):
    done = run(
        "rtt", "lo", "--probe", probe, "--arrivals", arrivals, "--rate", "5kpps", "--seed", "7", "-c", "1000", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["sent"] == document["received"] == 1_000
    schedule = document["schedule"]
    assert (schedule["arrivals"], schedule["rate_pps"]) == (arrivals, 5_000)
    assert schedule["seed"] == (7 if arrivals == "poisson" else None)
    assert document["lateness_ns"]["min"] >= 0
    assert document["response_ns"]["min"] >= document["rtt_ns"]["min"]
    assert document["response_ns"]["mean"] > document["rtt_ns"]["mean"]


def test_the_due_times_are_those_of_the_seed(run, world, tmp_path):
    for name in ("a", "b"):
        run("rtt", "lo", "--arrivals", "poisson", "--rate", "10kpps", "--seed", "3", "-c", "300", "-o", name)
    first, second = (lab.Study.load(tmp_path / name).to_polars()["due_ns"].diff() for name in ("a", "b"))
    assert first.to_list() == second.to_list()


def test_think_time_lies_between_probes(run, world, tmp_path):
    done = run("rtt", "lo", "--think", "200us", "-c", "200", "-o", "study", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["response_ns"] is None
    table = lab.Study.load(tmp_path / "study").to_polars()
    assert (table["tx_ns"][1:] - table["rx_ns"][:-1]).min() >= 200_000
    assert (table["due_ns"] <= table["tx_ns"]).all()


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_stages_of_a_stream_and_of_its_study(run, world, tmp_path, family, probe, link):
    done = run("rtt", link, f"-{family}", "--probe", probe, "--stages", "-c", "2000", "-o", "study", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    stages = document["stages_ns"]
    assert len(stages) == (4 if probe == "icmp" else 9)
    assert all(stage["min"] >= 0 for stage in stages.values()), stages
    assert document["stages"]["complete"] >= 0.999
    assert 0.8 < sum(stage["p50"] for stage in stages.values()) / document["rtt_ns"]["p50"] < 1.2
    low, high = document["stages"]["cost_ns"]["p50_ci"]
    assert low <= document["stages"]["cost_ns"]["p50"] <= high
    assert (document["one_way_ns"] is None) == (probe == "icmp")
    study = lab.Study.load(tmp_path / "study")
    table = study.to_polars().with_columns(tx_real_ns=pl.col("tx_ns") + study.runs[0]["clock_offset_ns"])
    assert (table["tx_real_ns"] <= table["near_sched_real_ns"]).all()
    assert (table["ack_real_ns"].null_count() < len(table)) == (probe == "tcp")


def test_compare_on_a_schedule_says_so(run, world):
    done = run(
        "compare", "--links", "lo,shm", "--families", "4", "--probes", "udp", "--rate", "2000", "--rounds", "5",
        "-c", "50", "--cpus", str(min(os.sched_getaffinity(0))), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    row = next(row for row in document["rows"] if row["link"] == "lo")
    assert (row["arrivals"], row["period_ns"]) == ("periodic", 500_000)
    assert row["response_p50_ns"] > row["p50_ns"]
    assert "always sent back to back: shm" in document["warnings"]
    assert [(skip["link"], skip["fix"]) for skip in document["skipped"]] == [("shm", "Give NEAR,FAR")]


def test_the_cpus_of_the_ends_are_those_that_were_given(run, world):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    done = run(
        "rtt", "lo", "--probe", "udp", "--placement", "cross-cpu", "--cpus", f"{first},{second}", "-c", "50", "--json"
    )  # fmt: skip
    assert json.loads(done.stdout)["cpus"] == {"near": first, "far": second, "wire": None}


def test_a_probe_in_pieces_is_told(run, world):
    for size, pieces in ((1_000, None), (4_000, "fragments")):
        document = json.loads(run("rtt", "veth", "--probe", "udp", "-s", str(size), "-c", "50", "--json").stdout)
        assert document["pieces"] == pieces


def test_rtt_is_kept_as_a_study(run, world, tmp_path):
    done = run("rtt", "127.1.2.3", "--probe", "udp", "--count", "100", "-o", "one")
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "one" / "study.json").read_text())
    assert study["complete"] is True
    assert study["runs"][0]["target"] == study["runs"][0]["reply"]["source"] == "127.1.2.3"
    assert json.loads(run("show", "one", "--json").stdout)["rows"][0]["received"] == 100


def test_memory_of_a_long_stream(world, tmp_path):
    """At most 128 bytes a probe above what importing takes, writing the study included."""
    code = """
import resource, lab
from lab import experiment, figures, summaries
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
lab.rtt("lo", probe="udp", count=1000, output="warm").to_json()
before = peak()
stream = lab.rtt("lo", probe="udp", count=2_000_000, output="study")
assert stream.to_json()["received"] == 2_000_000
print((peak() - before) / 2_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 128, f"{done.stdout} bytes a probe"
