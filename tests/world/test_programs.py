"""Each server that a world can have: whom it answers, who it is, and that nothing of it is left."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LAUNCHER

import lab
from lab.services import service
from lab.services.dnsmasq import NAMES

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
PORTS = {
    "dnsmasq": 53,
    "mariadb": 3306,
    "nginx": 8080,
    "notes": 8000,
    "postgresql": 5432,
    "redis": 6379,
    "smtp": 2525,
}
(NAME,) = NAMES
QUESTION = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"".join(
    bytes([len(part)]) + part.encode() for part in [*NAME.split("."), ""]
)

#: What is said first, and what the answer has in it. A mail server and MariaDB speak first.
EXCHANGES = {
    "dnsmasq": (struct.pack("!H", len(QUESTION) + 4) + QUESTION + struct.pack("!2H", 1, 1), bytes([192, 0, 2, 7])),
    "mariadb": (b"", b"MariaDB"),
    "nginx": (b"GET /status HTTP/1.0\r\n\r\n", b'{"status": "ok"}'),
    "notes": (b"GET /notes HTTP/1.0\r\n\r\n", b"\r\n\r\n[]"),
    "postgresql": (struct.pack("!2I", 8, 80877103), b"N"),  # SSLRequest: no
    "redis": (b"PING\r\n", b"+PONG\r\n"),
    "smtp": (b"", b"220 mail.lab.test Loopback Lab\r\n"),
}

#: Serves them all, tells the processes, and is then killed.
SERVING = f"""
import sys
import lab
world = lab.World(["lo"])
kept = [world.serve(name) for name in {[*PORTS]!r} if name != "postgresql"]
print(*(each.pid for each in kept), flush=True)
print(*(each.folder for each in kept), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(missing):
    for each in service.PROGRAMS.values():
        try:
            each()
        except lab.Unavailable as error:
            missing(str(error))


@pytest.fixture(scope="module")
def servers(world):
    """Each program for each family, at its own port."""
    wanted = [(program, family) for program in PORTS for family in LOOPBACK]
    with ThreadPoolExecutor(4) as pool:
        started = pool.map(lambda each: world.serve(each[0], address=LOOPBACK[each[1]]), wanted)
        made = dict(zip(wanted, started, strict=True))
    yield made
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.close(), made.values()))


@pytest.fixture(params=PORTS)
def program(request):
    return request.param


@pytest.fixture
def server(servers, program, family):
    return servers[program, family]


def ask(world, program, family, address, port, end="near"):
    """What it answers first, until the answer has what it should."""
    question, wanted = EXCHANGES[program]
    with world.socket(KINDS[family], socket.SOCK_STREAM, end=end) as asker:
        asker.settimeout(10)
        asker.connect((address, port))
        asker.sendall(question)
        answer = b""
        while wanted not in answer:
            more = asker.recv(4096)
            assert more, answer
            answer += more
    return answer


def is_there(pid):
    try:
        state = re.search(r"State:\t(\w)", Path(f"/proc/{pid}/status").read_text())[1]
    except OSError:
        return False
    return state != "Z"


def test_every_program_is_tested():
    assert PORTS.keys() == service.PROGRAMS.keys() == EXCHANGES.keys()


def test_it_answers_at_its_own_port(world, server, program, family):
    assert server.port == PORTS[program]
    assert ask(world, program, family, LOOPBACK[family], server.port)
    assert str(server).startswith(f"{program} at ")


def test_it_listens_nowhere_else(world, server, family):
    for address in (world.links["veth"].near[family], {4: "127.0.0.2", 6: None}[family]):
        if address:
            with world.socket(KINDS[family], socket.SOCK_STREAM) as elsewhere, pytest.raises(ConnectionRefusedError):
                elsewhere.connect((address, server.port))


def test_it_lives_in_the_world_without_privilege(world, server):
    assert Path(f"/proc/{server.pid}/ns/net").readlink() == Path(f"/proc/{world.pid}/ns/net").readlink()
    status = Path(f"/proc/{server.pid}/status").read_text()
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    assert re.search(r"Uid:\t(.*)", status)[1].split() == [str(user)] * 4
    assert int(re.search(r"CapEff:\t(.*)", status)[1], 16) == 0
    assert server.folder.stat().st_mode & 0o077 == 0


def test_datagrams_are_answered_too(world, servers, family):
    question = QUESTION + struct.pack("!2H", 28, 1)  # AAAA
    with world.socket(KINDS[family], socket.SOCK_DGRAM) as asker:
        asker.settimeout(10)
        asker.sendto(question, (LOOPBACK[family], 53))
        assert socket.inet_pton(socket.AF_INET6, NAMES[NAME][1]) in asker.recv(4096)


def test_its_unix_socket_is_there_where_it_is_told(servers):
    told = {program: server.unix_socket for (program, _family), server in servers.items() if server.unix_socket}
    assert told.keys() == {"mariadb", "postgresql", "redis"}
    assert all(path.is_socket() for path in told.values())


def test_its_start_and_its_end_send_no_packet_and_leave_nothing(world, program):
    with world.capture("lo") as capture:
        with world.serve(program, port=9000) as server:
            assert is_there(server.pid)
        assert not is_there(server.pid)
        assert not server.folder.exists()
    assert len(capture) == 0
    with world.serve(program, port=9000, address="0.0.0.0", end="far") as server:  # the port is free again
        address = world.links["veth"].far[4]
        assert ask(world, program, 4, address, 9000)
        assert ask(world, program, 4, "127.0.0.1", 9000, end="far")


def test_a_port_that_is_for_root_elsewhere(world):
    with world.serve("nginx", port=80, address="127.0.0.3"):
        assert ask(world, "nginx", 4, "127.0.0.3", 80)


def test_they_end_when_their_program_is_killed(wait_until):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVING], **pipes, start_new_session=True) as process:
        pids, folders = (process.stdout.readline().split() for _line in range(2))
        assert all(map(is_there, pids))
        os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_there, pids)), "the end of the servers")
    wait_until(lambda: not any(Path(folder).exists() for folder in folders), "the end of their folders")


@pytest.mark.parametrize("program", sorted(PORTS.keys() - {"postgresql"}))  # for that, see test_services
def test_it_ends_when_its_keeper_is_killed(world, program, wait_until):
    server = world.serve(program, port=9000)
    parent = re.search(r"PPid:\t(\d+)", Path(f"/proc/{server.pid}/status").read_text())[1]
    os.kill(int(parent), signal.SIGKILL)
    wait_until(lambda: not is_there(server.pid), "the end of the server")
    server.close()
    subprocess.run(["rm", "-r", server.folder], check=True)  # that is left then


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("dnsmasq", "dnsmasq-base"),
        ("mariadb", "mariadb-server"),
        ("nginx", "nginx-light"),
        ("redis", "redis-server"),
        ("postgresql", "postgresql"),
    ],
)
def test_where_it_is_not_installed(world, monkeypatch, tmp_path, program, package):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("lab.services.order._SERVERS", str(tmp_path))
    monkeypatch.setattr("lab.services.postgresql._FOLDERS", ())
    with pytest.raises(lab.Unavailable, match=rf"is not installed.*apt install {package}") as raised:
        world.serve(program)
    assert raised.value.errno == errno.ENOENT


def test_where_there_is_no_mail_server(world, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(lab.Unavailable, match=r"aiosmtpd.*is not installed.*pip install aiosmtpd"):
        world.serve("smtp")


def test_a_server_that_does_not_start_says_why(world, program, monkeypatch):
    """Where somebody has taken its port since we looked."""
    said = {
        "dnsmasq": "failed to|cannot",
        "mariadb": "ERROR|too long|cannot|Can't",
        "nginx": "emerg",
        "notes": "Error",
        "postgresql": "could not|too long",
        "redis": "Fatal|Failed|Could not",
        "smtp": "Error",
    }
    monkeypatch.setattr(service, "_require_free", lambda *_: None)
    with (
        world.socket(socket.AF_INET, socket.SOCK_STREAM) as taken,
        world.socket(socket.AF_INET, socket.SOCK_DGRAM) as too,
    ):
        for each in (taken, too):
            each.bind(("127.0.0.4", 9000))
        taken.listen()
        with pytest.raises(lab.Unavailable, match=rf"{program} did not start: .*({said[program]})"):
            world.serve(program, address="127.0.0.4", port=9000)


def test_all_of_it_as_an_unprivileged_user(missing):
    chosen = "answers or without_privilege or program_is_killed"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", f"--basetemp={scratch}/t"]
        done = subprocess.run(
            [sys.executable, str(LAUNCHER), "nobody", "--", *command, "-k", chosen],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    if done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
