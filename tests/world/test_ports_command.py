"""``lab ports``: the command in networks of its own, by both rights; ``world.ports`` with neighbours and firewalls."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lab
from lab import FirewallRule
from lab.listeners import holders_elsewhere
from lab.listeners.asking import sockaddr

RIGHTS = pytest.mark.parametrize("faults", [(), ("no-rights",)], ids=["as we are", "unprivileged"])
KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ANY = {4: "0.0.0.0", 6: "::"}
PORT = 8080

#: Opens sockets as argv[1] says, a JSON list of [kind, address, port, v6only], and becomes the rest of argv, its child
#: in all but name: they stay open, and are of this process.
SERVE = """
import json, os, socket, sys
kept = []
for kind, address, port, v6only in json.loads(sys.argv[1]):
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
        socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    if v6only is not None:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    made.bind((address, port))
    if kind == "tcp":
        made.listen()
    kept.append(made)
import subprocess
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""
#: The same, of a process that nobody of the same user may look at (PR_SET_DUMPABLE of prctl(2)).
HIDDEN = "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n" + SERVE

EVERY_KIND = [
    ["tcp", "127.0.0.1", 8001, None],
    ["tcp", "0.0.0.0", 8002, None],
    ["tcp", "::1", 8003, None],
    ["tcp", "::", 8004, 0],
    ["tcp", "::", 8005, 1],
    ["udp", "127.0.0.1", 8006, None],
    ["udp", "::", 8007, 0],
    ["tcp", "127.0.0.5", 8001, None],
    ["tcp", "::ffff:127.0.0.6", 8008, 0],
]


def error_line(done):
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("lab: error: ")
    return line


@pytest.fixture
def serving(run):
    """Runs ``lab …`` in a private network with nothing but lo, where a program has these sockets open."""

    def serving(sockets, *arguments, faults=(), program=SERVE):
        command = [sys.executable, "-m", "lab", *arguments]
        return run("exec", "--", sys.executable, "-c", program, json.dumps(sockets), *command, faults=faults)

    return serving


@pytest.fixture
def own(missing):
    """A world for one test, which may break it."""
    try:
        made = lab.World(["lo", "veth"])
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        yield made


def serve(world, address, port=PORT, *, kind=socket.SOCK_STREAM, end="near", v6only=None, device=None, backlog=8):
    made = world.socket(KINDS[6 if ":" in address else 4], kind, end=end)
    if v6only is not None:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if device is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen(backlog)
    return made


def row_of(report, port=PORT, protocol="tcp"):
    (row,) = (row for row in report.rows if (row.protocol, row.port) == (protocol, port))
    return row


def statuses(report, protocol="tcp"):
    return {each.address: each.status for each in report.answers if each.protocol == protocol}


# ---- the list ----


@RIGHTS
def test_every_listening_socket_is_listed(serving, faults):
    done = serving(EVERY_KIND, "ports", "--json", faults=faults)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["format"] == 1
    rows = document["rows"]
    told = sorted((row["protocol"], row["address"], row["port"], row["v6only"]) for row in rows)
    assert told == sorted(
        (kind, address.removeprefix("::ffff:"), port, None if v6only is None else bool(v6only))
        if address != "::1"
        else (kind, address, port, True)  # the kernel sets it for all but "::"
        for kind, address, port, v6only in EVERY_KIND
    )
    families = {(row["port"], row["address"]): row["families"] for row in rows}
    assert families[8002, "0.0.0.0"] == families[8008, "127.0.0.6"] == [4]
    assert families[8003, "::1"] == families[8005, "::"] == [6]
    assert families[8004, "::"] == families[8007, "::"] == [4, 6]
    now_ns = time.time_ns()
    for row in rows:
        assert row["process"].startswith("python")
        assert row["pid"] > 0
        assert row["user"]
        assert now_ns - 120_000_000_000 < row["since_ns"] < now_ns
        assert row["reach"] == "namespace"  # as nothing but lo is there
        assert row["warning"] is None
    assert document["warnings"] == []


def test_the_table_fits_a_terminal(serving):
    done = serving(EVERY_KIND, "ports")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(EVERY_KIND)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("tcp  :: +IPv4") for line in lines)
    assert done.stderr == ""


def test_nothing_listens_in_a_new_world(run):
    done = run("ports", "--world", "new", "--json", faults=("no-rights",))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"format": 1, "rows": [], "warnings": []}
    assert str(lab.ports(world="new")) == "nothing listens"


def test_a_process_that_may_not_be_seen(serving):
    sockets = [["tcp", "127.0.0.1", PORT, None]]
    done = serving(sockets, "ports", "--json", program=HIDDEN, faults=("no-rights",))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (row,) = document["rows"]
    assert (row["pid"], row["process"], row["since_ns"], row["processes"]) == (None, None, None, [])
    assert row["user"]
    (warning,) = document["warnings"]
    assert "may not be looked at" in warning
    assert warning in done.stderr
    told = json.loads(serving(sockets, "ports", str(PORT), "--json", program=HIDDEN, faults=("no-rights",)).stdout)
    assert told["end_command"] is None
    assert any("1 socket has no process that we may see" in text for text in told["warnings"])


def test_who_reaches_what_in_a_world_with_a_neighbour(world, family):
    link = world.links["veth"]
    where = {"loopback": LOOPBACK[family], "any": ANY[family], "one": link.near[family]}
    with contextlib.ExitStack() as open_:
        for number, address in enumerate(where.values()):
            v6only = 1 if family == 6 else None
            open_.enter_context(serve(world, address, PORT + number, v6only=v6only))
        only = 1 if family == 6 else None
        open_.enter_context(serve(world, ANY[family], PORT + 3, v6only=only, device=link.devices["near"]))
        report = world.ports()
        reached = {row.port - PORT: row.reach for row in report.rows}
        assert [reached[number].kind for number in range(4)] == ["machine", "everyone", "address", "interface"]
        assert link.devices["near"] in reached[2].who
        (warning,) = report.warnings
        assert f"tcp {PORT + 1}: open to all: {where['any']}" in warning
        assert [row.first.pid for row in report.rows] == [os.getpid()] * 4
        # It is so: the neighbour reaches all but the first.
        for number in range(4):
            with world.socket(KINDS[family], socket.SOCK_STREAM, end="far") as neighbour:
                neighbour.settimeout(5)
                code = neighbour.connect_ex((link.near[family], PORT + number))
                assert code == (errno.ECONNREFUSED if reached[number].kind == "machine" else 0)


def test_a_dual_stack_socket_is_told_from_one_that_is_not(world):
    with serve(world, "::", 8001, v6only=0), serve(world, "::", 8002, v6only=1):
        report = world.ports()
        both, six = row_of(report, 8001), row_of(report, 8002)
        assert (both.families, both.v6only, six.families, six.v6only) == ((4, 6), False, (6,), True)
        assert "IPv4 and IPv6, as it is not V6ONLY," in both.reach.warning
        assert statuses(world.ports(8001))["127.0.0.1"] == "open"
        told = world.ports(8002)
        assert statuses(told)["127.0.0.1"] == "closed"
        assert statuses(told)["::1"] == "open"
        assert any("listens at ::1 and not at 127.0.0.1" in text for text in told.warnings)


def test_a_link_local_address_and_one_that_has_gone(own):
    device = own.links["veth"].devices["near"]
    own.add_address(device, "198.18.77.1/24")
    gone = serve(own, "198.18.77.1")
    own.remove_address(device, "198.18.77.1/24")
    with gone:
        row = row_of(own.ports())
        assert row.reach.kind == "nobody"
        told = own.ports(PORT)
        assert "198.18.77.1" not in statuses(told)  # which would be asked by way of another
    link_local = f"fe80::77%{device}"
    own.add_address(device, "fe80::77/64")
    with own.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
        server.bind(sockaddr(server, link_local, PORT))
        server.listen()
        row = row_of(own.ports())
        assert (row.address, row.reach.kind, row.device) == (link_local, "link", device)


# ---- one port ----


@RIGHTS
def test_all_about_a_port(serving, faults):
    sockets = [["tcp", "127.0.0.1", PORT, None], ["udp", "127.0.0.1", PORT, None]]
    done = serving(sockets, "ports", str(PORT), "--json", faults=faults)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    answers = {(each["protocol"], each["address"]): each for each in document["answers"]}
    assert {key: each["status"] for key, each in answers.items()} == {
        ("tcp", "127.0.0.1"): "open",
        ("tcp", "::1"): "closed",
        ("udp", "127.0.0.1"): "open-or-filtered",
        ("udp", "::1"): "closed",
    }
    assert answers["tcp", "127.0.0.1"]["rtt_ns"] > 0
    assert answers["tcp", "127.0.0.1"]["errno"] is None
    assert answers["udp", "127.0.0.1"]["rtt_ns"] is None
    assert answers["tcp", "::1"]["errno"] == errno.ECONNREFUSED
    assert answers["udp", "::1"]["icmp"] == [1, 4]
    here = [each for each in document["holders"] if each["network"] is None]
    assert [(each["protocol"], each["state"], each["address"]) for each in here] == [
        ("tcp", "listen", "127.0.0.1"),
        ("udp", "bound", "127.0.0.1"),
    ]
    (pid,) = {each["pid"] for each in here}
    assert document["end_command"] == here[0]["end_command"] == f"kill {pid}"
    assert document["bind"]["errno"] == document["bind"]["reusing_errno"] == errno.EADDRINUSE
    assert document["free_nearby"] == PORT + 1
    assert any("listens at 127.0.0.1 and not at ::1" in text for text in document["warnings"])


def test_a_port_that_nobody_has(run):
    done = run("ports", "8080", "--json", faults=("no-rights",))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {each["status"] for each in document["answers"]} == {"closed"}
    assert [each for each in document["holders"] if each["network"] is None] == []
    assert (document["bind"]["errno"], document["end_command"]) == (None, None)


def test_own_addresses_are_asked_from_the_end_that_is_meant(world, family):
    link = world.links["veth"]
    with serve(world, link.far[family], end="far"):
        asked = statuses(world.ports(PORT, end="far"))
        assert asked[link.far[family]] == "open"
        assert {asked[LOOPBACK[4]], asked[LOOPBACK[6]]} == {"closed"}
        near = world.ports(PORT)
        assert set(statuses(near).values()) == {"closed"}, near
        assert link.near[family] in statuses(near)
        assert link.far[family] not in statuses(near)
        assert [each for each in near.holders if each.network is None] == []


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        ("drop", "filtered", "a firewall drops it"),
        ("reject", "filtered", "a firewall answers with ICMP"),
        ("tcp-reset", "closed", "is refused by a reset, though"),
    ],
)
def test_a_firewall_is_told_from_nobody(world, family, verdict, status, said):
    address = LOOPBACK[family]
    rule = FirewallRule(verdict=verdict, protocol="tcp", port=PORT, family=family)
    with serve(world, address):
        assert statuses(world.ports(PORT, at=address)) == {address: "open"}
        with world.firewall(rule):
            report = world.ports(PORT, at=address, timeout="200ms")
            (tcp, _udp) = report.answers
            assert tcp.status == status
            assert (tcp.rtt_ns is None) == (verdict == "drop")
            assert (tcp.icmp is not None) == (verdict == "reject")
            assert any(said in text for text in report.warnings)
        assert statuses(world.ports(PORT, at=address)) == {address: "open"}


def test_what_is_dropped_on_its_way_out(world, family):
    address = LOOPBACK[family]
    with world.firewall(FirewallRule(verdict="drop", hook="output", protocol="udp", port=PORT)):
        (_tcp, udp) = world.ports(PORT, at=address, timeout="100ms").answers
    assert (udp.status, udp.errno) == ("filtered", errno.EPERM)


def test_a_udp_server_that_answers_is_open(world, family):
    address = LOOPBACK[family]
    with serve(world, address, kind=socket.SOCK_DGRAM) as server:

        def answer():
            asked, client = server.recvfrom(100)
            server.sendto(b"yes" + asked, client)

        answering = threading.Thread(target=answer)
        answering.start()
        (_tcp, udp) = world.ports(PORT, at=address, timeout="5s").answers
        answering.join()
    assert (udp.status, udp.errno) == ("open", None)
    assert 0 < udp.rtt_ns < 5_000_000_000


def test_a_redirected_port_is_of_no_socket(world):
    rule = FirewallRule(verdict=("redirect", 9090), hook="output", protocol="tcp", port=PORT, family=4)
    with serve(world, "127.0.0.1", 9090), world.firewall(rule):
        report = world.ports(PORT, at="127.0.0.1")
        assert report.open
        assert report.free
        assert any("a rule redirects it" in text for text in report.warnings)
        scan = world.ports(scan="8079-8081", at="127.0.0.1")
        assert scan.addresses[0].open == (PORT,)
        assert not scan.agrees


def test_a_server_that_accepts_nothing_looks_filtered(world, family):
    address = LOOPBACK[family]
    with serve(world, address, backlog=0), world.socket(KINDS[family], socket.SOCK_STREAM) as first:
        first.connect((address, PORT))
        report = world.ports(PORT, at=address, timeout="200ms")
        assert statuses(report) == {address: "filtered"}
        assert any("accepts no connections and 1 wait" in text for text in report.warnings)


@pytest.mark.parametrize("reuse", [False, True], ids=["plain", "SO_REUSEADDR"])
def test_time_wait_keeps_a_port(own, family, reuse):
    address = LOOPBACK[family]
    with own.socket(KINDS[family], socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        server.bind((address, PORT))
        server.listen()
        for _ in range(3):
            with own.socket(KINDS[family], socket.SOCK_STREAM) as client:
                client.connect((address, PORT))
                server.accept()[0].close()  # it closes first, so the TIME_WAIT is its
    report = own.ports(PORT)
    (left,) = report.here
    assert (left.state, left.count, left.programs, left.end_command) == ("time-wait", 3, (), None)
    assert 0 < left.left_ns <= 60_000_000_000
    assert statuses(report)[address] == "closed"
    assert report.binding.errno == errno.EADDRINUSE
    assert report.binding.reusing_errno == (None if reuse else errno.EADDRINUSE)
    assert report.end_command is None
    (text,) = (text for text in report.warnings if "TIME_WAIT" in text)
    assert ("set SO_REUSEADDR before bind()" in text) == reuse
    assert report.free_nearby == PORT + 1
    assert "3 × TIME_WAIT" in str(report)


def test_a_connection_that_a_server_left_behind_keeps_its_port(own):
    with own.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        with serve(own, "127.0.0.1") as server:
            client.connect(("127.0.0.1", PORT))
            left = server.accept()[0]
        with left:
            report = own.ports(PORT)
            (found,) = report.here
            assert (found.state, found.remote) == ("established", f"127.0.0.1:{client.getsockname()[1]}")
            assert not report.free
            assert any("1 connection that a server left behind" in text for text in report.warnings)
            assert report.end_command is None  # it is ours, to close
            assert any("this very process" in text for text in report.warnings)


def test_a_free_port_is_free_of_both_protocols_families(world):
    with serve(world, "127.0.0.1", PORT), serve(world, "::1", PORT + 1), serve(world, "0.0.0.0", PORT + 2):
        assert world.ports(PORT).free_nearby == PORT + 3


# ---- other networks ----


@pytest.fixture
def held_elsewhere():
    """A process in a network of its own that listens at PORT of 127.0.0.1 there."""
    program = f"import socket; s = socket.create_server(('127.0.0.1', {PORT})); print(flush=True); input()"
    command = [sys.executable, "-m", "lab", "exec", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield holder
        holder.stdin.close()


def test_a_holder_in_another_network_is_found(world, held_elsewhere):
    found, _notes = holders_elsewhere(PORT, socket_at=world.socket)
    (one,) = (each for each in found if each.network == held_elsewhere.pid)
    assert (one.address, one.state, one.reach.kind) == ("127.0.0.1", "listen", "namespace")
    assert one.reach.who == "its own namespace only"
    report = world.ports(PORT)
    assert report.free  # it is in nobody's way
    assert report.here == ()
    assert report.end_command is None
    assert held_elsewhere.pid in {each.network for each in report.holders}
    assert f"lab ports {PORT} --world {held_elsewhere.pid}" in str(report)


def test_the_command_that_is_told_ends_it(held_elsewhere):
    report = lab.ports(PORT, world=held_elsewhere.pid)
    assert statuses(report)["127.0.0.1"] == "open"
    assert not report.free
    subprocess.run(report.end_command.split(), check=True)
    assert held_elsewhere.wait(30) == 128 + signal.SIGTERM  # lab exec exits as its program did


@RIGHTS
def test_a_holder_in_another_network_is_found_by_the_command(run, faults):
    """Of a process of our own: both are inside the network that the fault makes."""
    code = f"""
import subprocess, sys
lab = [sys.executable, "-m", "lab"]
server = "import socket; s = socket.create_server(('::1', {PORT}), family=socket.AF_INET6); print(flush=True); input()"
with subprocess.Popen([*lab, "exec", "--", sys.executable, "-c", server], stdin=-1, stdout=-1) as held:
    held.stdout.readline()
    print(held.pid)
    sys.stdout.flush()
    subprocess.run([*lab, "ports", "{PORT}", "--json"])
    subprocess.run([*lab, "ports", "{PORT}", "--world", str(held.pid), "--json"])
    held.stdin.close()
"""
    done = run("exec", "--", sys.executable, "-c", code, faults=faults)
    pid, outside, inside = done.stdout.splitlines()
    outside, inside = json.loads(outside), json.loads(inside)
    (held,) = (each for each in outside["holders"] if each["network"] == int(pid))
    assert (held["address"], held["process"][:6], held["reach"]) == ("::1", "python", "namespace")
    assert outside["bind"]["errno"] is None
    assert outside["end_command"] is None
    assert inside["end_command"] == held["end_command"] == f"kill {held['pid']}"
    (here,) = (each for each in inside["holders"] if each["network"] is None)
    assert here["pid"] == held["pid"]


# ---- scans ----


def test_a_full_scan_agrees_with_the_list(serving):
    sockets = [["tcp", address, port, v6only] for address, v6only, ports in (
        ("127.0.0.1", None, (1025, 33_000, 65_535)),
        ("0.0.0.0", None, (40_000, 40_001)),
        ("::1", None, (1026, 50_000)),
        ("::", 0, (45_000,)),
        ("::", 1, (45_001,)),
        ("127.0.0.5", None, (1027,)),
    ) for port in ports]  # fmt: skip
    done = serving([*sockets, ["udp", "127.0.0.1", 1028, None]], "ports", "--scan", "1-65535", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["agrees"] is True
    assert document["warnings"] == []
    four, six = document["addresses"]
    assert (four["address"], four["open"]) == ("127.0.0.1", [1025, 33_000, 40_000, 40_001, 45_000, 65_535])
    assert (six["address"], six["open"]) == ("::1", [1026, 45_000, 45_001, 50_000])
    for each in (four, six):
        assert each["asked"] == 65_535 == len(each["open"]) + each["closed"]
        assert (each["filtered"], each["errors"]) == ("", [])
        assert each["duration_ns"] < 30_000_000_000
    assert [(row["asked"], row["port"]) for row in document["rows"]] == [
        (each["address"], port) for each in (four, six) for port in each["open"]
    ]
    assert all(row["pid"] for row in document["rows"])


def test_a_scan_finds_what_is_filtered(world, family):
    address = LOOPBACK[family]
    rules = [FirewallRule(verdict="drop", protocol="tcp", port=port) for port in (8001, 8002, 8004)]
    with serve(world, address, 8002), serve(world, address, 8003), world.firewall(*rules):
        scan = world.ports(scan="8000-8005", at=address, timeout="200ms")
    (found,) = scan.addresses
    assert (found.open, found.filtered, found.closed, found.asked) == ((8003,), (8001, 8002, 8004), 2, 6)
    assert not scan.agrees  # somebody listens at one of them
    (text,) = scan.warnings
    assert "8002 is listened at, and did not answer" in text
    assert "filtered: 8001-8002,8004" in str(scan)


def test_a_scan_of_more_ports_than_it_has_sockets(world):
    """All of them filtered: they wait in batches, and each batch is given up after the timeout."""
    with world.firewall(FirewallRule(verdict="drop", protocol="tcp", family=4)):
        (found,) = world.ports(scan="1-1200", at="127.0.0.1", timeout="50ms").addresses
    assert found.filtered == tuple(range(1, 1201))
    assert len(list(Path("/proc/self/fd").iterdir())) < 400


def test_an_own_address_is_scanned_and_no_other(world, family):
    link = world.links["veth"]
    with serve(world, link.near[family]):
        scan = world.ports(scan=f"{PORT - 1}-{PORT + 1}", at=link.near[family])
        assert scan.addresses[0].open == (PORT,)
        assert scan.agrees
        before = world.counters(end="far")
        with pytest.raises(lab.UsageError, match="is no address of this network's own"):
            world.ports(scan=str(PORT), at=link.far[family])
        with pytest.raises(lab.UsageError, match="is no address of this network's own"):
            world.ports(PORT, at=link.far[family])
        after = world.counters(end="far")
        name = "Tcp.PassiveOpens" if family == 4 else "Tcp.InSegs"
        assert after[name] == before[name]  # the neighbour was not asked


@pytest.mark.parametrize("faults", [("ipv6-off", "no-rights"), ("lo-down",)], ids=["no IPv6", "lo down"])
def test_an_address_that_is_not_there_is_not_asked(run, faults):
    missing = ["::1"] if "ipv6-off" in faults else ["127.0.0.1", "::1"]
    document = json.loads(run("ports", "8080", "--json", faults=faults).stdout)
    for each in document["answers"]:
        expected = ("unreachable", errno.EADDRNOTAVAIL) if each["address"] in missing else ("closed", 111)
        if (each["address"], *faults) == ("127.0.0.1", "lo-down"):
            expected = ("unreachable", errno.ENETUNREACH)
        assert (each["status"], each["errno"]) == expected
    for address in missing:
        assert any(f"{address} is no address of this network now" in text for text in document["warnings"])
    scan = json.loads(run("ports", "--scan", "80-90", "--json", faults=faults).stdout)
    assert [each["address"] for each in scan["addresses"]] == [a for a in ("127.0.0.1", "::1") if a not in missing]
    assert len(scan["warnings"]) == len(missing)


# ---- use ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["65536"], "port 65536: give 1 to 65535"),
        (["--scan", "8100-8000"], "8100-8000 runs backwards: give 8000-8100"),
        (["--scan", "1-10", "--at", "192.0.2.1"], "192.0.2.1 is no address of this network's own"),
        (["80", "--expect", "shut"], "--expect shut: give a PORT with it, and open or free"),
        (["--expect", "open"], "--expect open: give a PORT with it"),
        (["--world", "mars"], "unknown world 'mars'"),
    ],
)
def test_bad_usage_exits_2_with_one_line(run, arguments, said):
    done = run("ports", *arguments)
    assert done.returncode == 2
    assert said in error_line(done)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 0}, "port 0: give 1 to 65535"),
        ({"port": "http"}, "'http' is no port: give a number from 1 to 65535"),
        ({"scan": ""}, "is no range of ports"),
        ({"scan": "1-70000"}, "port 70000: give 1 to 65535"),
        ({"scan": "1-10", "at": "2001:db8::1"}, "2001:db8::1 is no address of this network's own"),
        ({"scan": "1-10", "at": "0.0.0.0"}, "0.0.0.0 is no address of this network's own"),
        ({"port": 80, "at": "localhost"}, "'localhost' is no address: give a numeric one"),
        ({"port": 80, "at": "192.0.2.1"}, "192.0.2.1 is no address of this network's own"),
        ({"port": 80, "at": "fe80::1%nowhere"}, "there is no interface 'nowhere'"),
        ({"port": 80, "at": []}, "no address to ask"),
        ({"port": 80, "scan": "1-10"}, "port 80 and a scan together: give one"),
        ({"at": "127.0.0.1"}, "nothing is asked where sockets are only listed"),
        ({"port": 80, "timeout": "5"}, "'5' is not a duration"),
        ({"world": 1.5}, "unknown world 1.5"),
        ({"world": "host", "end": "far"}, "has no far end"),
        ({"world": "host", "end": "left"}, "unknown end 'left'"),
    ],
)
def test_bad_arguments_are_usage_errors(options, said):
    with pytest.raises(lab.UsageError) as caught:
        lab.ports(**options)
    assert said in str(caught.value)


def test_the_network_of_no_process(run):
    done = run("ports", "--world", "4194304")
    assert done.returncode == 1
    assert "cannot join the network of process 4194304" in error_line(done)


def test_a_script_asks_for_what_it_expects(serving):
    sockets = [["tcp", "127.0.0.1", PORT, None]]
    codes = {what: serving(sockets, "ports", str(PORT), "--expect", what).returncode for what in ("open", "free")}
    assert codes == {"open": 0, "free": 1}
