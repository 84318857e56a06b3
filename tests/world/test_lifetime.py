"""Stopping, dying and cleaning up: what was finished is kept, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lab
from lab.probes import send_stream
from lab.studies import Study
from lab.world import open_endpoints


def helpers():
    """Helpers that this test process, or a command that it started, has running, and the namespaces they live in."""
    parents, found = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
            parents[entry.name] = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"lab.world.helper" in command:
                # The parent that it was started by is its last argument, also when that one is dead.
                found[entry.name] = (command[-2].decode(), str((entry / "ns/net").readlink()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is somebody else's
    return {pid: home for pid, home in found.items() if home[0] in OURS}


#: Processes whose helpers are looked for.
OURS = {str(os.getpid())}


@pytest.fixture
def start(tmp_path, world):
    """Starts ``lab …`` in the background; kills it at the end if need be."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        OURS.add(str(process.pid))
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_keeps_the_finished_runs(start, tmp_path, wait_until):
    process = start("compare", "--rounds", "5000", "--count", "500", "-o", "study", "--json")
    wait_until(lambda: len(list(tmp_path.glob("study/probes/*.parquet"))) >= 5, "five runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert "finished runs are kept in study (lab show study)" in last
    study = Study.load(tmp_path / "study")
    assert not study.complete
    assert len(study.runs) >= 5
    assert len(study.to_polars()) == 500 * len(study.runs)
    assert any("partial" in warning for warning in study.summary().warnings)
    shown = subprocess.run(
        [sys.executable, "-m", "lab", "show", "study"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "the study is partial" in shown.stdout


def test_ctrl_c_before_the_first_run_leaves_no_empty_study(start, tmp_path, wait_until):
    process = start("compare", "--count", "10000000", "-o", "study")
    wait_until(lambda: (tmp_path / "study" / "study.json").exists(), "the study's folder")
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing to keep" in err
    assert not (tmp_path / "study").exists()


def test_ctrl_c_while_the_cost_of_stamps_is_measured_keeps_the_stream(monkeypatch, tmp_path):
    def interrupted_cost(condition, _typical_ns, send):
        signal.raise_signal(signal.SIGINT)
        assert send(condition, 1000, 0).interrupted
        return None

    monkeypatch.setattr("lab.single.stamping_cost", interrupted_cost)
    stream = lab.rtt("lo", probe="udp", stages=True, count=50, output=tmp_path / "study")
    assert (stream.interrupted, stream.received, stream.stages_complete) == (True, 50, 1.0)
    assert len(Study.load(tmp_path / "study").to_polars()) == 50


@pytest.mark.parametrize("wait", ["block", "spin"])
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_ctrl_c_ends_a_stream_and_prints_what_was_measured(start, probe, wait, wait_until):
    process = start("rtt", "lo", "--probe", probe, "--wait", wait, "--count", "10000000", "--json")
    wait_until(lambda: ticks_of_pinned_thread(process.pid) > 3, "the stream's thread to have run for a while")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    document = json.loads(out)
    assert document["interrupted"] is True
    assert 0 < document["sent"] < 10_000_000
    assert document["sent"] == document["received"]
    assert "interrupted after" in err


def ticks_of_pinned_thread(pid):
    """CPU time, in clock ticks, of the thread that may use one CPU only: the stream's, or 0 while there is none.

    One that looks at the noise floor before is pinned too, but ends after two ticks.
    """
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            status = (task / "status").read_text()
            cpus = next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
            if cpus.isdigit():
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                return int(fields[11]) + int(fields[12])
    return 0


def test_the_budget_ends_with_a_whole_round(run, world):
    done = run("compare", "--rounds", "5000", "--count", "50", "--links", "lo", "--budget", "1s", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rounds = {row["rounds"] for row in document["rows"]}
    assert len(rounds) == 1
    assert 1 <= rounds.pop() < 5000
    assert any("budget was used up" in warning for warning in document["warnings"])


@pytest.mark.parametrize("probe", ["udp", "tcp"])
@pytest.mark.parametrize("placement", ["inline", "same-cpu"])
def test_a_reflector_that_dies_ends_the_stream(world, family, probe, placement, wait_until):
    """Its socket is shut down underneath it, in the middle of a stream that would take minutes."""
    condition = lab.Condition(probe=probe, family=family, placement=placement)
    with open_endpoints(world, condition) as ends:
        caught = []

        def stream():
            with pytest.raises(lab.StreamError) as error:
                send_stream(condition, ends, count=10_000_000, warmup=0)
            caught.append(error.value)

        thread = threading.Thread(target=stream)
        thread.start()
        wait_until(lambda: threading.active_count() > 2, "the stream's thread")
        ends.far.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        assert not thread.is_alive()
    (error,) = caught
    assert "the reflector" in str(error)
    assert "socket was closed" in str(error)
    assert 0 <= error.done < 10_000_000


def test_a_reflector_that_dies_in_a_comparison_keeps_the_finished_runs(tmp_path, world, monkeypatch):
    from lab import experiment

    opened = 0

    def sabotaged(place, condition):
        nonlocal opened
        ends = open_endpoints(place, condition)
        opened += 1
        if opened == 9:
            ends.far.shutdown(socket.SHUT_RDWR)
        return ends

    monkeypatch.setattr(experiment, "open_endpoints", sabotaged)
    with pytest.raises(lab.StreamError, match=r"the reflector .*; 6 finished runs are kept in .*study"):
        lab.compare(probes="udp", families=4, rounds=5, count=50, world=world, output=tmp_path / "study")
    study = Study.load(tmp_path / "study")
    assert len(study.runs) == 6
    assert not study.complete


def test_a_reply_that_nobody_waited_for_is_not_given_to_the_next(world):
    """A request that was interrupted leaves its reply in the channel; the next request gets its own all the same."""
    world._client._channel.send(b'{"op": "socket", "number": -1, "end": "near", "family": 2, "type": 2, "proto": 0}')
    with world.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
        assert (made.family, made.type) == (socket.AF_INET6, socket.SOCK_STREAM)


def test_a_second_ctrl_c_waits_for_the_loop(start, wait_until):
    process = start("rtt", "lo", "--probe", "udp", "--count", "10000000", "--json")
    wait_until(lambda: ticks_of_pinned_thread(process.pid) > 3, "the stream's thread to have run for a while")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_while_the_world_is_made_is_one_line(start, tmp_path):
    rng = random.Random(4)
    for attempt in range(6):
        process = start("compare", "-o", f"early{attempt}")
        time.sleep(rng.uniform(0.15, 0.6))  # the moment is what is varied
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
        if process.returncode == -signal.SIGINT or "lab/__main__.py" in err:
            continue  # before our own code was there to take note
        assert process.returncode == 130
        assert "Traceback" not in err, err


def test_a_stream_does_not_move_the_callers_thread(world):
    before = os.sched_getaffinity(0)
    lab.rtt("lo", world=world, count=100, probe="udp", placement="same-cpu")
    assert os.sched_getaffinity(0) == before


def test_a_world_ends_with_its_last_descriptor(wait_until):
    before = helpers()
    with lab.World(["lo", "veth"]) as world:
        kept = world.socket(socket.AF_INET, socket.SOCK_DGRAM, end="far")
        assert str(world.pid) in helpers()
        assert helpers()[str(world.pid)][1] != str(Path("/proc/self/ns/net").readlink())
    assert helpers() == before
    with kept:  # the socket keeps its namespace for as long as it is open
        kept.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.bind(("127.0.0.1", kept.getsockname()[1]))  # the same port, in another namespace


def test_a_helper_that_is_killed_is_an_error_and_not_a_hang():
    with lab.World(["lo"]) as world:
        os.kill(world.pid, signal.SIGKILL)
        with pytest.raises(lab.Unavailable, match=r"this world has ended.*Make a new one"):
            world.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_unknown_ends_and_links_are_refused(world):
    with pytest.raises(lab.UsageError, match="choose from near, far, middle"):
        world.socket(socket.AF_INET, socket.SOCK_DGRAM, end="nowhere")
    with pytest.raises(lab.UsageError, match="choose from lo, lo-net"):
        lab.World(["wlan0"])


def test_the_two_ends_of_a_veth_live_in_different_namespaces(world):
    with (
        world.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        world.socket(socket.AF_INET, socket.SOCK_DGRAM, end="far") as far,
    ):
        near.bind((world.links["veth"].near[4], 0))
        with pytest.raises(OSError, match="Cannot assign requested address"):
            far.bind((world.links["veth"].near[4], 0))


def test_sigkill_at_any_moment_leaves_nothing(start, tmp_path, wait_until):
    before = helpers()
    rng = random.Random(2)
    for attempt in range(8):
        process = start("compare", "--links", "all", "--rounds", "50", "--count", "200", "-o", f"study{attempt}")
        time.sleep(rng.uniform(0, 2.5))  # the moment is what is varied: its start, its links, its streams
        process.kill()
        process.communicate()
        wait_until(lambda: helpers() == before, "every helper to be gone")
    for file in tmp_path.glob("study*/study.json"):
        study = Study.load(file.parent)
        assert not study.complete
        if study.runs:
            assert len(study.to_polars()) == 200 * len(study.runs)
