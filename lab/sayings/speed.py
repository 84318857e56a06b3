"""Of speed: what lo is quicker than, and what limits it. Ratios of one run, as no machine's numbers are another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import LOOPBACK, Scene
from lab.throughput import bulk
from lab.units import format_bytes, format_ns

__all__ = ["CLAIMS"]

_LINKS = ("bridge", "router")  # which every machine can make, and which are well apart from lo
_PINGS, _TURNS = 200, 3
#: How two programs may speak with each other without a network, and how it is told.
_IN_MEMORY = {"unix-dgram": "a unix socket", "pipe": "two pipes", "shm": "memory that two CPUs share"}
_SAME_ORDER = 10
_MOMENT = "100ms"
#: Rates within these factors count as the same. Between two CPUs both are mostly waiting to be woken: by a factor of
#: five from one moment to the next, in a virtual machine.
_SAME_CHANNEL, _SAME_AS_MEMORY = 10, 4
_NETWORK, _SLOW_NETWORK, _MUCH_MORE = "100Mbit", "10Mbit", 5
#: Rules that each packet on lo is compared with, in the world where lo is slow.
_RULES, _RULES_AT_ONCE = 500, 250


def _least(scene: Scene, ways: Sequence[tuple[str, int | None]], **options: str) -> dict[tuple[str, int | None], float]:
    """The least of some median round trips, in ns, for each link and family.

    They are taken in turn, as what disturbs one of them disturbs all.
    """
    taken: dict[tuple[str, int | None], list[float]] = {way: [] for way in ways}
    for _turn in range(_TURNS):
        for link, family in ways:
            stream = scene.world.rtt(link, family=family, count=_PINGS, **(options if family else {}))
            taken[link, family].append(float(np.median(stream.rtt_ns)))
    return {way: min(medians) for way, medians in taken.items()}


def _programs(scene: Scene) -> Iterator[Outcome]:
    best = _least(scene, [("lo", 4), ("lo", 6), *((way, None) for way in _IN_MEMORY)], probe="udp")
    for way, case in _IN_MEMORY.items():
        for family in LOOPBACK:
            lo_ns, other_ns = best["lo", family], best[way, None]
            seen = f"{format_ns(lo_ns)} against {format_ns(other_ns)}, {lo_ns / other_ns:.1f} times as long"
            yield Outcome(f"UDP over lo by IPv{family} against {case}", lo_ns < _SAME_ORDER * other_ns, seen)


def _links(scene: Scene) -> Iterator[Outcome]:
    best = _least(scene, [(link, family) for link in ("lo", *_LINKS) for family in LOOPBACK])
    for link in _LINKS:
        for family in LOOPBACK:
            lo_ns, other_ns = best["lo", family], best[link, family]
            seen = f"{format_ns(lo_ns)} over lo, {format_ns(other_ns)} over {link}"
            yield Outcome(f"a ping by IPv{family}, lo against {link}", lo_ns < other_ns, seen)


def _many_rules(scene: Scene) -> None:
    for group in range(_RULES // _RULES_AT_ONCE):
        rules = [FirewallRule(device="lo", source=f"198.19.{group}.{each}") for each in range(_RULES_AT_ONCE)]
        rules += [FirewallRule(device="lo", source=f"2001:2:0:{group}::{each:x}") for each in range(_RULES_AT_ONCE)]
        for half in (rules[:_RULES_AT_ONCE], rules[_RULES_AT_ONCE:]):
            scene.opened.enter_context(scene.world.firewall(*half))


def _rate(scene: Scene, way: str, family: int | None = None) -> float:
    """Bytes a second."""
    moved = bulk(way, world=scene.world, family=family, duration=_MOMENT, warmup="20ms", rounds=2)
    return float(moved.bytes_per_s["p50"] or 0)


def _told(bytes_per_s: float) -> str:
    return f"{format_bytes(round(bytes_per_s))} a second"


def _memory(scene: Scene) -> Iterator[Outcome]:
    over_lo = {family: _rate(scene, "lo", family=family) for family in LOOPBACK}
    others = (
        ("unix-stream", "a unix socket, which crosses no network", _SAME_CHANNEL),
        ("memcpy", "memory itself", _SAME_AS_MEMORY),
    )
    for other, case, alike in others:
        rate = _rate(scene, other)
        for family, mine in over_lo.items():
            seen = f"{_told(mine)}, against {_told(rate)}"
            yield Outcome(f"TCP over lo by IPv{family} against {case}", mine * alike > rate, seen)


def _limited(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(device="lo", over=_NETWORK)))


def _limited_much(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(device="lo", over=_SLOW_NETWORK)))


def _limit(scene: Scene) -> Iterator[Outcome]:
    limit = FirewallRule(device="veth", over=_NETWORK)
    scene.opened.enter_context(scene.world.firewall(limit, end="far"))
    for family in LOOPBACK:
        network, mine = _rate(scene, "veth", family=family), _rate(scene, "lo", family=family)
        seen = f"{_told(mine)} over lo, {_told(network)} over the network"
        yield Outcome(f"TCP by IPv{family} beside a network of {_NETWORK}/s", mine > _MUCH_MORE * network, seen)


CLAIMS = (
    Claim(
        id="speed-links",
        says="Nothing on this machine is quicker to reach over a network than over loopback.",
        statements=(48, 12),
        prediction="a ping takes longer over every other link",
        expected=HOLDS,
        experiment=_links,
        links=("lo", *_LINKS),
        refuted_by=Change(
            text=f"a firewall compares each packet on lo with {2 * _RULES:,} rules", make=_many_rules, becomes=FALSE
        ),
        decided_by="loopback_xmit in drivers/net/loopback.c hands a packet to the receiving side at once",
        remember="lo is the shortest way, and still a way: each packet passes the whole stack, firewall included.",
        captured=False,
    ),
    Claim(
        id="speed-programs",
        says="Over loopback two programs speak about as quickly as they can on one machine.",
        statements=(48, 18),
        prediction="a round trip over lo takes less than ten times one by a unix socket, a pipe or shared memory",
        expected=IN_PART,
        experiment=_programs,
        links=("lo", *_IN_MEMORY),
        refuted_by=Change(
            text=f"a firewall compares each packet on lo with {2 * _RULES:,} rules", make=_many_rules, becomes=FALSE
        ),
        decided_by="what each of them calls: udp_sendmsg and the whole stack; unix_dgram_sendmsg; pipe_write; no call",
        remember="lo costs a little more than a unix socket or a pipe, and dozens of times what memory itself takes.",
        captured=False,
    ),
    Claim(
        id="speed-memory",
        says="Loopback is as fast as memory.",
        statements=(48,),
        prediction="TCP over lo moves as many bytes a second as a copy in memory",
        expected=IN_PART,
        experiment=_memory,
        refuted_by=Change(
            text=f"a firewall drops what exceeds {_SLOW_NETWORK}/s on lo", make=_limited_much, becomes=FALSE
        ),
        decided_by="tcp_sendmsg and tcp_recvmsg: every byte is copied twice, with headers, locks and wake-ups between",
        remember="lo keeps up with a unix socket, as both copy through the kernel; memory alone is far quicker.",
        captured=False,
    ),
    Claim(
        id="speed-limit",
        says="A slow network does not slow loopback down.",
        statements=(12, 18),
        prediction="lo moves many times what the network can",
        expected=HOLDS,
        experiment=_limit,
        links=("lo", "veth"),
        refuted_by=Change(text=f"a firewall drops what exceeds {_NETWORK}/s on lo, too", make=_limited, becomes=FALSE),
        decided_by="lo has no queue and no rate (noqueue, drivers/net/loopback.c): the CPU is its limit",
        remember="What limits lo is the CPU, or a rule that somebody made.",
        captured=False,
    ),
)
