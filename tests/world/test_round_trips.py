"""Every probe, family, link, wait mode and placement: what comes back, and in which order its stamps lie."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import lab
from lab.conditions import MIN_PAYLOAD

MODES = [
    (wait, placement)
    for placement in ("inline", "same-cpu", "cross-cpu")
    for wait in ("block", "epoll", "spin", "yield")
    if (wait, placement) != ("spin", "same-cpu")
]


def measure(world, missing, link, **options):
    try:
        return lab.rtt(link, world=world, **options)
    except lab.Unavailable as error:
        missing(str(error))


@pytest.mark.parametrize(("wait", "placement"), MODES)
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_probe_comes_back_with_its_stamps_in_order(world, missing, family, link, probe, wait, placement):
    if probe == "icmp" and placement != "inline":
        with pytest.raises(lab.UsageError, match="use inline"):
            lab.Condition(probe=probe, placement=placement)
        return
    stream = measure(
        world, missing, link, family=family, probe=probe, wait=wait, placement=placement, count=500, warmup=20
    )
    assert (stream.sent, stream.received, stream.lost, stream.duplicate) == (500, 500, 0, 0)
    rows = stream.records
    assert np.all(rows["due_ns"] == rows["tx_ns"])
    assert np.all(rows["tx_ns"] < rows["tx_done_ns"])
    assert np.all(rows["tx_done_ns"][:-1] <= rows["tx_ns"][1:])
    assert np.all(rows["rx_ns"][:-1] <= rows["tx_ns"][1:])
    assert np.array_equal(stream.rtt_ns, rows["rx_ns"] - rows["tx_ns"])
    if probe == "icmp":
        assert not rows["far_rx_ns"].any()
    else:
        assert np.all(rows["tx_ns"] <= rows["far_rx_ns"])
        assert np.all(rows["far_rx_ns"] <= rows["far_tx_ns"])
        assert np.all(rows["far_tx_ns"] <= rows["rx_ns"])
    assert np.all(rows["reply_bytes"] == 56)


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_the_reply_tells_where_it_came_from(world, missing, family, link, probe):
    stream = measure(world, missing, link, family=family, probe=probe, count=200)
    assert stream.reply == {
        "source": world.links[link].far[family],
        "ttl": None if probe == "tcp" else 64,
        "bytes": 56,
    }
    told = stream.to_polars()["reply_ttl"].drop_nulls()
    assert len(told) == (200 if (probe, family) == ("icmp", 4) else 0)  # shown with every reply, or not read
    assert set(told) <= {64}


@pytest.mark.parametrize("probe", ["icmp", "udp"])
def test_the_first_reply_is_read_without_a_warm_up_too(world, missing, family, probe):
    stream = measure(world, missing, "veth", family=family, probe=probe, count=5, warmup=0)
    assert stream.reply == {"source": world.links["veth"].far[family], "ttl": 64, "bytes": 56}


def test_icmp_is_answered_inside_send(world, missing, family):
    stream = measure(world, missing, "lo", family=family, count=2_000)
    assert stream.inline_fraction > 0.99
    assert np.mean(stream.records["tx_done_ns"] - stream.records["tx_ns"] > 0.5 * stream.rtt_ns) > 0.9


@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("size", ["least", 56, 1_400, 9_000, 60_000])
def test_sizes(world, missing, family, probe, size):
    size = MIN_PAYLOAD[probe] if size == "least" else size
    for link in ("lo", "veth"):
        stream = measure(world, missing, link, family=family, probe=probe, size=size, count=50, warmup=5)
        assert stream.received == 50
        assert stream.reply["bytes"] == size


@pytest.mark.parametrize("probe", ["icmp", "udp"])
def test_fragments_are_reported_when_the_kernel_makes_them(world, missing, family, probe):
    fits = 1_500 - {4: 20, 6: 40}[family] - 8
    for size, fragmented in ((fits, False), (fits + 1, True)):
        before = kernel_count(world, family, "Ip", "FragCreates")
        stream = measure(world, missing, "veth", family=family, probe=probe, size=size, count=10, warmup=0)
        assert (kernel_count(world, family, "Ip", "FragCreates") > before) == fragmented
        assert any(f"-s {fits} fits" in warning for warning in stream.warnings) == fragmented


@pytest.mark.parametrize("address", ["127.0.0.2", "127.50.50.50", "127.255.255.254", "::1"])
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
def test_any_loopback_address_can_be_asked(world, missing, address, probe):
    stream = measure(world, missing, address, probe=probe, count=100)
    assert stream.received == 100
    assert stream.reply["source"] == address
    assert stream.condition.target == address


def kernel_count(world, family, protocol, name):
    """A counter of the near namespace, where the helper is (snmp_counter.rst)."""
    if family == 6:
        lines = Path(f"/proc/{world.pid}/net/snmp6").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{protocol}6{name} "))
    lines = Path(f"/proc/{world.pid}/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith(f"{protocol}: "))
    return int(values[names.index(name)])


def test_warm_up_is_sent_and_not_recorded(world, missing, family):
    before = kernel_count(world, family, "Icmp", "OutEchos")
    stream = measure(world, missing, "veth", family=family, count=100, warmup=30)
    assert len(stream.records) == stream.received == 100
    assert kernel_count(world, family, "Icmp", "OutEchos") - before == 130


def test_somebody_elses_echoes_change_nothing(world, missing, family):
    """Two streams at once, in one namespace: a raw socket would see the replies of both."""
    found = []

    def stream():
        found.append(measure(world, missing, "lo", family=family, count=20_000, warmup=0))

    threads = [threading.Thread(target=stream) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [s.received for s in found] == [20_000, 20_000]
    assert [s.duplicate for s in found] == [0, 0]
