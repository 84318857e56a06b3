"""Loss is a state of a probe: exactly the probes whose replies a rule drops are lost, and no statistic counts them."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess

import numpy as np
import pytest

import lab
from lab.probes import send_stream
from lab.studies import Study
from lab.world import open_endpoints

DROPPED = [7, 42, 99]
SO_ATTACH_FILTER = 26


def drop_replies(near, offset):
    """A rule on the near socket: drops replies whose sequence number (low byte, at `offset`) is one of DROPPED."""
    load, equal, give = 0x30, 0x15, 0x06  # ldb [k]; jeq k; ret k
    n = len(DROPPED)
    program = [(load, 0, 0, offset)]
    program += [(equal, n - i, 0, seq) for i, seq in enumerate(DROPPED)]
    program += [(give, 0, 0, 0xFFFFFFFF), (give, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    near.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def seq_offset(probe, family):
    """Where a reply's number is, from where the filter starts: the ICMP header's own, or the payload's second word."""
    if probe == "icmp":
        return (20 if family == 4 else 0) + 7
    return 8 + 8  # the filter sees the UDP header; the number is in host order, here with its low byte first


MODES = [
    ("icmp", "block", "inline"), ("icmp", "spin", "inline"), ("udp", "block", "inline"), ("udp", "spin", "inline"),
    ("udp", "block", "same-cpu"),
]  # fmt: skip


@pytest.mark.parametrize(("probe", "wait", "placement"), MODES)
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_exactly_the_dropped_replies_are_lost(world, family, link, probe, wait, placement):
    condition = lab.Condition(
        link=link, family=family, probe=probe, wait=wait, placement=placement, timeout_ns=20_000_000
    )
    with open_endpoints(world, condition) as ends:
        drop_replies(ends.near, seq_offset(probe, family))
        stream = send_stream(condition, ends, count=100, warmup=0)
    assert stream.lost_seq.tolist() == DROPPED
    assert (stream.sent, stream.received, stream.lost, stream.late) == (100, 97, 3, 0)
    assert len(stream.rtt_ns) == 97
    document = stream.to_json()
    assert document["rtt_ns"]["max"] < condition.timeout_ns
    assert document["rtt_ns"]["min"] > 0
    table = stream.to_polars()
    assert table.filter(table["rtt_ns"].is_null())["seq"].to_list() == DROPPED
    assert table.filter(table["status"] == "lost")["seq"].to_list() == DROPPED
    assert table["rx_ns"].null_count() == 3


@pytest.mark.parametrize("probe", ["icmp", "udp"])
@pytest.mark.parametrize("arrivals", ["periodic", "poisson"])
def test_a_schedule_tells_its_losses(world, family, probe, arrivals):
    condition = lab.Condition(family=family, probe=probe, arrivals=arrivals, period_ns=100_000, timeout_ns=200_000_000)
    with open_endpoints(world, condition) as ends:
        drop_replies(ends.near, seq_offset(probe, family))
        stream = send_stream(condition, ends, count=100, warmup=0, seed=1)
    assert stream.lost_seq.tolist() == DROPPED
    assert (stream.sent, stream.received, stream.lost) == (100, 97, 3)
    assert len(stream.response_ns) == len(stream.rtt_ns) == 97
    assert np.all(stream.response_ns >= stream.rtt_ns)


@pytest.mark.parametrize("probe", ["icmp", "udp"])
def test_stamps_stay_with_their_probes_where_replies_are_lost(world, family, probe):
    """What was lost was stamped on its way, too; nobody else's stamps are shifted by it."""
    condition = lab.Condition(family=family, probe=probe, stages=True, timeout_ns=20_000_000)
    with open_endpoints(world, condition) as ends:
        drop_replies(ends.near, seq_offset(probe, family))
        stream = send_stream(condition, ends, count=100, warmup=0)
    assert stream.lost_seq.tolist() == DROPPED
    tx_ns = stream.records["tx_ns"] + stream.clock_offset_ns
    for name in ("near_sched_real_ns", "near_soft_real_ns"):
        assert np.all(stream.stamps[name] >= tx_ns)
        assert np.all(stream.stamps[name][:-1] <= tx_ns[1:])
    assert np.flatnonzero(stream.stamps["near_rx_real_ns"] == 0).tolist() == DROPPED
    assert stream.stages_complete == 1
    assert all(np.all(stage >= 0) for stage in stream.stages_ns.values())


def nft(tool, world, *rules):
    """Rules of the near namespace."""
    enter = ["nsenter", f"--target={world.pid}", "--user", "--net", "--preserve-credentials"]
    if world.rights == "root":
        enter.remove("--user")
    subprocess.run([*enter, tool("nft"), "-f", "-"], input="\n".join(rules), text=True, check=True)


@pytest.fixture
def firewall(tool, world):
    """Drops echo replies with the numbers DROPPED as they come in, in the kernel, for one test."""
    nft(
        tool,
        world,
        "table inet test { chain in { type filter hook input priority 0; policy accept;",
        f"icmp type echo-reply icmp sequence {{ {', '.join(map(str, DROPPED))} }} drop",
        f"icmpv6 type echo-reply icmpv6 sequence {{ {', '.join(map(str, DROPPED))} }} drop",
        "}",
        "}",
    )
    yield
    nft(tool, world, "delete table inet test")


def test_a_firewall_drops_three_of_a_hundred(firewall, world, family, tmp_path):
    """The whole way: a rule in the kernel, the stream, the study on disk, the table."""
    stream = lab.rtt("lo", family=family, world=world, count=100, warmup=0, timeout="20ms", output=tmp_path / "study")
    assert stream.lost_seq.tolist() == DROPPED
    study = Study.load(tmp_path / "study")
    table = study.to_polars()
    assert table.filter(table["rtt_ns"].is_null())["seq"].to_list() == DROPPED
    assert len(study.rtts()[0]) == 97
    row = study.summary().rows[0]
    assert (row["sent"], row["received"], row["lost"]) == (100, 97, 3)
    assert row["p99_ns"] == int(np.quantile(study.rtts()[0], 0.99, method="inverted_cdf"))


def test_when_nothing_comes_back_it_says_so(run, tool):
    """ICMP switched off by sysctl in the world that the command runs in: exit 1, and no number."""
    done = run("rtt", "lo", "-c", "3", "-W", "20ms", "--warmup", "0", "--world", "host", "--json", faults=("deaf",))
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert (document["sent"], document["received"], document["lost"]) == (3, 0, 3)
    assert set(document["rtt_ns"].values()) == {None}
    assert document["reply"] == {"source": None, "ttl": None, "bytes": None}


def test_compare_leaves_out_what_never_answers_and_says_why(run):
    done = run(
        "compare", "--links", "lo", "--rounds", "1", "--count", "20", "--warmup", "0", "-W", "20ms", "--world", "host",
        "--json",
        faults=("deaf",),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(row["probe"], row["family"]) for row in document["rows"]] == [
        ("udp", 4),
        ("udp", 6),
        ("tcp", 4),
        ("tcp", 6),
    ]
    assert sorted((skip["family"], skip["probe"]) for skip in document["skipped"]) == [(4, "icmp"), (6, "icmp")]
    assert document["skipped"][0]["reason"] == "none of 20 probes got a reply"
    assert "nft list ruleset" in document["skipped"][0]["fix"]


def test_a_late_reply_is_lost_and_not_a_number(world, family):
    """A reply held back until after the timeout arrives under the next probe, and is filed under its own."""
    import threading

    condition = lab.Condition(probe="udp", family=family, placement="same-cpu", timeout_ns=30_000_000)
    with open_endpoints(world, condition) as ends:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        idle = world.socket(kind, socket.SOCK_DGRAM)  # the reflector listens where nobody sends; we answer instead
        answering = ends.far
        object.__setattr__(ends, "far", idle)

        def answer():
            held = None
            for _ in range(10):
                message = answering.recv(2048)
                (seq,) = struct.unpack_from("q", message, 8)
                if seq == 4:
                    held = message
                    continue
                if held is not None:
                    answering.send(held)
                    held = None
                answering.send(message)

        thread = threading.Thread(target=answer)
        thread.start()
        stream = send_stream(condition, ends, count=10, warmup=0)
        thread.join()
        answering.close()
    assert stream.lost_seq.tolist() == [4]
    assert (stream.received, stream.lost, stream.late) == (9, 1, 1)
    late = stream.to_polars().row(4, named=True)
    assert (late["status"], late["rtt_ns"]) == ("late", None)
    assert late["rx_ns"] - late["tx_ns"] > condition.timeout_ns
    assert stream.to_json()["rtt_ns"]["max"] < condition.timeout_ns


def test_silence_ends_a_stream(run):
    """500 unanswered probes in a row at 20 ms are ten seconds: no more are sent, and it is said."""
    done = run("rtt", "lo", "-c", "1000000", "-W", "20ms", "--world", "host", "--json", faults=("deaf",))
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["received"] == 0
    assert document["sent"] == document["lost"] == 400  # and 100 of warm-up
    assert "gave up: 500 probes in a row got no reply" in document["warnings"][0]
    assert "nft list ruleset" in done.stderr


def test_a_connection_that_stalls_ends_with_an_error(world, family):
    """Every segment to the far end is dropped: TCP can neither send on nor give the message up."""
    condition = lab.Condition(probe="tcp", family=family, placement="same-cpu", size=60_000, timeout_ns=20_000_000)
    with open_endpoints(world, condition) as ends:
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        ends.far.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop_all)))
        with pytest.raises(lab.StreamError, match="the connection stalled; look for a rule"):
            send_stream(condition, ends, count=1_000, warmup=0)
