"""What no machine can measure is refused in one line that names the remedy."""

from __future__ import annotations

import pytest

import lab
from lab.checks import MAX_COUNT
from lab.conditions import BASELINES, ECHOED, HEADER_BYTES, LINKS, MAX_PAYLOAD, MIN_PAYLOAD, PROBES, WAYS, parse_target
from lab.plan import Experiment

SHM = {"link": "shm", "probe": "shm", "family": None, "wait": "spin", "placement": "cross-cpu"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"link": "eth0"}, "unknown link 'eth0': choose from lo, lo-net, own, veth"),
        ({"link": "nic:"}, "which network card? Give its name, as in nic:eth0"),
        ({"link": "nic:eth0"}, "give its address with --target"),
        ({"link": "nic:eth0", "target": "nowhere"}, "'nowhere' is no address"),
        ({"link": "nic:eth0", "target": "2001:db8::1"}, "is an IPv6 address: give -6"),
        ({"link": "nic:eth0", "target": "224.0.0.1"}, "is no single machine's address"),
        ({"link": "nic:eth0", "target": "255.255.255.255"}, "is no single machine's address"),
        ({"link": "nic:eth0", "target": "ff02::1", "family": 6}, "is no single machine's address"),
        ({"link": "nic:eth0", "target": "192.0.2.1", "probe": "udp"}, "use --probe icmp"),
        ({"link": "pipe"}, "pipe is no network: it has no IP version, and no other probe"),
        ({"link": "pipe", "family": None}, "and no other probe"),
        ({"link": "lo", "family": None}, "unknown family None"),
        ({"link": "lo", "probe": "pipe"}, "unknown probe 'pipe': choose from icmp, udp, tcp"),
        ({"link": "shm", "probe": "shm", "family": None}, "it needs --wait spin --placement cross-cpu"),
        ({"probe": "sctp"}, "unknown probe 'sctp': choose from icmp, udp, tcp"),
        ({"family": 5}, "unknown family 5: choose from 4, 6"),
        ({"wait": "sleep"}, "unknown wait mode 'sleep': choose from block, epoll, spin, yield"),
        ({"placement": "far"}, "unknown placement 'far'"),
        ({"arrivals": "bursts"}, "unknown arrivals 'bursts': choose from closed, periodic, poisson"),
        ({"size": 15}, "a size of 15 bytes: icmp takes 16 to 65,507"),
        ({"probe": "udp", "size": 31}, "udp takes 32 to"),
        ({"size": MAX_PAYLOAD + 1}, "icmp takes 16 to 65,507"),
        ({"timeout_ns": 0}, "more than 0"),
        ({"placement": "cross-cpu"}, "use inline, or --probe udp"),
        ({"probe": "udp", "wait": "spin", "placement": "same-cpu"}, "use --wait block"),
        ({"arrivals": "poisson"}, "how often? poisson needs --rate, such as 10kpps, or --interval, such as 100us"),
        ({"period_ns": 1_000}, "give --arrivals periodic or poisson, or --think"),
        ({"arrivals": "periodic", "period_ns": 0}, "at least 1 ns, the clock's resolution, and at most 60s"),
        ({"arrivals": "periodic", "period_ns": 60_000_000_001}, "and at most 60s"),
        ({"arrivals": "periodic", "period_ns": 1, "think_ns": 1}, "leave --think out, or use closed"),
        ({"think_ns": -1}, "a think time of -1 ns: give 0 to 60s"),
        ({**SHM, "arrivals": "periodic", "period_ns": 1_000}, "shm is always sent back to back: leave --arrivals"),
        ({**SHM, "think_ns": 1}, "shm is always sent back to back"),
        ({**SHM, "wait": "epoll"}, "it needs --wait spin --placement cross-cpu"),
        ({**SHM, "stages": True}, "only of icmp, udp, tcp does the kernel stamp every step"),
        ({"link": "pipe", "probe": "pipe", "family": None, "stages": True}, "--stages with pipe"),
        ({"target": "127.0.0.2", "family": 6}, "leave the family out"),
        ({"target": "127.0.0.2", "link": "veth"}, "leave the family out, or name a link"),
    ],
)
def test_refused(options, said):
    with pytest.raises(lab.UsageError) as caught:
        lab.Condition(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("probe", PROBES)
def test_the_limits_themselves_are_allowed(probe, family):
    for size in (MIN_PAYLOAD[probe], MAX_PAYLOAD):
        assert lab.Condition(probe=probe, family=family, size=size).size == size


@pytest.mark.parametrize("wait", ["epoll", "yield"])
def test_what_sleeps_or_yields_may_share_a_cpu(wait):
    assert lab.Condition(probe="udp", wait=wait, placement="same-cpu").wait == wait
    assert lab.Condition(wait=wait, think_ns=1_000).think_ns == 1_000


def test_the_pieces_of_a_probe_that_is_too_large(family):
    fits = 1_500 - HEADER_BYTES[family] - HEADER_BYTES["udp"]
    assert lab.Condition(probe="udp", family=family, size=fits).pieces(1_500) is None
    assert lab.Condition(probe="udp", family=family, size=fits + 1).pieces(1_500) == "fragments"
    assert lab.Condition(probe="tcp", family=family, size=fits + 1).pieces(1_500) == "segments"
    assert lab.Condition(link="pipe", probe="pipe", family=None, size=60_000).pieces(0) is None


@pytest.mark.parametrize(("text", "family"), [("127.0.0.1", 4), ("127.255.255.254", 4), ("::1", 6), ("0:0::0:1", 6)])
def test_loopback_targets(text, family):
    assert parse_target(text) == family


@pytest.mark.parametrize("text", ["8.8.8.8", "0.0.0.0", "::", "::2", "::ffff:127.0.0.1", "127.1", "localhost", ""])
def test_other_targets_are_refused(text):
    with pytest.raises(lab.UsageError, match=r"127\.x\.x\.x, ::1|127\.0\.0\.0/8"):
        parse_target(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, f"a count of 0: give 1 to {MAX_COUNT:,}"),
        ({"count": MAX_COUNT + 1}, f"give 1 to {MAX_COUNT:,}"),
        ({"rounds": 0}, "a number of rounds of 0"),
        ({"warmup": -1}, "a warm-up of -1: give 0 to"),
        ({"seed": -1}, "a seed of -1"),
        ({"links": ()}, "no link to measure: choose from lo, lo-net"),
        ({"links": ("nic:eth0",)}, "give its address with --target"),
        ({"links": ("lo", "wlan")}, "unknown link 'wlan'"),
        ({"families": (4, 5)}, "unknown family 5"),
        ({"probes": ("udp", "x")}, "unknown probe 'x'"),
        ({"probes": ("udp",), "wait": "spin", "placement": "same-cpu"}, "use --wait block"),
    ],
)
def test_experiments_refused(options, said):
    with pytest.raises(lab.UsageError) as caught:
        Experiment(**options)
    assert said in str(caught.value)


def test_expansion_is_the_product_without_repeats():
    conditions = Experiment(links=("lo", "veth", "lo"), families=(4, 6, 4)).conditions()
    assert len(conditions) == len(set(conditions)) == 2 * 2 * len(ECHOED)
    everything = Experiment().conditions()
    assert len(everything) == len(set(everything)) == len(LINKS) * 2 * len(ECHOED) + len(BASELINES)
    assert {c.link for c in everything} == set(WAYS)


def test_a_network_card_is_asked_by_icmp_in_its_targets_family_only():
    links = ("lo", "nic:eth0")
    for target, family in (("192.0.2.1", 4), ("2001:db8::1", 6)):
        conditions = Experiment(links=links, target=target).conditions()
        assert [(c.link, c.family, c.probe, c.target) for c in conditions if c.link != "lo"] == [
            ("nic:eth0", family, "icmp", target)
        ]
        assert len(conditions) == 2 * len(ECHOED) + 1


def test_icmp_stays_inline_and_says_so():
    experiment = Experiment(placement="cross-cpu")
    placements = {c.probe: c.placement for c in experiment.conditions()}
    assert placements.pop("icmp") == placements.pop("syscall") == "inline"
    assert set(placements.values()) == {"cross-cpu"}
    assert "not cross-cpu" in experiment.notes()[0]


def test_rounds_are_shuffled_by_the_seed_alone():
    conditions = Experiment().conditions()
    orders = [tuple(Experiment(seed=1).order(conditions, r)) for r in range(6)]
    assert all(sorted(map(str, order)) == sorted(map(str, conditions)) for order in orders)
    assert len(set(orders)) > 1
    assert orders == [tuple(Experiment(seed=1).order(conditions, r)) for r in range(6)]
    assert orders != [tuple(Experiment(seed=2).order(conditions, r)) for r in range(6)]
