"""Schedules over links and baselines, in every wait mode and placement: what is due is sent, in order, and answered."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.arrivals import due_times
from lab.conditions import SCHEDULABLE

PERIOD_NS = 200_000
COUNT = 250
MODES = [
    (wait, placement)
    for placement in ("inline", "same-cpu", "cross-cpu")
    for wait in ("block", "epoll", "spin", "yield")
    if (wait, placement) != ("spin", "same-cpu")
]


def measure(world, missing, link, **options):
    options = {"interval": "200us", "count": COUNT, "timeout": "5s", "warmup": 20} | options
    try:
        return lab.rtt(link, world=world, **options)
    except lab.Unavailable as error:
        missing(str(error))


def check(stream):
    """No slot is left out, nothing leaves early, every probe comes back, and all its times are of one clock."""
    rows = stream.records
    assert (stream.sent, stream.received, stream.lost, stream.unsent) == (COUNT, COUNT, 0, 0)
    assert np.all(rows["due_ns"] <= rows["tx_ns"])
    assert np.all(rows["tx_done_ns"][:-1] <= rows["tx_ns"][1:])
    assert np.array_equal(stream.response_ns, stream.rtt_ns + stream.lateness_ns)
    assert 1 <= stream.most_open <= COUNT


@pytest.mark.parametrize(("wait", "placement"), MODES)
@pytest.mark.parametrize("probe", ["icmp", "udp", "tcp"])
@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_probe_is_sent_when_it_is_due_or_later(world, missing, family, link, probe, wait, placement):
    if probe == "icmp" and placement != "inline":
        return  # refused, as in a closed loop
    stream = measure(world, missing, link, family=family, probe=probe, wait=wait, placement=placement)
    check(stream)
    assert np.all(np.diff(stream.records["due_ns"]) == PERIOD_NS)


@pytest.mark.parametrize(("wait", "placement"), MODES)
@pytest.mark.parametrize("link", [name for name in SCHEDULABLE if name not in ("icmp", "udp", "tcp")])
def test_baselines_keep_a_schedule_too(missing, link, wait, placement):
    check(measure("host", missing, link, wait=wait, placement=placement))


def test_due_times_are_those_that_were_drawn(world, family):
    stream = lab.rtt(
        "lo", world=world, family=family, probe="udp", arrivals="poisson", interval="200us", count=COUNT, seed=7
    )
    check(stream)
    due_ns = stream.records["due_ns"]
    assert np.array_equal(due_ns - due_ns[0], due_times(stream.condition, COUNT, seed=7))


def test_a_stall_is_seen_by_all_that_were_due(world, family):
    """One thread plays both ends, so a stop of the reflector delays the sender: the lateness of its probes says so."""
    from lab.probes import send_stream
    from lab.world import open_endpoints

    condition = lab.Condition(family=family, probe="udp", arrivals="periodic", period_ns=PERIOD_NS)
    with open_endpoints(world, condition) as ends:
        stream = send_stream(condition, ends, count=COUNT, stall=(100, 50 * PERIOD_NS))
    check(stream)
    waited = slice(101, 145)
    end_ns = stream.records["far_tx_ns"][100]
    assert np.all(stream.records["tx_ns"][waited] >= end_ns)
    assert np.all(stream.response_ns[waited] >= end_ns - stream.records["due_ns"][waited])
    assert np.count_nonzero(stream.rtt_ns >= 50 * PERIOD_NS) == 1


def test_a_wire_on_the_same_cpu_is_not_starved(missing, family):
    """The sender polls there between two probes, and must let the wire have its turn."""
    try:
        stream = lab.rtt(
            "veth", family=family, probe="udp", impair="delay=1ms,by=wire", interval="200us", count=COUNT, timeout="5s"
        )
    except lab.Unavailable as error:
        missing(str(error))
    check(stream)
    assert stream.cpus.wire == stream.cpus.near
    assert stream.most_open > 1


def test_losses_on_schedule_are_those_of_the_wire(missing, family):
    try:
        stream = lab.rtt(
            "veth", family=family, probe="udp", impair="loss=5%,seed=3", interval="200us", count=2000, timeout="500ms"
        )
    except lab.Unavailable as error:
        missing(str(error))
    assert stream.lost > 0
    assert stream.sent == stream.received + stream.lost == 2000
    if stream.wire is not None:  # netem tells nobody what it dropped
        assert stream.lost_seq.tolist() == stream.wire.dropped_seq.tolist()
