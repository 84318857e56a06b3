"""Worlds as places: programs and sockets at each end, networks of other processes, and the machine's own cards."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import lab

#: Answers one TCP client at ADDRESS PORT with what this process may tell of itself; says when it listens.
SERVER = """
import json, os, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as server:
    print("listening", flush=True)
    connection, peer = server.accept()
    with connection:
        connection.sendall(json.dumps({"peer": peer[0], "uid": os.getuid(), "gid": os.getgid()}).encode())
"""


@pytest.fixture(scope="module")
def world(missing) -> Iterator[lab.World]:
    """A world with a middle, too."""
    try:
        made = lab.World(["lo", "veth", "router"])
    except lab.Unavailable as error:
        missing(str(error))
    with made:
        yield made


@pytest.fixture
def start() -> Iterator[object]:
    """Starts programs in worlds; ends them with the test."""
    with ExitStack() as started:

        def start(world: lab.World, command: list[str], **options: object) -> subprocess.Popen[str]:
            options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **options}
            process = started.enter_context(world.popen(command, **options))
            started.callback(process.kill)
            return process

        yield start


def address(world: lab.World, link: str, end: str, family: int) -> str:
    return getattr(world.links[link], end)[family]


def kind(family: int) -> socket.AddressFamily:
    return {4: socket.AF_INET, 6: socket.AF_INET6}[family]


# ---- programs ----


def test_a_server_at_the_far_end_is_reached_from_the_near_one(world, start, family):
    far, near = address(world, "veth", "far", family), address(world, "veth", "near", family)
    server = start(world, [sys.executable, "-c", SERVER, far, "8080"], end="far")
    assert server.stdout.readline() == "listening\n"
    with world.socket(kind(family), socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect((far, 8080))
        told = json.loads(client.recv(1000))
    assert told == {"peer": near, "uid": os.getuid(), "gid": os.getgid()}
    assert server.wait(30) == 0


def test_a_web_server_and_its_client(world, start, wait_until, family, tmp_path):
    """Programs that know nothing of worlds: one serves, the other fetches."""
    (tmp_path / "page").write_text("from the far end")
    far = address(world, "veth", "far", family)
    serve = [sys.executable, "-m", "http.server", "8000", "--bind", far]
    start(world, serve, end="far", cwd=tmp_path, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with world.socket(kind(family), socket.SOCK_STREAM) as attempt:
            return attempt.connect_ex((far, 8000)) == 0

    wait_until(answers, "the server to listen")
    url = f"http://[{far}]:8000/page" if family == 6 else f"http://{far}:8000/page"
    fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"
    client = start(world, [sys.executable, "-c", fetch, url], env={**os.environ, "no_proxy": "*"})
    assert client.communicate(timeout=60)[0] == "from the far end\n"
    connection = http.client.HTTPConnection(far, 8000)  # and over a socket of the world, without a program
    with world.socket(kind(family), socket.SOCK_STREAM) as connection.sock:
        connection.sock.settimeout(30)
        connection.sock.connect((far, 8000))
        connection.request("GET", "/page")
        assert connection.getresponse().read() == b"from the far end"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("near", {"lo", "veth", "router"}),
        ("far", {"lo", "veth", "router"}),
        ("middle", {"lo", "router-near", "router-far"}),
    ],
)
def test_a_program_lives_at_its_end(world, start, end, expected):
    """It sees the devices of that namespace, which are those that a socket from there finds."""
    listed = start(world, ["cat", "/proc/net/dev"], end=end).communicate(timeout=30)[0]
    devices = {line.split(":")[0].strip() for line in listed.splitlines()[2:]}
    assert expected <= devices
    for device in devices:
        with world.socket(socket.AF_PACKET, socket.SOCK_RAW, 0, end=end) as probe:
            probe.bind((device, 0))


def test_a_program_is_a_child_like_any_other(world, start):
    echo = start(world, ["sh", "-c", "cat; exit 3"])
    assert echo.communicate("through the pipes\n", timeout=30)[0] == "through the pipes\n"
    assert echo.returncode == 3
    who = start(world, ["sh", "-c", "id -u; id -g; pwd; echo $GREETING"], cwd="/", env={**os.environ, "GREETING": "hi"})
    assert who.communicate(timeout=30)[0].split() == [str(os.getuid()), str(os.getgid()), "/", "hi"]


def test_a_program_has_no_more_descriptors_than_it_was_given(world, start):
    read, write = os.pipe()
    listing = start(world, ["sh", "-c", "ls /proc/self/fd"], pass_fds=[write])
    os.close(write)
    found = {int(number) for number in listing.communicate(timeout=30)[0].split()}
    os.close(read)
    assert write in found
    assert len(found - {0, 1, 2, write}) <= 1  # the folder that ls reads


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGXFSZ])
def test_signals_do_to_a_program_what_they_do_to_any(world, start, number):
    assert start(world, ["sh", "-c", f"kill -{int(number)} $$"]).wait(30) == -number


def test_a_program_that_cannot_be_run_is_told_as_shells_do(world, start, tmp_path):
    shut = tmp_path / "shut"
    shut.write_text("#!/bin/sh\n")
    for command, code in ((["no-such-program"], 127), ([shut], 126), ([tmp_path], 126)):
        process = start(world, command, stderr=subprocess.PIPE)
        _out, told = process.communicate(timeout=30)
        assert process.returncode == code
        assert told.startswith(f"lab: error: cannot run {command[0]}: ")
        assert told.count("\n") == 1


def test_a_program_needs_an_end_that_there_is(world):
    with pytest.raises(lab.UsageError, match="choose from near, far, middle"):
        world.popen(["true"], end="nowhere")


@pytest.mark.parametrize("end", ["near", "middle", "far"])
@pytest.mark.parametrize("name", ["rp_filter", "arp_ignore", "arp_announce", "accept_local", "route_localnet"])
def test_a_world_does_not_take_over_what_this_machine_is_set_to(world, end, name):
    assert [world.sysctl(f"ipv4/conf/{device}/{name}", end=end) for device in ("all", "default")] == ["0", "0"]


def test_two_worlds_have_the_same_port_at_once(start):
    with lab.World(["lo"]) as one, lab.World(["lo"]) as other:
        servers = [start(each, [sys.executable, "-c", SERVER, "127.0.0.1", "8080"]) for each in (one, other)]
        assert [server.stdout.readline() for server in servers] == ["listening\n"] * 2
        for each in (one, other):
            with each.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(30)
                client.connect(("127.0.0.1", 8080))
                assert json.loads(client.recv(1000))["peer"] == "127.0.0.1"
        assert [server.wait(30) for server in servers] == [0, 0]


def test_a_notebook_has_threads_and_a_running_loop(start, family):
    """A kernel's: no namespace can be entered by it, and no other loop run."""
    busy = threading.Event()
    thread = threading.Thread(target=busy.wait)
    thread.start()

    async def cell() -> int:
        with lab.World(["lo", "veth"]) as world:
            far = address(world, "veth", "far", family)
            program = start(world, [sys.executable, "-c", SERVER, far, "8080"], end="far")
            assert program.stdout.readline() == "listening\n"
            with world.socket(kind(family), socket.SOCK_STREAM) as client:
                client.connect((far, 8080))
                assert json.loads(client.recv(1000))["uid"] == os.getuid()
            assert world.describe()["offloads"]["near veth"]
            return world.rtt("veth", family=family, probe="udp", count=50).received

    try:
        assert asyncio.run(cell()) == 50
    finally:
        busy.set()
        thread.join()


# ---- the network of a process ----

#: Listens on its own lo, where nobody else can know of it, and waits to be told to end.
HOLDER = "import socket, sys; s = socket.create_server(('127.0.0.1', 8080)); print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(world, start) -> subprocess.Popen[str]:
    """A process in the far namespace of the world."""
    process = start(world, [sys.executable, "-c", HOLDER], end="far")
    assert process.stdout.readline() == "up\n"
    return process


def test_a_processs_network_is_joined(world, holder, run, family):
    """The stream crosses the lo of that process: the counter of packets there tells."""
    before = packets_on_lo(world)
    done = run("rtt", "lo", f"-{family}", "--world", str(holder.pid), "-c", "200", "--warmup", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 200
    assert packets_on_lo(world) - before == 400


def packets_on_lo(world: lab.World) -> int:
    """Packets received by lo of the far namespace."""
    with world.popen(["cat", "/proc/net/dev"], end="far", stdout=subprocess.PIPE, text=True) as cat:
        (line,) = (line for line in cat.communicate()[0].splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[2])


def test_a_joined_world_has_its_processs_ports(holder):
    joined = lab.world.JoinedWorld(holder.pid)
    try:
        with joined.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            assert client.connect_ex(("127.0.0.1", 8080)) == 0
        assert joined.describe()["sysctls"]
    finally:
        joined.close()


@pytest.mark.parametrize(("pid", "code"), [("999999999", 1), ("0", 1), ("-1", 2), ("12x", 2)])
def test_no_such_process_is_one_line(run, pid, code):
    done = run("rtt", "lo", f"--world={pid}")
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert ("cannot join the network of process" if code == 1 else "unknown world") in line


def test_a_link_is_not_made_in_the_network_of_a_process(run, holder):
    done = run("rtt", "veth", "--world", str(holder.pid))
    assert done.returncode == 2
    assert "veth is made in a private world, never in that of a process" in done.stderr


def test_the_network_of_a_process_is_not_impaired(run, holder):
    done = run("rtt", "lo", "--world", str(holder.pid), "--impair", "delay=1ms")
    assert done.returncode == 2
    assert "--impair changes a network" in done.stderr


# ---- the machine's own cards ----


#: A program that another user starts in a world has no raw sockets there, as it would have none outside.
NEEDS_ICMP = pytest.mark.skipif(os.getuid() != 0, reason="a card is asked by ICMP, which takes root here")


@pytest.fixture
def card(world, start, tmp_path):
    """Runs ``lab …`` where ``veth`` is one of the machine's own cards: in the near namespace of the test's world."""

    def card(*arguments: str) -> tuple[int, str, str]:
        process = start(world, [sys.executable, "-m", "lab", *arguments], stderr=subprocess.PIPE, cwd=tmp_path)
        out, errors = process.communicate(timeout=60)
        return process.returncode, out, errors

    return card


@NEEDS_ICMP
def test_a_card_asks_the_machine_that_is_named(card, world, family):
    target = address(world, "veth", "far", family)
    code, out, errors = card("rtt", "nic:veth", "--target", target, "-c", "50", "--json")
    assert code == 0, errors
    document = json.loads(out)
    assert document["received"] == 50
    assert document["reply"]["source"] == target
    told = [line for line in errors.splitlines() if "leave this machine" in line]
    assert told == [f"lab: warning: nic:veth: probes leave this machine for {target}, over its own network"]
    assert sum("leave this machine" in warning for warning in document["warnings"]) == 1


@NEEDS_ICMP
def test_a_card_is_kept_to(card, world, family):
    """The target is another card's: over this one it can't be had, whatever the routing table says."""
    code, _out, errors = card(
        "rtt", "nic:router", "--target", address(world, "veth", "far", family), "-c", "3", "--warmup", "0", "-W50ms"
    )
    assert code == 1, errors


@NEEDS_ICMP
def test_a_comparison_has_a_row_for_a_card(card, world):
    target = address(world, "veth", "far", 4)
    code, out, errors = card(
        "compare", "--links", "nic:veth", "--target", target, "--rounds", "1", "-c", "20", "--json", "-o", "study"
    )
    assert code == 0, errors
    document = json.loads(out)
    assert [(row["link"], row["family"], row["probe"]) for row in document["rows"]] == [("nic:veth", 4, "icmp")]
    assert sum("leave this machine" in warning for warning in document["warnings"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nic:veth",), 2, "nic:veth needs a machine to ask: give its address with --target"),
        (("nic:",), 2, "nic: of which network card?"),
        (("nic:wlan7", "--target", "192.0.2.1"), 2, "this machine has no interface 'wlan7'; it has lo"),
        (("nic:veth", "--target", "255.255.255.255"), 2, "is no single machine's address"),
        (("nic:veth", "--target", "224.0.0.1"), 2, "is no single machine's address"),
        (("nic:veth", "--target", "ff02::1"), 2, "is no single machine's address"),
        (("nic:veth", "--target", "0.0.0.0"), 2, "is no single machine's address"),
        (("nic:veth", "--target", "198.18.3.255"), 1, "It is a broadcast address"),
        (("nic:veth", "--target", "198.18.3.2", "-6"), 2, "is an IPv4 address: give -4"),
        (("nic:veth", "--target", "example.org"), 2, "is no address: give one such as"),
        (("nic:veth", "--target", "198.18.3.2", "--probe", "udp"), 2, "use --probe icmp"),
        (("veth", "--target", "198.18.3.2"), 2, "--target is for network cards (nic:NAME)"),
    ],
)
def test_what_is_no_single_machine_is_refused(card, arguments, code, said):
    found, out, errors = card("rtt", *arguments)
    assert said in errors
    assert (found, out) == (code, "")
    assert errors.count("\n") == 1
