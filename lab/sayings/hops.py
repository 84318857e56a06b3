"""Of TTLs, routing and the conditions of networks: what one machine alone can show of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import LOOPBACK, Scene
from lab.units import format_ns

__all__ = ["CLAIMS"]

_PINGS = 200
_LONGEST_NS = 1_000_000
_DELAY_NS, _LOSS = 5_000_000, 0.2
_IMPAIRED = f"delay={_DELAY_NS // 1_000_000}ms,loss={_LOSS:.0%},seed=7,by=wire"
_PROBES = 50


def _ttl(scene: Scene) -> Iterator[Outcome]:
    for address in (LOOPBACK[4], "127.50.50.50", LOOPBACK[6]):
        answer = scene.ping(address)
        seen = f"TTL {answer.hops}" if answer.came else str(answer)
        yield Outcome(f"the reply of {address}", answer.hops == 128, seen)


def _like_windows(scene: Scene) -> None:
    scene.world.sysctl("ipv4/ip_default_ttl", 128)
    for device in ("lo", "all", "default"):
        scene.world.sysctl(f"ipv6/conf/{device}/hop_limit", 128)


def _quick(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        stream = scene.world.rtt("lo", family=family, count=_PINGS, timeout="20ms")
        came = stream.received
        median_ns = int(sorted(stream.rtt_ns)[came // 2]) if came else None
        seen = f"{came} of {_PINGS} came, half of them within {format_ns(median_ns)}" if came else "none came"
        yield Outcome(f"{_PINGS} pings of {address}", median_ns is not None and median_ns < _LONGEST_NS, seen)


def _ignore_pings(scene: Scene) -> None:
    scene.world.sysctl("ipv4/icmp_echo_ignore_all", 1)
    scene.world.sysctl("ipv6/icmp/echo_ignore_all", 1)


def _one_hop(scene: Scene) -> Iterator[Outcome]:
    for address in LOOPBACK.values():
        answer = scene.ping(address, ttl=1)
        yield Outcome(f"ping {address} with a TTL of 1", answer.came, str(answer))
    for family in LOOPBACK:
        answer = scene.ping(scene.near("veth", family), ttl=1)
        yield Outcome(f"ping an address of one's own card, by IPv{family}", answer.came, str(answer))


def _routing(scene: Scene) -> Iterator[Outcome]:
    for family, address in LOOPBACK.items():
        left = _sent_with(scene, family)
        arrived = scene.ping(address).hops
        yield Outcome(f"over lo, by IPv{family}", arrived == left, f"left with TTL {left}, came with {arrived}")
    for family in LOOPBACK:
        far = scene.far("router", family)
        answer = scene.ping(far)
        seen = f"the reply came with TTL {answer.hops}" if answer.came else str(answer)
        yield Outcome(f"a router between two networks of this machine, IPv{family}", answer.hops != 63, seen)
        stopped = scene.ping(far, ttl=1)
        is_shown = stopped.errno == errno.EHOSTUNREACH  # what the kernel makes of "time exceeded"
        yield Outcome(f"a ping with TTL 1 through it, IPv{family}", not is_shown, str(stopped))


def _sent_with(scene: Scene, family: int) -> int:
    """The TTL of packets that name none."""
    name = "ipv4/ip_default_ttl" if family == 4 else "ipv6/conf/lo/hop_limit"
    return int(scene.world.sysctl(name))


def _no_forwarding(scene: Scene) -> None:
    scene.world.sysctl("ipv4/ip_forward", 0, end="middle")
    scene.world.sysctl("ipv6/conf/all/forwarding", 0, end="middle")


def _conditions(scene: Scene) -> Iterator[Outcome]:
    for family in LOOPBACK:
        stream = scene.world.rtt("veth", family=family, count=_PROBES, warmup=0, timeout="50ms")
        least_ns = int(min(stream.rtt_ns)) if stream.received else None
        late = least_ns is not None and least_ns >= 2 * _DELAY_NS
        case = f"{_PROBES} pings over a link made slow and lossy, IPv{family}"
        yield Outcome(f"{case}: the delay", late, f"the quickest took {format_ns(least_ns)}")
        yield Outcome(f"{case}: the loss", 0 < stream.lost < _PROBES, f"{stream.lost} of {_PROBES} were lost")


def _far_is_own(scene: Scene) -> None:
    for family, length in ((4, 32), (6, 128)):
        scene.world.add_address("lo", f"{scene.far('veth', family)}/{length}")


CLAIMS = (
    Claim(
        id="hops-ttl",
        says="A reply to a ping of 127.0.0.1 has a TTL of 128.",
        statements=(58,),
        prediction="TTL=128, as in the example that guides print",
        expected=FALSE,
        experiment=_ttl,
        refuted_by=Change(text="the sysctls say 128, which Windows begins with", make=_like_windows, becomes=HOLDS),
        decided_by="IPDEFTTL in include/uapi/linux/ip.h, IPV6_DEFAULT_HOPLIMIT in include/net/ipv6.h: 64; RFC 1700",
        remember="A TTL hints at who answers: Linux sets out with 64, Windows with 128, unless somebody has set it.",
    ),
    Claim(
        id="hops-quick",
        says="A ping of 127.0.0.1 is answered in less than a millisecond.",
        statements=(58, 48, 32),
        prediction="time<1ms",
        expected=HOLDS,
        experiment=_quick,
        refuted_by=Change(text="icmp_echo_ignore_all is set", make=_ignore_pings, becomes=FALSE),
        decided_by="icmp_echo in net/ipv4/icmp.c answers within the sender's own system call",
        remember="A reply takes microseconds; none at all may be a setting, and not a fault.",
        captured=False,
    ),
    Claim(
        id="hops-none",
        says="To one's own addresses it is no hop: a TTL of 1 is enough.",
        statements=(26, 74),
        prediction="a ping with TTL 1 is answered as any other",
        expected=HOLDS,
        experiment=_one_hop,
        links=("lo", "veth"),
        refuted_by=Change(text="icmp_echo_ignore_all is set", make=_ignore_pings, becomes=FALSE),
        decided_by="RFC 1812, 5.3.1: only a forwarder lowers it (ip_forward in net/ipv4/ip_forward.c)",
        remember="Only routers count hops, and on the way to oneself there is none.",
    ),
    Claim(
        id="hops-routing",
        says="What is tried on one machine shows nothing of routing.",
        statements=(74,),
        prediction="nothing changes a packet's TTL, and no router ever answers",
        expected=IN_PART,
        experiment=_routing,
        links=("lo", "router"),
        refuted_by=Change(text="the network in the middle does not forward", make=_no_forwarding, becomes=HOLDS),
        decided_by="ip_forward in net/ipv4/ip_forward.c; RFC 792 and RFC 4443, 3.3 (time exceeded)",
        remember="lo has no routers, but network namespaces make as many as one wants on the same machine.",
    ),
    Claim(
        id="conditions-simulated",
        says="The conditions of a network, such as delay and loss, can be simulated on one machine.",
        statements=(13,),
        prediction="pings take 10 ms longer, and some are lost",
        expected=HOLDS,
        experiment=_conditions,
        links=("veth",),
        impair=_IMPAIRED,
        refuted_by=Change(
            text="the far address is this machine's own, too, so that packets take lo", make=_far_is_own, becomes=FALSE
        ),
        decided_by="the route: local addresses go over lo, whichever device has them (fib_lookup, table local)",
        remember="Delay and loss are properties of a link: see that your packets take the link that has them.",
        captured=False,
    ),
)
