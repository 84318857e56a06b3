"""A real browser in a world: what it makes of each way to write the address of this machine, and what is left of it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

import lab
from lab.browsing import browse, visits

#: Serves one page at each "address port" of its arguments, until it is killed.
SERVER = """
import http.server, socket, sys, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 404 if "missing" in self.path else 200
        page = f"<title>page</title><p>of {self.server.server_address[0]}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address, port):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Page)
    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
    threading.Thread(target=Server(address, int(port)).serve_forever).start()
print("ready", flush=True)
"""

#: Begins a visit that takes long, after telling where.
PROGRAM = """
import sys
import lab
from lab.browsing import browse
with lab.World(["lo"]) as world, world.socket(2, 1) as silent:
    silent.bind(("127.0.0.1", 8080))
    silent.listen()
    browse("http://127.0.0.1:8080/", popen=world.popen, timeout_s=60)
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(tool):
    tool("chromium")


@pytest.fixture(scope="module")
def web(world):
    """8080 on all addresses of both families, 8004 on 127.0.0.1 and 8006 on ::1 alone."""
    where = ["0.0.0.0", "8080", "::", "8080", "127.0.0.1", "8004", "::1", "8006"]
    command = [sys.executable, "-c", SERVER, *where]
    with world.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        yield
        server.kill()


@pytest.fixture(scope="module")
def looked(world, web):
    """Visits by the address that was typed."""
    urls = [
        "http://127.0.0.1:8080/", "http://localhost:8080/", "http://[::1]:8080/", "http://0.0.0.0:8080/",
        "http://[::]:8080/", "http://::1:8080/", "http://127.1:8080/", "http://0x7f.1:8080/", "http://[0:0::1]:8080/",
        "http://127.50.50.50:8080/", "http://localhost:8004/", "http://localhost:8006/", "http://[::1]:8004/",
        "http://127.0.0.1:8006/", "http://127.0.0.1:8080/missing", "http://127.0.0.1:25/", "http://::1/",
    ]  # fmt: skip
    return {visit.url: visit for visit in visits(urls, popen=world.popen)}


@pytest.mark.parametrize(
    ("url", "asked", "address"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/", "127.0.0.1"),
        ("http://[::1]:8080/", "http://[::1]:8080/", "::1"),
        ("http://0.0.0.0:8080/", "http://0.0.0.0:8080/", "0.0.0.0"),
        ("http://[::]:8080/", "http://[::]:8080/", "::"),
        ("http://127.1:8080/", "http://127.0.0.1:8080/", "127.0.0.1"),
        ("http://0x7f.1:8080/", "http://127.0.0.1:8080/", "127.0.0.1"),
        ("http://[0:0::1]:8080/", "http://[::1]:8080/", "::1"),
        ("http://127.50.50.50:8080/", "http://127.50.50.50:8080/", "127.50.50.50"),
        ("http://localhost:8004/", "http://localhost:8004/", "127.0.0.1"),
        ("http://localhost:8006/", "http://localhost:8006/", "::1"),
    ],
)
def test_it_loads_the_page_and_tells_from_where(looked, url, asked, address):
    visit = looked[url]
    assert (visit.loaded, visit.status, visit.asked, visit.address, visit.error) == (True, 200, asked, address, None)
    assert (visit.title, visit.port) == ("page", int(url.rsplit(":", 1)[1].strip("/")))
    assert visit.text.startswith("of ")


def test_localhost_is_both_and_the_first_that_answers_serves(looked):
    assert looked["http://localhost:8080/"].address in ("127.0.0.1", "::1")


@pytest.mark.parametrize("url", ["http://::1:8080/", "http://::1/"])
def test_without_brackets_it_is_no_address(looked, url):
    visit = looked[url]
    assert (visit.loaded, visit.asked, visit.address) == (False, None, None)
    assert "invalid URL" in visit.error
    assert str(visit) == f"{url}: {visit.error}"


@pytest.mark.parametrize("url", ["http://[::1]:8004/", "http://127.0.0.1:8006/"])
def test_a_page_of_the_other_family_is_refused(looked, url):
    assert (looked[url].loaded, looked[url].error) == (False, "net::ERR_CONNECTION_REFUSED")


def test_a_port_that_it_will_not_ask(looked):
    assert looked["http://127.0.0.1:25/"].error == "net::ERR_UNSAFE_PORT"


def test_an_error_of_the_server_is_a_page(looked):
    visit = looked["http://127.0.0.1:8080/missing"]
    assert (visit.loaded, visit.status) == (True, 404)
    assert str(visit) == "http://127.0.0.1:8080/missing: HTTP 404 from 127.0.0.1 port 8080"
    assert json.loads(json.dumps(visit.to_json()))["status"] == 404


def test_silence_is_not_waited_for(world, web):
    with world.socket(socket.AF_INET, socket.SOCK_STREAM) as silent:
        silent.bind(("127.0.0.1", 9999))
        silent.listen()
        silence, after = visits(["http://127.0.0.1:9999/", "http://127.0.0.1:8080/"], popen=world.popen, timeout_s=1)
    assert (silence.loaded, silence.error) == (False, "no answer in 1 s")
    assert after.loaded


def test_it_asks_nobody_but_whom_it_is_to_ask(world, web):
    """Nor anybody for a name: all that passes lo is of the page."""
    with world.capture("lo") as capture:
        assert browse("http://127.0.0.1:8080/", popen=world.popen).loaded
    assert {(flow["server"], flow["server_port"]) for flow in capture.flows().table.to_dicts()} == {("127.0.0.1", 8080)}


def test_it_runs_where_the_page_is(world, web):
    far = partial(world.popen, end="far")
    assert browse("http://127.0.0.1:8080/", popen=far).error == "net::ERR_CONNECTION_REFUSED"
    assert browse(f"http://{world.links['veth'].near[4]}:8080/", popen=far).loaded


@pytest.fixture
def scratch():
    """A folder that is open to all, and has a short name: the browser has a unix socket there."""
    with tempfile.TemporaryDirectory(prefix="scratch") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def started(scratch):
    """A program that is in the middle of a visit, and the folder where it keeps what it must remove."""
    environment = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, start_new_session=True) as program:
        yield program, scratch
        program.kill()


def browsers(folder):
    """The processes whose command line names a folder."""
    return [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder) in told(path)]


def told(path):
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended
        return ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_where_its_program_is_killed(started, wait_until, number):
    program, folder = started
    wait_until(lambda: any("--type=renderer" in told(path / "cmdline") for path in browsers(folder)), "a page")
    users = {path.stat().st_uid for path in browsers(folder) if "--type" in told(path / "cmdline")}
    assert users == {pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()}
    os.killpg(program.pid, number)
    wait_until(lambda: not browsers(folder), "the end of every part")
    wait_until(lambda: not list(folder.iterdir()), "the end of its folder")


def test_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(lab.Unavailable, match=r"no browser: chromium.*apt install chromium"):
        browse("http://127.0.0.1:8080/")


def test_one_that_does_not_start_says_why(world, monkeypatch, scratch):
    broken = scratch / "chromium"
    broken.write_text("#!/bin/sh\necho cannot go on >&2\nexit 3\n")
    broken.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{scratch}:{os.environ['PATH']}")
        with pytest.raises(lab.Unavailable, match=r"Chromium ended: cannot go on.*temporary folder"):
            browse("http://127.0.0.1:8080/", popen=world.popen)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch / "nowhere"))
    with pytest.raises(lab.Unavailable, match=r"Chromium ended: .*No such file"):
        browse("http://127.0.0.1:8080/", popen=world.popen)


def test_what_is_no_web_address():
    with pytest.raises(lab.UsageError, match="give addresses of web pages"):
        browse("file:///etc/passwd")
