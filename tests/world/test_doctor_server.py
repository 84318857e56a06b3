"""``lab doctor PORT|URL``: how a server of this machine is reached, who has its port, and why it is not reached."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lab
from lab import FirewallRule
from lab.checkup.examining import CHECKS

TESTS = Path(__file__).parents[1]
RIGHTS = {"as root": ("lo-up",), "without rights": ("no-rights", "ping-sockets")}
PORT = 8080
BOTH = ("127.0.0.1", "::1")


@pytest.fixture
def served(tmp_path, missing):
    """The server's findings, by id, in a namespace where one of that kind listens at these addresses.

    No browser is to be found there.
    """

    def served(kind, addresses, asked, faults=("lo-up",)):
        where = [word for address in addresses for word in (address, str(PORT))]
        command = [sys.executable, "-m", "lab", "doctor", str(asked), "--json"]
        command = [sys.executable, str(TESTS / "serving.py"), kind, *where, "--", *command]
        done = subprocess.run(
            [sys.executable, str(TESTS / "launch.py"), *faults, "--", *command],
            cwd=tmp_path,
            env={**os.environ, "PATH": "/nowhere"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 77:
            missing(done.stderr)
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        items = [item for item in report["items"] if item["group"] == "server"]
        assert {item["group"] for item in report["items"]} == {"loopback", "server"}
        assert all(item["fix"] and item["cost"] for item in items if item["status"] != "ok")
        assert [item["id"] for item in items] == [name for name in CHECKS if name in {item["id"] for item in items}]
        return {item["id"]: item for item in items}

    return served


def statuses(found):
    return {name: item["status"] for name, item in found.items() if name not in ("port", "browser")}


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_server_at_both_addresses_is_reached_by_every_name(served, rights):
    found = served("web", BOTH, PORT, RIGHTS[rights])
    assert statuses(found) == {"server-ipv4": "ok", "server-ipv6": "ok", "server-name": "ok"}
    assert found["server-ipv6"]["evidence"] == f"http://[::1]:{PORT}/: 200 OK"
    assert found["browser"]["status"] == "partial"
    assert "no browser: chromium" in found["browser"]["evidence"]
    assert "apt install chromium" in found["browser"]["fix"]


@pytest.mark.parametrize("rights", RIGHTS)
def test_a_port_that_is_taken_and_one_that_is_free(served, rights):
    taken = served("web", BOTH, PORT, RIGHTS[rights])["port"]
    assert taken["status"] == "partial"
    told = re.search(
        rf"port {PORT} is taken: python\S* \(process (\d+) of \S+\) listens at 127.0.0.1 and ::1, ", taken["evidence"]
    )
    assert told, taken["evidence"]
    assert re.search(r"running since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(\d+ s\)", taken["evidence"])
    assert taken["fix"] == f"kill {told[1]} frees it; port {PORT + 1} is free"
    assert f"netstat -ano | findstr :{PORT}" in taken["windows"]
    assert f"lsof -i :{PORT}" in taken["macos"]
    free = served("web", BOTH, PORT + 1, RIGHTS[rights])
    assert free["port"]["status"] == "ok"
    assert free["port"]["evidence"] == f"nobody listens on port {PORT + 1}: a server can have it"
    assert statuses(free) == {"server-ipv4": "partial", "server-ipv6": "partial", "server-name": "missing"}
    assert "Start the server" in free["server-name"]["fix"]
    assert "browser" not in free


@pytest.mark.parametrize("rights", RIGHTS)
@pytest.mark.parametrize(("here", "there"), [BOTH, BOTH[::-1]], ids=["only 127.0.0.1", "only ::1"])
def test_a_server_of_one_family_asked_by_the_other(served, here, there, rights):
    hosts = {"127.0.0.1": "127.0.0.1", "::1": "[::1]"}
    names = {"127.0.0.1": "server-ipv4", "::1": "server-ipv6"}
    asked = served("web", [here], f"http://{hosts[there]}:{PORT}/", RIGHTS[rights])
    item = asked[names[there]]
    assert item["status"] == "missing"
    assert "ECONNREFUSED" in item["evidence"]
    assert f"listens at {here} only" in item["evidence"]
    assert f"Ask http://{hosts[here]}:{PORT}/; or have the server listen at {there} as well" in item["fix"]
    assert asked[names[here]]["status"] == "ok"
    if rights == "as root":
        assert served("web", [here], PORT)[names[there]]["status"] == "partial"  # which nobody asked for


def test_localhost_that_is_ipv4_alone_misses_a_server_at_ipv6(served):
    found = served("web", ["::1"], PORT, ("hosts-ipv4", "files-and-dns"))
    assert found["server-name"]["status"] == "missing"
    assert "or add “::1 localhost” to /etc/hosts" in found["server-name"]["fix"]
    assert "macOS" not in found["server-name"]["evidence"]


def test_a_server_that_speaks_no_http(served):
    found = served("mute", BOTH, PORT)
    assert set(statuses(found).values()) == {"partial"}
    assert "connected, but no HTTP" in found["server-ipv4"]["evidence"]
    assert "by https://" in found["server-ipv4"]["fix"]
    found = served("web", BOTH, f"https://localhost:{PORT}/")
    assert "connected, but no TLS" in found["server-name"]["evidence"]
    assert "by http://" in found["server-name"]["fix"]


def test_a_socket_that_is_bound_and_never_listens(served):
    found = served("taken", BOTH[:1], PORT)
    assert found["port"]["status"] == "partial"
    assert "neither listens nor connects" in found["port"]["evidence"]
    assert "frees it" in found["port"]["fix"]


def test_another_address_of_loopback(served):
    found = served("web", ["127.0.0.5"], f"127.0.0.5:{PORT}/page")
    assert found["server-asked"]["evidence"] == f"http://127.0.0.5:{PORT}/page: 200 OK"
    assert statuses(found) == {
        "server-ipv4": "partial",
        "server-ipv6": "partial",
        "server-name": "partial",
        "server-asked": "ok",
    }


# ---- in a world of the test's own ----


@pytest.fixture
def bare():
    with lab.World(["lo"]) as world:
        yield world


def findings(world, server):
    return {item.id: item for item in lab.doctor(server, world=world).items if item.group == "server"}


@pytest.fixture
def listening(bare):
    """Sockets that listen at both addresses, and accept nothing."""
    with bare.socket(socket.AF_INET, socket.SOCK_STREAM) as v4, bare.socket(socket.AF_INET6, socket.SOCK_STREAM) as v6:
        for listener, address in ((v4, "127.0.0.1"), (v6, "::1")):
            listener.bind((address, PORT))
            listener.listen(0)
        yield v4, v6


@pytest.mark.parametrize(("verdict", "said"), [("tcp-reset", "rejects"), ("drop", "drops")])
def test_a_firewall_before_a_server_that_listens(bare, listening, verdict, said):
    with bare.firewall(FirewallRule(verdict=verdict, protocol="tcp", port=PORT)):
        found = findings(bare, PORT)
    assert found["server-firewall"].status == "denied"
    assert (
        f"“tcp dport {PORT} counter {'reject with tcp reset' if verdict != 'drop' else 'drop'}”"
        in found["server-firewall"].evidence
    )
    assert f"{said} the SYN to 127.0.0.1, ::1" in found["server-firewall"].evidence
    assert found["server-name"].status == "missing"
    assert "a rule of a firewall is in the way" in found["server-name"].evidence
    assert found["server-name"].fix == "See server-firewall, above"
    found = findings(bare, PORT)
    assert "server-firewall" not in found
    assert found["server-name"].status == "partial"  # it accepts nothing


def test_a_server_behind_a_lo_that_is_down(bare, listening):
    bare.set_link("lo", False)
    found = findings(bare, PORT)
    assert "server-firewall" not in found
    assert found["server-name"].status == "missing"
    assert found["server-name"].evidence.endswith("lo is down")
    assert found["server-name"].fix == "See lo, above"


def test_a_server_whose_queue_is_full(bare, listening):
    clients = []
    try:
        for _ in range(3):
            clients.append(client := bare.socket(socket.AF_INET, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", PORT))
        found = findings(bare, "http://127.0.0.1:8080/")
    finally:
        for client in clients:
            client.close()
    assert found["server-ipv4"].status == "missing"
    assert "accepts no connections, and" in found["server-ipv4"].evidence
    assert found["server-ipv6"].status == "partial"


def test_time_wait_keeps_a_port(bare):
    with bare.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", PORT))
        listener.listen()
        with bare.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(("127.0.0.1", PORT))
            listener.accept()[0].close()
            assert client.recv(1) == b""
    found = findings(bare, PORT)["port"]
    assert found.status == "partial"
    assert "in TIME_WAIT" in found.evidence
    assert "SO_REUSEADDR" in found.evidence
    assert findings(bare, PORT + 1)["port"].status == "ok"


def _answers(world):
    with world.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        return client.connect_ex(("127.0.0.1", PORT)) == 0


def test_it_is_shown_by_a_real_browser(bare, tool, wait_until):
    tool("chromium")
    command = [sys.executable, str(TESTS / "serving.py"), "web", "127.0.0.1", str(PORT), "--", "cat"]
    with bare.popen(command, stdin=subprocess.PIPE) as server:
        wait_until(lambda: _answers(bare), "the server listens")
        found = findings(bare, PORT)["browser"]
        server.stdin.close()
    assert found.status == "partial"
    assert f"http://localhost:{PORT}/: HTTP 200 from 127.0.0.1 port {PORT}" in found.evidence
    assert f"http://[::1]:{PORT}/: net::ERR_CONNECTION_REFUSED" in found.evidence
    assert found.fix == f"Give browsers http://localhost:{PORT}/"
