"""What users get wrong, and what machines lack: one clear line with the remedy, and the right exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lab
from lab.conditions import BASELINES, WAYS

#: What every kernel with network namespaces has.
EVERYWHERE = ("lo", "lo-net", "own", "veth", "router", *BASELINES)
MEASURE = ("compare", "--links", "lo,veth", "--rounds", "1", "--count", "20", "--json")


def error_line(done):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    assert lines[0].startswith("lab: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rtt", "wlan0"], "unknown target 'wlan0': give a link (lo, lo-net, own, veth, "),
        (["rtt", "192.0.2.1"], "192.0.2.1 is no loopback address"),
        (["rtt", "lo", "--probe", "sctp"], "choose from icmp, udp, tcp"),
        (["rtt", "lo", "-4", "-6"], "-4 and -6 together: give one"),
        (["rtt", "::1", "-4"], "::1 is an IPv6 address: leave -4 out"),
        (["rtt", "lo", "--count", "0"], "a count of 0: give 1 to 16,777,216"),
        (["rtt", "lo", "--count", "16777217"], "give 1 to 16,777,216"),
        (["rtt", "lo", "--timeout", "5"], "'5' is not a duration: give a number and a unit"),
        (["rtt", "lo", "--size", "70000"], "icmp takes 16 to 65,507"),
        (["rtt", "lo", "--world", "mars"], "unknown world 'mars': choose new"),
        (["rtt", "veth", "--world", "host"], "veth is made in a private world, never on the host: leave --world out"),
        (["rtt", "lo", "--probe", "udp", "--wait", "spin", "--placement", "same-cpu"], "use --wait block"),
        (["rtt", "lo", "--arrivals", "poisson"], "how often? poisson needs --rate, such as 10kpps, or --interval"),
        (["rtt", "lo", "--arrivals", "closed", "--rate", "10kpps"], "give --arrivals periodic or poisson, or --think"),
        (["rtt", "lo", "--rate", "10kpps", "-i", "1ms"], "--rate 10kpps and --interval 1ms together: give one"),
        (["rtt", "lo", "--rate", "fast"], "'fast' is not a rate: give packets a second (pps, kpps, Mpps)"),
        (["rtt", "lo", "--rate", "2000Mpps"], "below the clock's resolution (1 ns); give 1000Mpps or less"),
        (["rtt", "lo", "-i", "1ns"], "a period of 1 ns is below the resolution of this machine's clock"),
        (["rtt", "lo", "-i", "2min"], "give at least 1 ns, the clock's resolution, and at most 60s"),
        (["rtt", "lo", "--rate", "1000", "--think", "1ms"], "leave --think out, or use closed"),
        (["rtt", "lo", "--seed", "-1"], "a seed of -1"),
        (["rtt", "pipe", "--stages"], "only of icmp, udp, tcp does the kernel stamp every step"),
        (["rtt", "shm", "--rate", "1000"], "shm is always sent back to back: leave --arrivals, --rate"),
        (["rtt", "veth", "--probe", "pipe"], "pipe crosses no link: leave veth out, as in lab rtt pipe"),
        (["rtt", "lo", "--cpus", "4096"], "CPU '4096' is not among those that this process may use: "),
        (["rtt", "lo", "--cpus", "first"], "CPU 'first' is not among those"),
        (["compare", "--cpus", "4096"], "CPU '4096' is not among those that this process may use: "),
        (["compare", "--rate", "0"], "'0' is not a rate"),
        (["compare", "--arrivals", "bursts"], "unknown arrivals 'bursts': choose from closed, periodic, poisson"),
        (["rtt", "lo", "--nope"], "see lab rtt --help"),
        (["rtt"], "see lab rtt --help"),
        (["frobnicate"], "see lab --help"),
        (["compare", "--links", "lo,wlan0"], "unknown link 'wlan0': choose from lo, lo-net, own, veth, "),
        (["compare", "--links", ""], "no link to measure"),
        (["compare", "--families", "4,five"], "unknown family '4,five': choose from 4, 6"),
        (["compare", "--families", "5"], "unknown family 5: choose from 4, 6"),
        (["compare", "--rounds", "0"], "a number of rounds of 0: give 1 to"),
        (["compare", "--budget", "30"], "'30' is not a duration"),
        (["show", "nowhere"], "nowhere is no study"),
        (["plot", "--kind", "pie"], "unknown figure 'pie': choose from overview, ecdf"),
    ],
)
def test_bad_usage_exits_2_with_one_line(run, arguments, said):
    done = run(*arguments)
    assert said in error_line(done)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lab.rtt("lo", timeout=1), "1 is not a duration: give a number and a unit"),
        (lambda: lab.compare(budget=30), "30 is not a duration"),
        (lambda: lab.rtt("lo", family=0), "unknown family 0: choose from 4, 6"),
        (lambda: lab.compare(families=5), "unknown family 5"),
        (lambda: lab.compare(probes="sctp"), "unknown probe 'sctp'"),
        (lambda: lab.compare(world="mars"), "unknown world 'mars'"),
        (lambda: lab.Study.load("nowhere"), "nowhere is no study"),
    ],
)
def test_bad_arguments_in_python_are_usage_errors(call, said):
    with pytest.raises(lab.UsageError) as caught:
        call()
    assert said in str(caught.value)


def test_there_is_no_study_yet(run):
    for command in ("show", "plot"):
        done = run(command)
        assert done.returncode == 1
        assert "name one, or make one with lab compare" in error_line(done)


def test_nowhere_to_write_the_result(run, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lab", "doctor", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.strip() == "lab: error: cannot write the output: No space left on device"


def test_a_stream_that_fails_leaves_no_empty_study(run, tmp_path):
    done = run("rtt", "lo", "--world", "host", "-o", "study", faults=("no-rights",))
    assert done.returncode == 1
    assert not (tmp_path / "study").exists()


def test_an_output_folder_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("keep me")
    done = run("compare", "-o", "out", "--rounds", "1", "--count", "10", "--links", "lo", "--world", "host")
    assert done.returncode == 2
    assert "out exists: name another folder with -o, or remove it" in error_line(done)
    assert (tmp_path / "out" / "precious").read_text() == "keep me"


def test_an_output_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in (["compare", "--rounds", "1"], ["rtt", "lo"]):
        done = run(*command, "-o", "file/out", "--count", "10", "--world", "host")
        assert done.returncode == 1
        assert "cannot write file/out: Not a directory; name another folder with -o" in error_line(done)


def test_a_disk_that_is_full_keeps_the_finished_runs(run, tmp_path):
    """The study's folder on a file system of 256 KiB, mounted in a namespace of the test's own."""
    done = run(
        "compare", "--links", "lo", "--probes", "udp", "--rounds", "400", "--world", "host", "-o", "small/study",
        faults=("small-disk",),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"lab: error: cannot write small/study.*No space left on device.*; finished runs are kept", last)


def test_no_user_namespaces_and_no_root_still_measures_lo(run):
    """UDP and TCP over the lo that is there; what cannot be had is skipped with errno, reason and remedy."""
    done = run(*MEASURE, faults=("no-userns", "no-rights"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {(row["link"], row["probe"], row["family"]) for row in document["rows"]} == {
        ("lo", probe, family) for probe in ("udp", "tcp") for family in (4, 6)
    }
    assert all(row["received"] == 20 for row in document["rows"])
    skipped = {(skip["link"], skip["probe"], skip["family"]): skip for skip in document["skipped"]}
    assert set(skipped) == {("veth", None, None), ("lo", "icmp", 4), ("lo", "icmp", 6)}
    for skip in skipped.values():
        assert skip["errno"] in (1, 13, 28)  # EPERM, EACCES, ENOSPC: what the kernel answered to an actual attempt
        assert skip["reason"]
        assert skip["fix"]
    assert "this machine's own lo" in document["warnings"][0]


def test_no_user_namespaces_and_a_private_world_asked_for(run):
    for arguments in (["rtt", "lo", "--world", "new"], ["rtt", "veth"], ["compare", "--world", "new"]):
        done = run(*arguments, faults=("no-userns", "no-rights"))
        assert done.returncode == 1
        line = error_line(done)
        assert "cannot make a private network: unshare(CLONE_NEWUSER | CLONE_NEWNET): ENOSPC" in line
        assert "--world host" in line


def test_rtt_on_lo_falls_back_to_the_host(run):
    done = run("rtt", "lo", "--probe", "udp", "--count", "50", "--json", faults=("no-userns", "no-rights"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["received"] == 50
    assert "this machine's own lo" in document["warnings"][0]


def test_icmp_on_the_host_without_rights(run):
    done = run("rtt", "lo", "--world", "host", faults=("no-rights",))
    assert done.returncode == 1
    line = error_line(done)
    assert "no raw socket" in line
    assert "ping_group_range" in line
    assert "--probe udp" in line


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_ping_sockets_serve_where_raw_ones_are_refused(run, family):
    done = run("rtt", "lo", family, "--world", "host", "-c", "200", "--json", faults=("no-rights", "ping-sockets"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["socket"] == "icmp-ping"
    assert (document["received"], document["reply"]["ttl"], document["reply"]["bytes"]) == (200, 64, 56)


def test_a_link_that_cannot_be_made_is_skipped_with_its_errno(run):
    """The world's first namespace is allowed, the far end's is not: veth has nowhere to go."""
    done = run(*MEASURE, faults=("near-only",))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {row["link"] for row in document["rows"]} == {"lo"}
    (skip,) = document["skipped"]
    assert (skip["link"], skip["errno"]) == ("veth", 28)
    assert "unshare(CLONE_NEWNET)" in skip["reason"]
    assert "max_net_namespaces" in skip["fix"]
    done = run("rtt", "veth", faults=("near-only",))
    assert done.returncode == 1
    assert "unshare(CLONE_NEWNET): ENOSPC" in error_line(done)


def test_ipv6_switched_off(run):
    done = run(*MEASURE, "--world", "host", faults=("ipv6-off",))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {row["family"] for row in document["rows"]} == {4}
    six = [skip for skip in document["skipped"] if skip["family"] == 6]
    assert {skip["probe"] for skip in six} == {"icmp", "udp", "tcp"}
    assert all(skip["errno"] == 99 and "disable_ipv6=0" in skip["fix"] for skip in six)
    done = run("rtt", "lo", "-6", "--world", "host", faults=("ipv6-off",))
    assert done.returncode == 1
    assert "disable_ipv6=0" in error_line(done)


def test_lo_down(run):
    done = run("rtt", "lo", "--world", "host", "--probe", "tcp", faults=("lo-down",))
    assert done.returncode == 1
    assert "ip link set lo up" in error_line(done)


def test_one_cpu(run):
    done = run(*MEASURE, "--world", "host", "--links", "lo", faults=("one-cpu",))
    assert done.returncode == 0, done.stderr
    for arguments in (["rtt", "lo", "--probe", "udp"], ["compare", "--links", "lo", "--probes", "udp"]):
        done = run(*arguments, "--placement", "cross-cpu", "--world", "host", faults=("one-cpu",))
        assert done.returncode == 1
        line = done.stderr.strip().splitlines()[-1]
        assert "the near end and the far end need a CPU each, and this process may use 1" in line
        assert "taskset" in line


@pytest.mark.parametrize("arguments", [("--stages",), ("--probe", "udp", "-6", "--stages"), ("--probe", "tcp-syn")])
def test_a_kernel_that_gives_no_stamps(run, arguments):
    done = run("rtt", "lo", *arguments, faults=("no-stamps",))
    assert done.returncode == 1
    line = error_line(done)
    assert "SO_TIMESTAMPING" in line
    assert "leave --stages out" in line


def test_doctor_says_that_the_kernel_gives_no_stamps(run):
    document = json.loads(run("doctor", "--json", faults=("no-stamps",)).stdout)
    (item,) = [item for item in document["items"] if item["id"] == "stamps"]
    assert item["status"] == "missing"
    assert "ENOPROTOOPT" in item["evidence"]
    assert not document["ok"]


def test_cpus_that_do_not_suit_the_placement(run):
    """In a process that may use one CPU; which one, the refusal tells."""
    cpu = error_line(run("rtt", "lo", "--cpus", "none", faults=("one-cpu",))).split()[-1]
    for cpus, placement, said in (
        (cpu, "cross-cpu", "give two different ones, NEAR,FAR, of"),
        (f"{cpu},{cpu}", "cross-cpu", "give two different ones, NEAR,FAR, of"),
        (",".join([cpu] * 4), "same-cpu", "give one each for the near end, the far end, the wire"),
    ):
        done = run("rtt", "lo", "--probe", "udp", "--placement", placement, "--cpus", cpus, faults=("one-cpu",))
        assert done.returncode == 2
        assert said in error_line(done)


def test_a_rate_that_no_machine_holds_is_told(run, world):
    """A probe every 100 ns: the schedule is kept as a debt, and said to be one."""
    done = run("rtt", "lo", "--probe", "udp", "--rate", "10Mpps", "-c", "5000", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["sent"] == document["received"] + document["lost"] == 5_000
    assert document["schedule"]["achieved_pps"] < document["schedule"]["rate_pps"] == 10_000_000
    assert document["response_ns"]["p50"] > document["rtt_ns"]["p50"]
    (warning,) = [text for text in document["warnings"] if "were due" in text]
    assert warning in done.stderr
    assert "give a lower --rate" in warning


def test_doctor_names_what_is_missing(run):
    done = run("doctor", "--json", faults=("no-userns", "no-rights", "ipv6-off", "one-cpu"))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    found = {item["id"]: item for item in report["items"]}
    assert report["ok"] is False
    assert found["namespaces"]["status"] == "denied"
    links = {way: found[f"link-{way}"] for way in WAYS}
    assert {way for way, item in links.items() if item["status"] == "ok"} == {"lo", *BASELINES}
    assert all(item["crosses"] for item in links.values())
    assert all("ENOSPC" in links[way]["evidence"] for way in WAYS if way not in ("lo", "lo-net", *BASELINES))
    assert found["host-ipv6"]["status"] == "missing"
    assert {found[name]["status"] for name in ("host-icmp", "host-capture", "host-inject", "cpus")} == {"partial"}
    assert found["host-ipv4"]["status"] == found["clock"]["status"] == "ok"
    assert all(item["evidence"] for item in report["items"])
    assert all(item["fix"] and item["cost"] for item in report["items"] if item["status"] != "ok")


def test_doctor_is_content_where_all_is_well(run, world):
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    wanted = {"namespaces", "icmp-ipv4", "icmp-ipv6", "inject", *(f"link-{way}" for way in EVERYWHERE)}
    assert {f"link-{way}" for way in WAYS} <= {item["id"] for item in report["items"]}
    assert {item["id"] for item in report["items"] if item["status"] == "ok"} >= wanted
    assert done.returncode == (0 if report["ok"] else 1)
