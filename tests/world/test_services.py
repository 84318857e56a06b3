"""Servers in worlds: whom they answer, who they are, and that nothing of them is left."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lab
from lab.services import postgresql, service

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}

#: Asks a database at the host argv[1] or, if that begins with a slash, at a unix socket.
CLIENT = """
import json, sys
import pg8000.native
host = sys.argv[1]
there = {"unix_sock": host} if host.startswith("/") else {"host": host}
with pg8000.native.Connection("postgres", database="postgres", port=int(sys.argv[2]), **there) as database:
    print(json.dumps(database.run("SELECT current_user, 6 * 7, host(inet_client_addr()) -- who is it?")[0]))
"""

#: Serves, tells of it in a line, and does nothing more until its input ends; deaf to Ctrl-C.
PROGRAM = """
import json, signal, sys
import lab
signal.signal(signal.SIGINT, signal.SIG_IGN)
world = lab.World(["lo"])
database = world.serve("postgresql")
print(json.dumps([database.pid, str(database.folder), str(database.unix_socket)]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(missing):
    try:
        postgresql.PostgreSQL()
    except lab.Unavailable as error:
        missing(str(error))


@pytest.fixture(scope="module")
def databases(world):
    """One for each family, at the same port."""
    with world.serve("postgresql", address="127.0.0.1") as four, world.serve("postgresql", address="::1") as six:
        yield {4: four, 6: six}


@pytest.fixture
def database(databases, family):
    return databases[family]


def ask(world, host, port, end="near"):
    """What a client inside the world is answered."""
    command = [sys.executable, "-c", CLIENT, str(host), str(port)]
    with world.popen(command, end=end, stdout=subprocess.PIPE, text=True) as client:
        answer = client.stdout.read()
    assert client.returncode == 0
    return json.loads(answer)


def family_tree(pid):
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def is_there(pid):
    return Path(f"/proc/{pid}").exists()


# ---- who is answered ----


def test_a_program_inside_asks_it_and_its_frames_are_captured(world, database, family):
    with world.capture("lo", filter="tcp") as capture:
        assert ask(world, database.address, database.port) == ["postgres", 42, LOOPBACK[family]]
    (flow,) = capture.flows().table.to_dicts()
    assert (flow["server"], flow["server_port"], flow["state"]) == (LOOPBACK[family], 5432, "closed")
    assert any(b"who is it?" in bytes(packet) for packet in capture)  # in clear


def test_psql_asks_it(world, database, tool):
    there = ["-h", database.address, "-p", str(database.port), "-U", database.user, "-d", database.database]
    with world.popen([tool("psql"), *there, "-Atc", "SELECT 6 * 7"], stdout=subprocess.PIPE, text=True) as psql:
        assert psql.stdout.read() == "42\n"


def test_it_listens_nowhere_else(world, database, family):
    with world.socket(KINDS[family], socket.SOCK_STREAM) as elsewhere, pytest.raises(ConnectionRefusedError):
        elsewhere.connect((world.links["veth"].near[family], database.port))


def test_its_unix_socket_needs_no_packet(world, database):
    with world.capture("lo") as capture:
        assert ask(world, database.unix_socket, database.port) == ["postgres", 42, None]
    assert len(capture) == 0


def test_at_the_far_end_it_is_asked_over_the_link(world, family):
    address = world.links["veth"].far[family]
    with (
        world.serve("postgresql", end="far", address=address, port=6543) as database,
        world.capture("near:veth", filter="tcp port 6543") as capture,
    ):
        assert (database.end, database.address, database.port) == ("far", address, 6543)
        assert ask(world, address, 6543) == ["postgres", 42, world.links["veth"].near[family]]
    assert {flow["server"] for flow in capture.flows().table.to_dicts()} == {address}


# ---- what it is ----


def test_it_and_its_children_live_in_the_world_without_privilege(world, database):
    theirs = {Path(f"/proc/{pid}/ns/net").readlink() for pid in family_tree(database.pid)}
    assert theirs == {Path(f"/proc/{world.pid}/ns/net").readlink()}
    assert Path("/proc/self/ns/net").readlink() not in theirs
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    for pid in family_tree(database.pid):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"Uid:\t(.*)", status)[1].split() == [str(user)] * 4
        assert int(re.search(r"CapEff:\t(.*)", status)[1], 16) == 0
    assert len(family_tree(database.pid)) > 1


def test_it_tells_of_itself(database):
    assert str(database.pid) in str(database)
    assert database.running
    assert "ready to accept connections" in database.log
    assert database.folder.stat().st_mode & 0o077 == 0  # closed to others, as everybody is let in


# ---- how it ends ----


def segments(pid):
    """The ids of the shared memory segments of System V that a process has made (proc(5))."""
    lines = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [each[1] for each in lines if int(each[4]) == pid]


def test_nothing_is_left_and_the_port_is_free_again(world):
    for _ in range(2):
        with world.serve("postgresql", port=6543) as database:
            processes = family_tree(database.pid)
            assert segments(database.pid)  # the lock on its data
        assert not [pid for pid in processes if is_there(pid)]
        assert not database.folder.exists()
        assert not database.running
        assert "database system is shut down" in database.log
        database.close()
        assert str(database).endswith("ended")
        assert not segments(database.pid)


def test_it_ends_with_its_world(world, wait_until):
    with lab.World(["lo"]) as own:
        database = own.serve("postgresql")
    wait_until(lambda: not database.running, "the end of the keeper")
    assert not is_there(database.pid)
    assert not database.folder.exists()
    assert "database system is shut down" in database.log


def test_it_ends_when_it_is_forgotten(world):
    database = world.serve("postgresql", port=6543)
    pid, folder = database.pid, database.folder
    del database
    assert not is_there(pid)
    assert not folder.exists()


def test_its_own_end_is_noticed(world, wait_until):
    database = world.serve("postgresql", port=6543)
    os.kill(database.pid, signal.SIGTERM)
    wait_until(lambda: not database.running, "the end of the keeper")
    assert not database.folder.exists()
    assert "received smart shutdown request" in database.log
    database.close()


@pytest.fixture
def program(world):
    """A program that serves, what it tells of that, and its process group."""
    command = [sys.executable, "-c", PROGRAM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            yield process, *json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_it_outlives_ctrl_c_and_ends_with_its_program(program, world):
    process, pid, folder, unix_socket = program
    os.killpg(process.pid, signal.SIGINT)
    assert ask(world, unix_socket, 5432)[1] == 42
    process.stdin.close()
    assert process.wait(30) == 0
    assert not is_there(pid)
    assert not Path(folder).exists()


def test_it_ends_when_its_program_is_killed(program, wait_until):
    process, pid, folder, _unix_socket = program
    os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not is_there(pid), "the end of the server")
    wait_until(lambda: not Path(folder).exists(), "the end of its folder")


def test_it_ends_when_its_keeper_is_killed(world, wait_until):
    database = world.serve("postgresql", port=6543)
    parent = re.search(r"PPid:\t(\d+)", Path(f"/proc/{database.pid}/status").read_text())[1]
    os.kill(int(parent), signal.SIGKILL)
    wait_until(lambda: not is_there(database.pid), "the end of the server")
    database.close()
    subprocess.run(["rm", "-r", database.folder], check=True)  # that is left then


# ---- what can't be ----


def test_where_it_is_not_installed(world, monkeypatch, tmp_path):
    monkeypatch.setattr(postgresql, "_FOLDERS", (f"{tmp_path}/*/bin",))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(lab.Unavailable, match=r"PostgreSQL is not installed.*apt install postgresql") as raised:
        world.serve("postgresql")
    assert raised.value.errno == errno.ENOENT


def test_the_newest_of_several_is_taken(monkeypatch, tmp_path):
    def chosen():
        return Path(postgresql.PostgreSQL().order(tmp_path, "::1", 5432).command[0])

    for version in ("9.6", "14", "15"):
        for name in ("initdb", "postgres")[: 1 if version == "15" else 2]:  # the newest is incomplete
            path = tmp_path / version / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
    monkeypatch.setattr(postgresql, "_FOLDERS", (f"{tmp_path}/*/bin",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen() == tmp_path / "14/bin/postgres"
    monkeypatch.setenv("PATH", str(tmp_path / "9.6/bin"))  # by the user, who is to have it
    assert chosen() == tmp_path / "9.6/bin/postgres"


def test_a_port_that_is_taken(world, database, family):
    with pytest.raises(lab.Unavailable, match=r"nothing can listen.*EADDRINUSE.*Give another port") as raised:
        world.serve("postgresql", address=database.address)
    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_that_is_not_there(world, family):
    with pytest.raises(lab.Unavailable, match=r"EADDRNOTAVAIL.*Give an address of that end"):
        world.serve("postgresql", address={4: "192.0.2.1", 6: "2001:db8::1"}[family])


def test_what_can_never_be(world):
    for options, what in (
        ({"program": "oracle"}, "unknown program 'oracle': choose from dnsmasq, mariadb, nginx, notes, postgresql"),
        ({"end": "here"}, "unknown end 'here'"),
        ({"port": 0}, "a port of 0: give 1 to 65,535"),
        ({"port": 65536}, "a port of 65,536"),
        ({"address": "localhost"}, "'localhost' is no address: give one such as 127.0.0.1 or ::1"),
    ):
        with pytest.raises(lab.UsageError, match=re.escape(what)):
            world.serve(**{"program": "postgresql", **options})


def test_a_server_that_does_not_start_says_why(world, monkeypatch, tmp_path):
    folder = tmp_path / ("long" * 30)  # for a unix socket's name, and closed to nobody
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(lab.Unavailable, match=r"postgresql did not start: .*(too long|Permission denied)"):
        world.serve("postgresql", port=6543)
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made(world, monkeypatch, tmp_path, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        with pytest.raises(lab.Unavailable, match=r"postgresql did not start: .*No such file.*temporary folder"):
            world.serve("postgresql", port=6543)
    assert capfd.readouterr().err == ""


def test_a_server_that_takes_too_long_is_ended(world, monkeypatch, tmp_path):
    monkeypatch.setattr(service, "_START_S", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(lab.Unavailable, match="did not start in 0 s"):
        world.serve("postgresql", port=6543)
    assert not list(tmp_path.iterdir())
