"""Flows, round trips and who spoke, of real traffic: against tshark, the kernel's own counts, and the active probe."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import polars as pl
import pytest

import lab
from lab.taps.capturer import Capturer, Taps
from lab.taps.flows import find_flows
from lab.taps.frames import HAS, FrameFile
from lab.taps.places import TapAt
from lab.taps.rtts import find_rtts
from lab.taps.speakers import Speakers
from lab.taps.targets import Target
from lab.taps.transit import find_transit

TCPI_TOTAL_RETRANS = 100  # its offset in struct tcp_info (linux/tcp.h)

#: Talks to itself over TCP or UDP (argv[1]) by IPv argv[2], says where from and where to, and waits for a line.
TALKER = """
import socket, sys
kind, family = sys.argv[1:3]
address = {"4": "127.0.0.1", "6": "::1"}[family]
type_ = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[kind]
near = socket.socket({"4": socket.AF_INET, "6": socket.AF_INET6}[family], type_)
if len(sys.argv) == 3:  # the server
    near.bind((address, 0))
    if kind == "tcp":
        near.listen()
    print(near.getsockname()[1], flush=True)
    if kind == "tcp":
        near, _ = near.accept()
    data, peer = near.recvfrom(10)
    near.sendto(data, peer) if kind == "udp" else near.send(data)
else:
    near.connect((address, int(sys.argv[3])))
    input()
    near.send(b"x")
    near.recv(10)
    print("done", flush=True)
input()
"""


@pytest.fixture
def tapped(tmp_path):
    """Captures a device of a world while a function runs, and returns the file. speakers: are told in it."""

    def tapped(world, device, act, *, both_copies=False, speakers=()):
        path = tmp_path / f"{device}.pcapng"
        place = TapAt(name=device, interface=device, socket_at=world.socket, description="")
        with Capturer(Taps([place], both_copies=both_copies), Target(path)) as capturer:
            act()
            capturer.stop(speakers)
            assert capturer.totals().lossless
        return path

    return tapped


def fields(tool, path, *names, only="tcp"):
    """What tshark prints of the frames of a file: a tuple of texts each."""
    command = [tool("tshark"), "-n", "-r", path, "-Y", only, "-T", "fields"]
    command += [word for name in names for word in ("-e", name)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [tuple(line.split("\t")) for line in lines]


def send_over_tcp(world, family, count, size, after=lambda near: None):
    """Opens `count` connections one after another to the far end of veth, and sends `size` bytes over each."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    listener = world.socket(kind, socket.SOCK_STREAM, end="far")
    with listener:
        listener.bind((world.links["veth"].far[family], 0))
        listener.listen()

        def serve():
            for _ in range(count):
                far, _ = listener.accept()
                with far:
                    while data := far.recv(65_536):
                        far.send(data[:100])

        server = threading.Thread(target=serve)
        server.start()
        for _ in range(count):
            with world.socket(kind, socket.SOCK_STREAM) as near:
                near.connect(listener.getsockname()[:2])
                near.sendall(bytes(size))
                near.shutdown(socket.SHUT_WR)
                while near.recv(65_536):
                    pass
                after(near)
        server.join()


def test_flows_agree_with_tshark_and_with_what_the_kernel_sent_again(missing, tool, tapped, family):
    sent_again = {}

    def note(near):
        info = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_TOTAL_RETRANS + 4)
        sent_again[near.getsockname()[1]] = struct.unpack_from("=I", info, TCPI_TOTAL_RETRANS)[0]

    with lab.World(["veth"], impair="loss=3%,seed=5") as world:
        if not world.links:
            missing(world.skipped[0].reason)
        device, near = world.links["veth"].devices["near"], world.links["veth"].near[family]
        path = tapped(world, device, lambda: send_over_tcp(world, family, 5, 400_000, note))
    with FrameFile(path) as frames:
        flows = find_flows(frames).to_polars().filter(pl.col("protocol") == "tcp")

    judged = fields(tool, path, "tcp.srcport", "tcp.dstport", "frame.len", "tcp.len", "tcp.analysis.retransmission",
                    "tcp.analysis.out_of_order")  # fmt: skip
    counts = {}
    for source, destination, length, payload, again, disorder in judged:
        each = counts.setdefault((int(source), int(destination)), Counter())
        each.update(frames=1, bytes=int(length), payload=int(payload), again=bool(again or disorder))
    assert len(flows) == 5
    for row in flows.iter_rows(named=True):
        client, server = row["client_port"], row["server_port"]
        to_server, to_client = counts[client, server], counts[server, client]
        for what in ("frames", "bytes", "payload"):
            assert (row[f"{what}_to_server"], row[f"{what}_to_client"]) == (to_server[what], to_client[what])
        # tshark tells repetition from disorder by time alone, even where the tap saw the segment before.
        again = row["retransmissions_to_server"] + row["retransmissions_to_client"] + row["out_of_order"]
        assert again == to_server["again"] + to_client["again"]
        assert row["retransmissions_to_server"] == sent_again[client]
        assert row["client"] == near
        assert row["state"] in ("closed", "half-closed")
    assert sum(sent_again.values()) > 10


def test_round_trips_of_data_agree_with_tshark(missing, tool, tapped, family):
    with lab.World(["veth"]) as world:
        if not world.links:
            missing(world.skipped[0].reason)
        device = world.links["veth"].devices["near"]
        path = tapped(world, device, lambda: send_over_tcp(world, family, 3, 200_000))
    with FrameFile(path) as frames:
        found = find_rtts(frames)
        sent_ns = frames.columns("time_ns")["time_ns"]
    rtts = found.to_polars().filter(pl.col("kind") != "timestamp")
    answered = {row["request_ns"]: row["rtt_ns"] for row in rtts.iter_rows(named=True)}
    judged = fields(tool, path, "tcp.analysis.acks_frame", "tcp.analysis.ack_rtt", only="tcp.analysis.ack_rtt")
    assert len(judged) > 10
    for frame, rtt_s in judged:
        assert answered[sent_ns[int(frame) - 1]] == round(float(rtt_s) * 1e9)
    assert {"syn", "syn-ack", "data"} <= found.summaries().keys()
    assert found.warnings == ()


@pytest.mark.parametrize("link", ["lo", "veth"])
@pytest.mark.parametrize("probe", ["icmp", "tcp"])
def test_passive_round_trips_lie_within_the_active_ones(world, tapped, family, link, probe):
    streams = []

    def probe_it():
        streams.append(lab.rtt(link, world=world, probe=probe, family=family, count=2_000, warmup=0))

    device = "lo" if link == "lo" else world.links["veth"].devices["near"]
    path = tapped(world, device, probe_it)
    with FrameFile(path) as frames:
        table = find_rtts(frames).to_polars()
    kind = "echo" if probe == "icmp" else "data"
    passive = table.filter((pl.col("kind") == kind) & pl.col("to_server")).sort("request_ns")
    active_ns = streams[0].rtt_ns
    assert streams[0].received == len(passive) == 2_000
    step = np.diff(passive["seq"].to_numpy()) % 2**16
    assert np.all(step == (1 if probe == "icmp" else 56))
    passive_ns = passive["rtt_ns"].to_numpy()
    assert np.all(passive_ns > 0)
    assert np.all(passive_ns < active_ns)
    ranks = [np.argsort(np.argsort(each)) for each in (passive_ns, active_ns)]
    assert np.corrcoef(*ranks)[0, 1] > 0.3  # Spearman's


def test_times_through_lo_and_copies_that_count_once(world, tapped, family):
    def probe_it():
        assert lab.rtt("lo", world=world, family=family, count=1_000, warmup=0).received == 1_000

    path = tapped(world, "lo", probe_it, both_copies=True)
    with FrameFile(path) as frames:
        transit, flows, rtts = find_transit(frames), find_flows(frames), find_rtts(frames)
        echoes = frames.columns("has")["has"] & HAS["echo"] != 0
        assert np.count_nonzero(echoes) == 4_000
    assert len(transit) >= 2_000  # there may be a stray packet of the kernel's
    assert transit.unlinked == {"in": 0, "out": 0}
    assert (transit.to_polars()["transit_ns"] > 0).all()
    assert (transit.to_polars()["out_frame"] < transit.to_polars()["in_frame"]).all()
    row = flows.to_polars().row(by_predicate=pl.col("icmp_id").is_not_null(), named=True)
    assert (row["frames_to_server"], row["frames_to_client"]) == (1_000, 1_000)
    assert rtts.summaries()["echo"]["answered"] == rtts.summaries()["echo"]["requests"] == 1_000
    assert transit.warnings == flows.warnings == rtts.warnings == ()


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_both_processes_of_a_flow_are_named(world, tapped, wait_until, family, kind):
    def talker(*more):
        command = [sys.executable, "-c", TALKER, kind, str(family), *more]
        started.append(world.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    def talk():
        server = talker()
        client = talker(server.stdout.readline().strip())
        seen = {str(each.pid) for each in (server, client)}
        wait_until(lambda: seen <= {line.split()[4] for line in speakers.comments()}, "both were seen")
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "done\n"

    started = []
    with Speakers(world.socket) as speakers:
        path = tapped(world, "lo", talk, speakers=[speakers])
        pids = [process.pid for process in started]
        for process in started:
            process.communicate("\n")
    assert speakers.warnings == ()
    with FrameFile(path) as frames:
        table = find_flows(frames).to_polars().filter(pl.col("protocol") == kind)
    assert table.select("server_pid", "client_pid").rows() == [tuple(pids)]
