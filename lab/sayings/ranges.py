"""Of the range: which addresses are loopback's, and who answers at them."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator

from lab.errors import Unavailable, errno_name
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.crossing import let_pass
from lab.sayings.scene import LOOPBACK, Scene

__all__ = ["CLAIMS"]

_PORT = 8080
_SOURCE_SAMPLE = ("127.0.0.1", "127.0.0.2", "127.1.1.1", "127.50.50.50", "127.255.255.254")
_ASKER_SAMPLE = ("127.0.0.2", "127.50.50.50", "127.255.255.254")
_SERVICES = ("127.0.0.1", "127.0.0.2", "127.1.1.1", "::1")
_RANGE = ipaddress.IPv4Network("127.0.0.0/8")
_LAST = str(_RANGE.broadcast_address)
#: How many addresses are asked at each edge of the range, and in each of some blocks between, if not all are.
_EDGE, _BLOCK, _BLOCKS, _SEED = 4096, 1024, 4, 127


def _source(scene: Scene) -> Iterator[Outcome]:
    for address in _SOURCE_SAMPLE:
        answer = scene.ping(address)
        yield Outcome(f"ping {address}", answer.source == address, f"{answer}, asked from {answer.local or 'nowhere'}")


def _hide_from_others(scene: Scene) -> None:
    scene.world.remove_route("127.0.0.0/8", device="lo", kind="local")


# ---- how many answer ----


def _blocks(*, exhaustive: bool) -> Iterator[tuple[int, int]]:
    """Where blocks of addresses begin, from 127.0.0.0 on, and their lengths; the last address is one of its own."""
    last = _RANGE.num_addresses - 1
    if exhaustive:
        yield 0, last
    else:
        yield 0, _EDGE
        chosen = random.Random(_SEED)  # noqa: S311 - a sample, the same each time
        yield from sorted((chosen.randrange(_EDGE, last - _EDGE - _BLOCK), _BLOCK) for _ in range(_BLOCKS))
        yield last - _EDGE + 1, _EDGE - 1
    yield last, 1


def _answers(scene: Scene) -> Iterator[Outcome]:
    from lab.sweeps import sweep

    for start, count in _blocks(exhaustive=scene.exhaustive):
        first, last = _RANGE[start], _RANGE[start + count - 1]
        found = sweep(scene.world, first=str(first), count=count, broadcast=True)
        if found.interrupted:
            raise KeyboardInterrupt
        silent = f"; {found.silent:,} silent, asked {found.tries} times" if found.silent else ""
        refused = "".join(f"; {times:,} {why}" for why, times in found.errors.items())
        yield Outcome(
            f"{first} to {last}" if count > 1 else str(first),
            found.complete,
            f"{found.answered:,} of {found.asked:,} answered{silent}{refused}",
        )


def _no_subnet(scene: Scene) -> None:
    """The same addresses are this machine's, but as no subnet's: 127.0.0.1 alone is given to lo, the rest routed."""
    scene.world.remove_address("lo", "127.0.0.1/8")
    scene.world.add_address("lo", "127.0.0.1/32")
    scene.world.add_route("127.0.0.0/8", device="lo", kind="local")


_NO_SUBNET = "lo has 127.0.0.1/32, and 127.0.0.0/8 is a local route rather than the subnet of an address"


def _usable(scene: Scene) -> Iterator[Outcome]:
    for address in (str(_RANGE[0]), _LAST):
        answer = scene.ping(address)
        yield Outcome(f"ping {address}", answer.came and answer.source == address, str(answer))
        for kind in ("tcp", "udp"):
            number = scene.bind(address, _PORT, kind=kind)
            answer = scene.ask(address, _PORT, kind=kind)
            bound = errno_name(number) if number else "a service can be bound"
            yield Outcome(f"{kind.upper()} at {address}", answer.came, f"{bound}; {answer}")


# ---- who asks, who serves ----


def _asker(scene: Scene) -> Iterator[Outcome]:
    for address in _ASKER_SAMPLE:
        scene.serve(address, _PORT)
        for case, answer in (("ping", scene.ping(address)), ("TCP to", scene.ask(address, _PORT))):
            evidence = f"asked from {answer.local or 'nowhere'}, {answer}"
            yield Outcome(f"{case} {address}", answer.came and answer.local == address, evidence)


def _no_preferred_source(scene: Scene) -> None:
    scene.world.remove_route("127.0.0.0/8", device="lo", kind="local")
    scene.world.add_route("127.0.0.0/8", device="lo", kind="local")


_NO_PREFERENCE = "the local route for 127.0.0.0/8 names no preferred source, as one that is added by hand"


def _services(scene: Scene) -> Iterator[Outcome]:
    numbers = {
        (each, kind): scene.bind(each, _PORT, name=f"that at {each}", kind=kind)
        for each in _SERVICES
        for kind in ("tcp", "udp")
    }
    for address in _SERVICES:
        told, right = [], True
        for kind in ("tcp", "udp"):
            number, answer = numbers[address, kind], scene.ask(address, _PORT, kind=kind)
            right = right and answer.by == f"that at {address}"
            told.append(f"{kind.upper()} {errno_name(number) if number else 'bound'}, {answer}")
        yield Outcome(f"a service at {address}", right, "; ".join(told))


def _taken_everywhere(scene: Scene) -> None:
    for kind in ("tcp", "udp"):
        scene.serve("::", _PORT, "that at ::", kind=kind)


def _wildcard(scene: Scene) -> Iterator[Outcome]:
    for kind in ("tcp", "udp"):
        scene.serve("0.0.0.0", _PORT, "that at 0.0.0.0", kind=kind)  # noqa: S104 - that is the subject
    for address in (LOOPBACK[4], "127.0.0.2", "127.50.50.50"):
        for kind in ("tcp", "udp"):
            with scene.watched("lo", filter=f"{kind} src port {_PORT}") as replies:
                answer = scene.ask(address, _PORT, kind=kind)
            sources = ", ".join(sorted({frame["IP"].src for frame in replies}))
            evidence = f"{answer}; packets of the service came from {sources or 'nowhere'}"
            yield Outcome(f"{kind.upper()} to {address}", answer.came and sources == address, evidence)


# ---- whom else they may belong to ----


def _reserved(scene: Scene) -> Iterator[Outcome]:
    world, address = scene.world, "127.0.0.5"
    number = _refusal(scene, f"{address}/8")
    yield Outcome(f"give a card (veth) {address}/8", bool(number), errno_name(number) if number else "it takes it")
    scene.note(f"whereas ::1/128 on that card: {errno_name(_refusal(scene, '::1/128'))}")
    with scene.watched("near:lo", filter="icmp") as on_lo:
        answer = scene.ping(address)
    scene.note(f"asked on this machine itself, {address} is {answer}: {len(on_lo)} frames on lo")
    # The neighbour takes all of 127.0.0.0/8 for itself, until told that this one address is across the cable.
    world.remove_route("127.0.0.0/8", device="lo", kind="local", end="far")
    world.add_route(f"{address}/32", device="veth", end="far")
    with scene.watched("far:veth", filter="arp or icmp") as seen:
        answer = scene.ping(address, end="far")
    asked = sum(frame.haslayer("ARP") and frame["ARP"].op == 1 for frame in seen)
    told = sum(frame.haslayer("ARP") and frame["ARP"].op == 2 for frame in seen)
    evidence = f"{answer}; ARP requests for it: {asked}, answers: {told}"
    yield Outcome(f"a neighbour asks {address}, by a route to that card", not answer.came, evidence)


def _refusal(scene: Scene, address: str) -> int:
    """The errno of giving veth an address; 0 if it takes it."""
    try:
        scene.world.add_address("veth", address)
    except Unavailable as error:
        return error.errno or 0
    return 0


# ---- the other family ----


def _one_six(scene: Scene) -> Iterator[Outcome]:
    for address in ("::2", "::7f00:1"):
        answer = scene.ping(address)
        yield Outcome(f"ping {address} is in vain", not answer.came, str(answer))
        number = scene.bind(address, _PORT)
        evidence = errno_name(number) if number else "bound"
        yield Outcome(f"no service can be bound to {address}", bool(number), evidence)
    scene.note(f"ping ::1: {scene.ping(LOOPBACK[6])}; ping 127.0.0.2: {scene.ping('127.0.0.2')}")


def _another(scene: Scene) -> None:
    scene.world.add_address("lo", "::2/128")
    scene.until(lambda: scene.ping("::2", timeout_s=0.05).came)  # it is tentative for a moment


def _mapped(scene: Scene) -> Iterator[Outcome]:
    mapped = f"::ffff:{LOOPBACK[4]}"
    for kind in ("tcp", "udp"):
        scene.serve(LOOPBACK[4], _PORT, kind=kind)
        with scene.watched("lo", filter="ip") as old, scene.watched("lo", filter="ip6") as new:
            answer = scene.ask(mapped, _PORT, kind=kind)
        evidence = f"{answer}; on lo {len(old)} frames of IPv4, {len(new)} of IPv6"
        yield Outcome(f"an IPv6 socket asks {mapped} by {kind.upper()}", answer.came, evidence)


def _six_only(scene: Scene) -> None:
    scene.world.sysctl("ipv6/bindv6only", 1)


CLAIMS = (
    Claim(
        id="range-answers",
        says="Every one of the 16,777,216 addresses of 127.0.0.0/8 answers a ping.",
        statements=(24, 66),
        prediction="whichever block of the range is asked, all of its addresses answer, the last one too",
        expected=IN_PART,
        experiment=_answers,
        captured=False,  # 33 million frames, if all are asked
        refuted_by=Change(text=_NO_SUBNET, make=_no_subnet, becomes=HOLDS),
        decided_by=(
            "fib_add_ifaddr in net/ipv4/fib_frontend.c: broadcast 127.255.255.255; icmp_rcv in net/ipv4/icmp.c: "
            "sysctl net.ipv4.icmp_echo_ignore_broadcasts"
        ),
        remember="All of 127.0.0.0/8 answers but its last address, which is the subnet's broadcast address.",
    ),
    Claim(
        id="range-source",
        says="An address of 127.0.0.0/8 that is asked is the one that answers, whichever it is.",
        statements=(24, 66),
        prediction="the reply to a ping of 127.50.50.50 comes from 127.50.50.50",
        expected=HOLDS,
        experiment=_source,
        refuted_by=Change(
            text="the local route for 127.0.0.0/8 is taken away, and that for 127.0.0.1 stays",
            make=_hide_from_others,
            becomes=IN_PART,
        ),
        decided_by="fib_table_lookup in net/ipv4/fib_trie.c: local 127.0.0.0/8 dev lo; RFC 1122, 3.2.1.3 (g)",
        remember="All of 127.0.0.0/8 is this machine, and each address of it answers for itself.",
    ),
    Claim(
        id="range-asker",
        says="Who asks 127.50.50.50, and chooses no address to ask from, asks from 127.50.50.50.",
        statements=(66,),
        prediction="whoever is asked at 127.0.0.2 sees that 127.0.0.2 asks",
        expected=FALSE,
        experiment=_asker,
        refuted_by=Change(text=_NO_PREFERENCE, make=_no_preferred_source, becomes=HOLDS),
        decided_by=(
            "ip_route_output_key_hash_rcu in net/ipv4/route.c: the preferred source of the route, 127.0.0.1, else "
            "the destination itself"
        ),
        remember="Whichever loopback address is asked, 127.0.0.1 asks, unless the asker was bound to another.",
    ),
    Claim(
        id="range-usable",
        says="The first and the last address of 127.0.0.0/8 can be used like any other of it.",
        statements=(70,),
        prediction="ping, TCP and UDP work at 127.0.0.0 and at 127.255.255.255",
        expected=IN_PART,
        experiment=_usable,
        refuted_by=Change(text=_NO_SUBNET, make=_no_subnet, becomes=HOLDS),
        decided_by=(
            "fib_add_ifaddr in net/ipv4/fib_frontend.c: broadcast 127.255.255.255, and since Linux 5.14 no longer "
            "127.0.0.0; tcp_v4_connect in net/ipv4/tcp_ipv4.c: ENETUNREACH; __ip4_datagram_connect in "
            "net/ipv4/datagram.c: EACCES without SO_BROADCAST"
        ),
        remember="127.255.255.255 is a broadcast address: no TCP, no echo. 127.0.0.0 was one until Linux 5.14.",
    ),
    Claim(
        id="range-services",
        says="Several services can use one port, each at an address of its own of 127.0.0.0/8 or at ::1.",
        statements=(67, 72),
        prediction="four services take port 8080 at four loopback addresses, and whoever is asked answers",
        expected=HOLDS,
        experiment=_services,
        refuted_by=Change(
            text="a service at ::, which means every address of both families, has that port already",
            make=_taken_everywhere,
            becomes=FALSE,
        ),
        decided_by="inet_csk_get_port in net/ipv4/inet_connection_sock.c; inet_rcv_saddr_equal",
        remember="A port is taken at one address, not at all; but a service at :: or 0.0.0.0 takes it at each of them.",
    ),
    Claim(
        id="range-wildcard",
        says="A service at 0.0.0.0 answers from the address of 127.0.0.0/8 that it was asked at.",
        statements=(5, 66),
        prediction="who asks such a service at 127.0.0.2 hears from 127.0.0.2",
        expected=IN_PART,
        experiment=_wildcard,
        refuted_by=Change(text=_NO_PREFERENCE, make=_no_preferred_source, becomes=HOLDS),
        decided_by="udp_sendmsg in net/ipv4/udp.c: an unbound source is the route's; tcp_v4_syn_recv_sock keeps it",
        remember="TCP answers from where it was asked; UDP at 0.0.0.0 may do so from 127.0.0.1, which a socket that is "
        "connected to 127.0.0.2 does not take.",
    ),
    Claim(
        id="range-reserved",
        says="As 127.0.0.0/8 is reserved, no other device comes to have an address of it.",
        statements=(68,),
        prediction="a network card can't be given 127.0.0.5, and nobody reaches it there",
        expected=IN_PART,
        experiment=_reserved,
        links=("lo", "veth"),
        refuted_by=Change(
            text="the sysctl net.ipv4.conf.DEVICE.route_localnet is 1 at both ends of the cable",
            make=let_pass,
            becomes=FALSE,
        ),
        decided_by=(
            "RFC 1122, 3.2.1.3 (g); arp_process in net/ipv4/arp.c answers for no loopback address; ipv6_add_addr in "
            "net/ipv6/addrconf.c refuses ::1 to all but lo"
        ),
        remember="Linux gives 127.0.0.5 to any card that is told to have it; but no neighbour is told where it is.",
    ),
    Claim(
        id="range-one-six",
        says="IPv6 has a single loopback address: beside ::1, no address is this machine by itself.",
        statements=(33,),
        prediction="::2 neither answers nor can have a service, though 127.0.0.2 can",
        expected=HOLDS,
        experiment=_one_six,
        refuted_by=Change(text="lo is given ::2/128 as well", make=_another, becomes=IN_PART),
        decided_by="RFC 4291, 2.5.3: ::1; init_loopback in net/ipv6/addrconf.c",
        remember="IPv4 has 16 million loopback addresses and IPv6 one; whoever wants more must give lo more.",
    ),
    Claim(
        id="range-mapped",
        says="An IPv6 socket reaches the services of 127.0.0.1 at ::ffff:127.0.0.1.",
        statements=(25, 72),
        prediction="the service at 127.0.0.1 answers, and the packets on lo are IPv4",
        expected=HOLDS,
        experiment=_mapped,
        refuted_by=Change(
            text="sockets are made with IPV6_V6ONLY, by the sysctl net.ipv6.bindv6only",
            make=_six_only,
            becomes=FALSE,
        ),
        decided_by="RFC 4291, 2.5.5.2; RFC 3493, 3.7 and 5.3; tcp_v6_connect in net/ipv6/tcp_ipv6.c",
        remember="::ffff:127.0.0.1 is 127.0.0.1 in the clothes of IPv6: only the socket knows, the packets are IPv4.",
    ),
)
