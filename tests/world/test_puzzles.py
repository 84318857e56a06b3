"""Puzzles: each fault is there, is mended by the way that is told, and by nothing less; and nothing of it is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.puzzles.faults import FAULTS

RIGHTS = pytest.mark.parametrize("faults", [(), ("no-rights",)], ids=["as we are", "unprivileged"])
LAB = [sys.executable, "-m", "lab"]


def seed_of(fault):
    """The first seed of a puzzle with that fault, where no program is missing."""
    return next(seed for seed in range(1000) if random.Random(seed).choice(FAULTS) is fault)


@pytest.fixture(autouse=True)
def _world(world, tool):
    """Skips where no private world can be made, or a program is missing that somebody would mend a fault with."""
    for name in {name for fault in FAULTS for name in fault.needs}:
        tool(name)


def play(run, seed, *command, faults=()):
    done = run("puzzle", "--seed", str(seed), "--json", "--", *command, faults=faults)
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["solved"] else 1), done.stderr
    return result


@RIGHTS
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_there_until_it_is_mended(run, fault, faults):
    seed = seed_of(fault)
    left = play(run, seed, "true", faults=faults)
    assert (left["fault"], left["solved"]) == (fault.id, False)
    assert left["before"] == left["after"] != []
    if fault.id != "port-taken":  # whose process has another number each time
        mended = play(run, seed, "sh", "-ec", left["mend"], faults=faults)
        assert (mended["fault"], mended["solved"], mended["after"], mended["code"]) == (fault.id, True, [], 0)


@RIGHTS
def test_the_port_is_freed_by_ending_who_has_it(run, faults):
    """As somebody would find out: the lab's own command names the process."""
    (fault,) = (each for each in FAULTS if each.id == "port-taken")
    code = "import json, sys; print(json.load(sys.stdin)['holders'][0]['pid'])"
    find = f'pid=$(lab ports 8080 --json | {sys.executable} -c "{code}")'
    wait = 'for _ in $(seq 100); do shop start | grep "is open" && exit; done'
    result = play(run, seed_of(fault), "sh", "-c", f"{find} && kill $pid; {wait}", faults=faults)
    assert (result["fault"], result["solved"], result["after"]) == (fault.id, True, [])


def test_the_same_seed_is_the_same_puzzle(run):
    first, second = (play(run, 5, "true") for _ in range(2))
    assert first == second


def test_a_fault_is_seen_by_doctor(run):
    """Inside, the doctor finds trouble, and none when it is mended."""
    (fault,) = (each for each in FAULTS if each.id == "echo-ignored")
    mend = play(run, seed_of(fault), "true")["mend"]
    looked = play(run, seed_of(fault), "sh", "-c", f"lab doctor >/dev/null && exit 9; {mend}")
    assert (looked["solved"], looked["code"]) == (True, 0)


def test_what_is_told_at_a_terminal(run):
    done = run("puzzle", "--seed", "3", "--solution", "--", "true")
    assert done.returncode == 1
    assert 'Puzzle 3. Somebody says: "The shop at http://localhost:8080/' in done.stdout
    assert "Not yet:" in done.stdout
    assert "One way to mend it:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_nothing_is_left_when_the_lab_is_killed(tmp_path, wait_until):
    """Not even what the reader has started in the background."""
    inside = f"echo $$ > {tmp_path}/shell; sleep 1000 & echo $! > {tmp_path}/sleep; cat"
    lab_ = subprocess.Popen([*LAB, "puzzle", "--seed", "1", "--", "sh", "-c", inside], stdin=subprocess.PIPE)
    files = [tmp_path / name for name in ("shell", "sleep")]
    wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files), "the shell")
    pids = [int(file.read_text()) for file in files]
    network = os.readlink(f"/proc/{pids[0]}/ns/net")  # noqa: PTH115
    lab_.send_signal(signal.SIGKILL)
    lab_.wait()

    def in_it():
        found = []
        for entry in Path("/proc").glob("[0-9]*/ns/net"):
            try:
                found += [entry] if os.readlink(entry) == network else []  # noqa: PTH115
            except OSError:
                continue
        return found

    wait_until(lambda: not in_it(), "the end of all that was in the puzzle's network")
    lab_.stdin.close()


@pytest.mark.parametrize("seed", ["-1", "many"])
def test_no_seed(run, seed):
    done = run("puzzle", "--seed", seed, "--", "true")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_where_all_is_not_well_beforehand(run):
    """A kernel without IPv6, say: that is told, and no puzzle made of it."""
    done = run("puzzle", "--seed", "3", "--", "true", faults=("no-userns", "no-rights"))
    assert done.returncode == 1
    assert "cannot make a private network" in done.stderr


def test_every_fault_has_its_own_name():
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) == 10
