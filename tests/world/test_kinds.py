"""Handshakes: every one is answered, nothing of it stays behind, and a server that is there already can be asked."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import lab
from lab.conditions import PORTS, WAITS
from lab.probes import send_stream
from lab.world import open_endpoints

LISTEN = "0A"  # include/net/tcp_states.h
KINDS = [("tcp-connect", "closed"), *(("tcp-syn", port) for port in PORTS)]
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
HOST = {4: "127.0.0.1", 6: "[::1]"}
ONE_IN = 10


def states(world: lab.World, end: str, family: int) -> list[str]:
    """The states of all TCP sockets of a namespace, half-open ones and those in TIME_WAIT among them."""
    table = "/proc/net/tcp" if family == 4 else "/proc/net/tcp6"
    shown = world.popen(["cat", table], end=end, stdout=subprocess.PIPE, text=True).communicate()[0]
    return [line.split()[3] for line in shown.splitlines()[1:]]


def check(stream: lab.Stream) -> None:
    """Every probe was answered, and its stamps are in order."""
    rows = stream.records
    assert (stream.sent, stream.received, stream.lost, stream.foreign) == (len(rows), len(rows), 0, 0)
    assert np.all(rows["tx_ns"] <= rows["tx_done_ns"])
    assert np.all(rows["tx_ns"] <= rows["rx_ns"])
    assert np.all(rows["reply_bytes"] == 0)
    ended = rows["user_rx_ns"] if stream.condition.probe == "tcp-syn" else rows["rx_ns"]
    assert np.all(rows["tx_done_ns"] <= ended)
    assert np.all(ended[:-1] <= rows["tx_ns"][1:])


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(("probe", "port"), KINDS)
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_handshake_is_answered_and_leaves_nothing_behind(world, family, link, probe, port, wait):
    condition = lab.Condition(link=link, family=family, probe=probe, port=port, wait=wait)
    before = {end: states(world, end, family) for end in ("near", "far")}
    with open_endpoints(world, condition) as ends:
        stream = send_stream(condition, ends, count=500, warmup=20)
        assert {*states(world, "near", family), *states(world, "far", family)} <= {LISTEN}
    check(stream)
    assert {end: states(world, end, family) for end in ("near", "far")} == before
    assert stream.reply["source"] == world.links[link].far[family]


def test_more_connections_than_there_are_ports(world, family):
    """28,232 would be all, if each left its port in TIME_WAIT."""
    check(world.rtt("veth", family=family, probe="tcp-connect", count=60_000))


@pytest.mark.parametrize("port", PORTS)
def test_the_kernel_stamps_a_syns_reply_before_user_space_has_it(world, family, port):
    stream = world.rtt("lo", family=family, probe="tcp-syn", port=port, count=2_000)
    rows = stream.records
    assert stream.inline_fraction == 1
    assert np.all(rows["rx_ns"] <= rows["tx_done_ns"])  # and so before send() returned
    assert np.all(rows["rx_ns"] < rows["user_rx_ns"])
    document = stream.to_json()
    assert document["rtt_ns"]["p50"] < document["user_rtt_ns"]["p50"]
    assert document["reply"] == {"source": LOOPBACK[family], "ttl": 64, "bytes": 0}
    table = stream.to_polars()
    assert table["user_rx_ns"].null_count() == 0
    assert table["reply_ttl"].unique().to_list() == [64]


def test_other_kinds_have_no_user_stamp_of_their_own(world):
    stream = world.rtt("lo", probe="tcp-connect", count=20)
    assert stream.user_rtt_ns is None
    assert stream.to_polars()["user_rx_ns"].null_count() == 20


@contextlib.contextmanager
def dropping(tool, world: lab.World, segments: str, hook: str = "input") -> Iterator[None]:
    """A rule of the near namespace that drops one in ten of the segments with these flags."""

    def nft(*rules: str) -> None:
        filter_ = world.popen([tool("nft"), "-f", "-"], stdin=subprocess.PIPE, text=True)
        filter_.communicate("\n".join(rules) + "\n")
        assert filter_.returncode == 0

    nft(
        f"table inet test {{ chain c {{ type filter hook {hook} priority 0; policy accept;",
        f"tcp flags & (syn|rst|ack) == {segments} numgen inc mod {ONE_IN} == 0 drop",
        "}",
        "}",
    )
    try:
        yield
    finally:
        nft("delete table inet test")


@pytest.mark.parametrize(("port", "reply"), [("closed", "rst|ack"), ("open", "syn|ack")])
def test_exactly_the_dropped_replies_to_syns_are_lost(tool, world, family, port, reply):
    """A SYN-ACK that is lost leaves the connection half open: were that not reset, later SYNs would be lost too."""
    with dropping(tool, world, reply):
        stream = world.rtt("veth", family=family, probe="tcp-syn", port=port, count=100, warmup=0, timeout="20ms")
    assert stream.lost_seq.tolist() == list(range(0, 100, ONE_IN))
    assert stream.foreign == 0
    assert all(state == LISTEN for state in states(world, "far", family))


def test_dropped_replies_to_connect_are_lost(tool, world, family):
    with dropping(tool, world, "syn|ack"):
        stream = world.rtt("veth", family=family, probe="tcp-connect", count=100, warmup=0, timeout="20ms")
    assert stream.lost_seq.tolist() == list(range(0, 100, ONE_IN))


@pytest.mark.parametrize(("probe", "port"), KINDS)
def test_handshakes_over_a_wire_that_loses_some(missing, probe, port):
    """They are lost and found again, and no probe is taken for another."""
    try:
        world = lab.World(["veth"], impair="loss=5%,by=wire")
    except lab.Unavailable as error:
        missing(str(error))
    with world:
        stream = world.rtt("veth", probe=probe, port=port, count=200, warmup=0, timeout="20ms")
    assert 0 < stream.lost < 100
    assert stream.sent == stream.received + stream.lost == 200
    assert stream.wire.dropped_seq is None  # the wire can't tell them apart


def test_a_system_call_takes_less_than_any_message():
    stream = lab.rtt("syscall", count=2_000)
    assert (stream.received, stream.lost, stream.inline_fraction) == (2_000, 0, 1)
    assert np.median(stream.rtt_ns) < np.median(lab.rtt("unix-dgram", count=2_000).rtt_ns)


# ---- HOST:PORT ----


@pytest.fixture
def server(family) -> Iterator[int]:
    """The port of a server on this machine's own loopback address, which accepts whatever comes."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # it was shut down
            while True:
                listener.accept()[0].close()

    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    with socket.create_server((LOOPBACK[family], 0), family=domain, backlog=4096) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_that_is_there_already(run, server, family):
    done = run("rtt", f"{HOST[family]}:{server}", "-c", "200", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["received"], document["lost"]) == (200, 0)
    assert document["reply"]["source"] == LOOPBACK[family]
    condition = document["condition"]
    assert (condition["link"], condition["probe"], condition["server_port"]) == ("lo", "tcp-connect", server)


def test_a_name_is_asked_in_the_family_that_was_given(run, server, family):
    done = run("rtt", f"localhost:{server}", f"-{family}", "-c", "20")
    if "localhost has no" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert f"→ {LOOPBACK[family]}, block" in done.stdout


def test_a_server_in_the_network_of_a_process(run, world):
    code = """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
while True:
    listener.accept()[0].close()
"""
    with world.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            assert world.rtt(f"127.0.0.1:{port}", count=50).received == 50
            done = run("rtt", f"127.0.0.1:{port}", "-c", "50", "--world", str(process.pid))
        finally:
            process.kill()
    assert done.returncode == 0, done.stderr
    assert "50 sent, 50 received, 0 lost" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["127.0.0.1:9"], 1, "nobody listens on port 9 of 127.0.0.1: ECONNREFUSED"),
        (["[::1]:9"], 1, "nobody listens on port 9 of ::1: ECONNREFUSED"),
        (["127.0.0.1:9", "-6"], 1, "127.0.0.1 has no IPv6 address"),
        (["host.invalid:9"], 1, "host.invalid has no address"),
        (["a..b:9"], 2, "'a..b' can be no host's name"),
        (["[fe80::1%lo]:9"], 2, "a link-local address is of one interface only"),
        (["127.0.0.1:0"], 2, "ports are from 1 to 65535"),
        (["127.0.0.1:65536"], 2, "ports are from 1 to 65535"),
        (["127.0.0.1:9", "--probe", "icmp"], 2, "leave --probe out"),
        (["127.0.0.1:9", "--impair", "loss=1%"], 2, "leave --target and --impair out"),
        (["127.0.0.1:9", "--placement", "cross-cpu"], 2, "the kernel replies where it sent"),
        (["192.0.2.1:9"], 1, "no route to 192.0.2.1: ENETUNREACH"),
        (["lo", "--port", "open"], 2, "give --probe tcp-syn"),
        (["lo", "--probe", "tcp-syn", "--port", "80"], 2, "unknown port '80': choose from closed, open"),
        (["lo", "--probe", "tcp-syn", "--world", "host"], 1, "no raw socket for lo IPv4 tcp-syn: EPERM"),
        (["syscall", "--wait", "spin"], 2, "it needs --wait block"),
    ],
)
def test_one_line_says_what_is_wrong(run, arguments, code, said):
    """In a namespace without rights, where nothing listens and no route leads out."""
    done = run("rtt", *arguments, faults=("no-rights",))
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert said in lines[0]
    assert done.returncode == code


def test_a_comparison_of_all_kinds(run, tmp_path):
    done = run(
        "compare", "--links", "lo,veth,syscall", "--probes", "all", "--families", "4", "--rounds", "1", "--count", "20",
        "--port", "open", "--placement", "same-cpu", "-o", "study", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["probe"] for row in rows if row["link"] == "veth"] == ["icmp", "udp", "tcp", "tcp-connect", "tcp-syn"]
    assert {row["probe"]: row["placement"] for row in rows} == {
        "icmp": "inline", "udp": "same-cpu", "tcp": "same-cpu", "tcp-connect": "inline", "tcp-syn": "inline",
        "syscall": "inline",
    }  # fmt: skip
    assert all(row["received"] == 20 for row in rows)
    sections = lab.Study.load(tmp_path / "study").summary().sections()
    assert "tcp-connect: block, inline" in sections
