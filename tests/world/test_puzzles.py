"""Puzzles: each fault is there, is mended by the way that is told, and by nothing less; and nothing of it is left."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lab
from lab.puzzles import guard, playing
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
    """Not even what the reader has started in the background, nor the folder of the shop."""
    inside = f"echo $$ > {tmp_path}/shell; sleep 1000 & echo $! > {tmp_path}/sleep; cat"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lab_ = subprocess.Popen(
        [*LAB, "puzzle", "--seed", "1", "--", "sh", "-c", inside],
        stdin=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    files = [tmp_path / name for name in ("shell", "sleep")]
    wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files), "the shell")
    pids = [int(file.read_text()) for file in files]
    network = os.readlink(f"/proc/{pids[0]}/ns/net")  # noqa: PTH115
    assert [each.name[:11] for each in scratch.iterdir()] == ["lab-puzzle-"]
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
    wait_until(lambda: not list(scratch.iterdir()), "the end of the puzzle's folder")
    lab_.stdin.close()


def test_what_is_in_another_network_is_not_ended(world):
    with world.popen(["cat"], stdin=subprocess.PIPE) as inside, subprocess.Popen(["cat"], stdin=-1) as outside:
        network = Path(f"/proc/{world.pid}/ns/net")
        while not Path(f"/proc/{inside.pid}/cmdline").read_bytes().startswith(b"cat"):
            assert inside.poll() is None
        guard._end_all(network.readlink(), {world.pid})
        assert inside.wait() == -signal.SIGKILL
        assert outside.communicate(b"still here")[0] is None
        assert outside.returncode == 0


def test_a_network_that_is_not_new_is_refused(monkeypatch):
    """All that is in it would be killed in the end."""
    monkeypatch.setattr(playing, "enter", lambda *, as_root: None)
    with pytest.raises(lab.Unavailable, match="tells of a new network, and makes none"):
        playing.play(3, ["true"])


def test_a_fault_is_the_same_wherever_it_can_be_mended(monkeypatch):
    everywhere = {seed: playing._drawn(random.Random(seed)) for seed in range(50)}
    monkeypatch.setattr(playing, "_program", lambda name: name != "nft")
    for seed, fault in everywhere.items():
        drawn = playing._drawn(random.Random(seed))
        assert "nft" not in drawn.needs
        assert drawn is fault or "nft" in fault.needs


def test_without_a_hosts_file(run):
    done = run("puzzle", "--seed", "3", "--", "true", faults=("no-hosts",))
    assert done.returncode == 1
    assert "there is no /etc/hosts to put another in place of" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_the_kernel_refuses_is_told():
    """And not as if the output could not be written."""
    told = pytest.raises(lab.Unavailable, match=r"cannot plant it: lo: EPERM .* Try another --seed")
    with told, playing._refusals_told("plant it"):
        raise PermissionError(errno.EPERM, "not permitted", "lo")


@RIGHTS
def test_a_shop_without_a_list_tells_so(run, faults):
    """And whoever has closed it is told what it is."""
    (fault,) = (each for each in FAULTS if each.id == "only-ipv4")
    inside = "shop stop; shop status; rm $SHOP/shop.conf; shop start; shop stop"
    done = run("puzzle", "--seed", str(seed_of(fault)), "--json", "--", "sh", "-c", inside, faults=faults)
    assert done.stderr.splitlines() == [
        "the shop is closed",
        "the shop is closed",
        "the shop can't open: shop.conf: No such file or directory",
        "the shop is closed already",
    ]


def test_json_is_of_a_command(run):
    done = run("puzzle", "--seed", "3", "--json")
    assert done.returncode == 2
    assert "lab puzzle --json -- CMD" in done.stderr


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
