"""The fixture for other people's tests, in a project of its own, as they would use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

THEIRS = """
import asyncio, http.server, socket, sys, threading, urllib.request
import pytest

HOSTS = [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET


@pytest.mark.parametrize("host, family", HOSTS)
@pytest.mark.parametrize("turn", range(3))
def test_everybody_has_port_8080(world, host, family, turn):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{host} {turn}".encode())
        def log_message(self, *_arguments):
            pass

    server_class = type("Server", (Server,), {"address_family": family})
    with server_class((host, 8080), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        name = f"[{host}]" if ":" in host else host
        with urllib.request.urlopen(f"http://{name}:8080") as reply:
            assert reply.read().decode() == f"{host} {turn}"
        program = "import socket, sys; print(socket.create_connection((sys.argv[1], 8080)).getpeername()[1])"
        outside = [sys.executable, "-c", program, host]
        with world.popen(outside, stdout=-1, text=True) as inside:
            assert inside.communicate(timeout=30)[0] == "8080\\n"
        server.shutdown()
        thread.join()


def test_asyncio_is_inside_too(world):
    async def talk():
        async def answer(reader, writer):
            writer.write((await reader.readline()).upper())
            writer.close()
            await writer.wait_closed()
        server = await asyncio.start_server(answer, "127.0.0.1", 8080)
        reader, writer = await asyncio.open_connection("127.0.0.1", 8080)
        writer.write(b"hello\\n")
        assert await reader.readline() == b"HELLO\\n"
        writer.close()
        server.close()
        await server.wait_closed()
    asyncio.run(talk())


def test_nothing_leads_out(world):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end, pytest.raises(OSError, match="unreachable"):
        end.connect(("192.0.2.1", 9))


def test_other_tests_are_outside():
    import lab
    with lab.World(["lo"]) as elsewhere, socket.socket() as outside, elsewhere.socket(2, 1) as inside:
        outside.bind(("127.0.0.1", 0))
        inside.bind(outside.getsockname())
"""


@pytest.mark.parametrize("workers", [0, 3])
def test_every_test_and_every_worker_has_its_own_ports(tmp_path: Path, workers: int, world) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers)]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "9 passed" in done.stdout, done.stdout + done.stderr


def test_without_namespaces_their_tests_are_skipped_with_the_reason(tmp_path: Path, root: Path, world) -> None:
    (tmp_path / "test_theirs.py").write_text("def test_it(world): raise AssertionError")
    launcher = [sys.executable, str(root / "tests" / "launch.py"), "no-userns", "no-rights", "--"]
    tests = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "LAB_REQUIRE"}
    for extra, said in (({}, "1 skipped"), ({"LAB_REQUIRE": "1"}, "1 error")):
        done = subprocess.run(
            [*launcher, *tests], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            env=environment | extra,
        )  # fmt: skip
        assert said in done.stdout, done.stdout + done.stderr
        assert "cannot make a private network" in done.stdout


SENDING = """
import socket
import pytest


def send(count):
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as end:
            end.bind((host, 0))
            for _ in range(count):
                end.sendto(b"lost and found", end.getsockname())


@pytest.mark.parametrize("count", [2, 3])
def test_fails(world, count):
    send(count)
    raise AssertionError


def test_passes(world):
    send(5)


def test_is_expected_to_fail(world):
    send(5)
    pytest.xfail("it does")


@pytest.fixture
def broken(world):
    send(1)
    raise RuntimeError


def test_cannot_begin(broken):
    pass
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["kept/here", None])
def test_the_capture_of_a_test_that_fails_is_kept_and_named(
    tmp_path: Path, tool, world, workers: int, where: str | None
) -> None:
    (tmp_path / "test_theirs.py").write_text(SENDING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), "--basetemp=base"]
    command += ["--lab-captures", where] if where else []
    done = subprocess.run(
        [*command, "test_theirs.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    named = {
        Path(name): int(frames) for name, frames in re.findall(r"^(\S+\.pcapng): (\d+) frames$", done.stdout, re.M)
    }
    assert sorted(named.values()) == [2, 4, 6], done.stdout + done.stderr
    assert {tmp_path / path for path in named} == set((tmp_path / (where or "base")).rglob("*.pcapng"))
    for path, frames in named.items():
        found = subprocess.run(
            [tool("tshark"), "-r", tmp_path / path, "-Y", "udp"], capture_output=True, text=True, check=True
        )
        assert len(found.stdout.splitlines()) == frames
