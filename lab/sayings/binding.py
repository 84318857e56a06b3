"""Of servers at 0.0.0.0, ::, 127.0.0.1, ::1 and a card's own address: who reaches them, and what else is taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator

from lab.errors import errno_name
from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import LOOPBACK, Answer, Scene, family_of

__all__ = ["CLAIMS"]

_PORT = 8080
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - in private worlds
_LINKS = ("lo", "veth", "router")
#: Two neighbours, on a link each: by which of this machine's interfaces they come in.
_NEIGHBOURS = {"far": "veth", "middle": "router"}
#: The length of a prefix that is one address.
_HOST = {4: 32, 6: 128}
_LATER = {
    "lo": {4: "198.18.98.1", 6: "2001:2:0:98::1"},
    "veth": {4: "198.18.99.1", 6: "2001:2:0:99::1"},
}


def _all(scene: Scene) -> Iterator[Outcome]:
    scene.serve(_ANY[4], _PORT)
    for address in (LOOPBACK[4], "127.9.9.9", scene.near("veth", 4), scene.near("router", 4)):
        answer = scene.ask(address, _PORT)
        yield Outcome(f"asked at {address}", answer.by == f"{_ANY[4]}:{_PORT}", str(answer))


def _share_ports(scene: Scene) -> None:
    scene.server_options.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))


def _shadow(scene: Scene) -> None:
    _share_ports(scene)
    scene.serve(LOOPBACK[4], _PORT)


def _later(scene: Scene) -> Iterator[Outcome]:
    for family in LOOPBACK:
        scene.serve(_ANY[family], _PORT, v6only=True)
    for device, addresses in _LATER.items():
        for family, address in addresses.items():
            before = scene.ask(address, _PORT)
            scene.world.add_address(device, f"{address}/{_HOST[family]}")
            _wait_for(scene, address)
            answer = scene.ask(address, _PORT)
            case = f"{address}, which {device} got after the server had started"
            yield Outcome(case, answer.came and not before.came, f"before {before}; now {answer}")
    for family, address in _LATER["veth"].items():
        scene.world.add_route(f"{address}/{_HOST[family]}", device="veth", end="far")
        answer = scene.ask(address, _PORT, end="far")
        yield Outcome(f"a neighbour asks {address}", answer.came, str(answer))


def _wait_for(scene: Scene, address: str) -> None:
    """Until an address is there: an IPv6 one is made so by a worker of the kernel's (addrconf_dad_work)."""
    for _attempt in range(40):
        if scene.ping(address, timeout_s=0.05).came:
            return


def _of_lo_alone(scene: Scene) -> None:
    scene.server_options.append((socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0"))


def _exposed(scene: Scene) -> Iterator[Outcome]:
    scene.serve(_ANY[4], _PORT)
    for end, link in _NEIGHBOURS.items():
        for family in LOOPBACK:
            address = scene.near(link, family)
            answer = scene.ask(address, _PORT, end=end)
            yield Outcome(f"{_who(end)} asks {address}", answer.came, str(answer))


def _refuse_neighbours(scene: Scene) -> None:
    rules = [FirewallRule(verdict="tcp-reset", protocol="tcp", port=_PORT, device=link) for link in ("veth", "router")]
    scene.opened.enter_context(scene.world.firewall(*rules))


def _own(scene: Scene) -> Iterator[Outcome]:
    _route_crosswise(scene)
    for family in LOOPBACK:
        for end, came_by in _NEIGHBOURS.items():
            bound_to = next(link for link in _NEIGHBOURS.values() if link != came_by)
            address = scene.near(bound_to, family)
            scene.serve(address, _PORT)
            answer = scene.ask(address, _PORT, end=end)
            case = f"{_who(end)} asks {address} of {bound_to} by way of {came_by}"
            yield Outcome(case, not answer.came, str(answer))


def _route_crosswise(scene: Scene) -> None:
    """Each neighbour reaches both cards' addresses by its own link, whichever card has them."""
    for end, link in _NEIGHBOURS.items():
        for other in _NEIGHBOURS.values():
            for family in LOOPBACK:
                address = scene.near(other, family)
                if other != link:
                    prefix = f"{address}/{_HOST[family]}"
                    scene.world.add_route(prefix, gateway=scene.near(link, family), end=end)


def _strong(scene: Scene) -> None:
    rules = [
        FirewallRule(verdict="tcp-reset", protocol="tcp", device=came_by, destination=scene.near(other, family))
        for came_by, other in (("veth", "router"), ("router", "veth"))
        for family in LOOPBACK
    ]
    scene.opened.enter_context(scene.world.firewall(*rules))


def _matrix(scene: Scene) -> Iterator[Outcome]:
    _route_crosswise(scene)
    names = {
        address: f"{link}/{family}"
        for family in LOOPBACK
        for link, address in (
            ("lo", LOOPBACK[family]),
            *((link, scene.near(link, family)) for link in _NEIGHBOURS.values()),
        )
    }
    scene.note("where: " + ", ".join(f"{name} is {address}" for address, name in names.items()))
    four, six = ([each for each in names if family_of(each) == family] for family in LOOPBACK)
    rows: list[tuple[str, bool | None, list[str]]]
    rows = [*((each, None, [each]) for each in names), (_ANY[4], None, four), (_ANY[6], None, [*four, *six])]
    for port, (address, v6only, reached) in enumerate([*rows, (_ANY[6], True, six)], _PORT):
        scene.serve(address, port, v6only=v6only)
        found = {end: _where(scene, port, names, end) for end in ("near", *_NEIGHBOURS)}
        outside = [each for each in reached if each not in LOOPBACK.values()]
        expected = {"near": reached, **dict.fromkeys(_NEIGHBOURS, outside)}
        told = {_who(end): " ".join(names[each] for each in where) or "none" for end, where in found.items()}
        if found["far"] == found["middle"]:
            told = {_who("near"): told[_who("near")], "both neighbours": told[_who("far")]}
        which = names.get(address) or ("IPv4" if address == _ANY[4] else "IPv6 only" if v6only else "both families")
        seen = "; ".join(f"{who} at {where}" for who, where in told.items())
        yield Outcome(f"bound to {address} ({which})", found == expected, f"reached by {seen}")


def _where(scene: Scene, port: int, addresses: Iterable[str], end: str) -> list[str]:
    """At which of this machine's addresses a server is reached; to a neighbour, loopback is its own."""
    asked = [each for each in addresses if end == "near" or each not in LOOPBACK.values()]
    return [address for address in asked if scene.ask(address, port, end=end).came]


def _who(end: str) -> str:
    return {"near": "this machine", "far": "a neighbour", "middle": "another neighbour"}[end]


def _dual(scene: Scene) -> Iterator[Outcome]:
    server = scene.listen(_ANY[6], _PORT).socket
    for address, end in ((LOOPBACK[4], "near"), (scene.near("veth", 4), "far")):
        answer = scene.ask(address, _PORT, end=end)
        seen = str(answer)
        if answer.came:
            accepted, asker = server.accept()
            accepted.close()
            seen = f"the server saw {asker[0]}"
        yield Outcome(f"{_who(end)} asks {address} by IPv4", answer.came, seen)
    scene.serve(_ANY[6], _PORT, kind="udp")
    answer = scene.ask(LOOPBACK[4], _PORT, kind="udp")
    yield Outcome(f"this machine asks {LOOPBACK[4]} by UDP", answer.came, str(answer))


def _v6only(scene: Scene) -> None:
    scene.world.sysctl("ipv6/bindv6only", 1)


def _second(scene: Scene) -> Iterator[Outcome]:
    for port, (family, kind) in enumerate(((4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")), _PORT):
        yield _beside(scene, _ANY[family], LOOPBACK[family], port, kind)
    yield _beside(scene, LOOPBACK[4], _ANY[4], _PORT + 4, "tcp")


def _beside(scene: Scene, first: str, second: str, port: int, kind: str) -> Outcome:
    scene.serve(first, port, kind=kind)
    number = scene.bind(second, port, kind=kind)
    asked = LOOPBACK[family_of(second)]
    answer = Answer(number) if number else scene.ask(asked, port, kind=kind)
    told = errno_name(number) if number else f"it is bound; at {asked}, {answer}"
    return Outcome(f"{second} after {first}, {kind.upper()}", number == errno.EADDRINUSE, told)


CLAIMS = (
    Claim(
        id="any-all",
        says="A server at 0.0.0.0 is there at every IPv4 address of its machine, and need not know them.",
        statements=(5, 16, 19),
        prediction="one server at 0.0.0.0 answers at 127.0.0.1 and at the address of each card",
        expected=HOLDS,
        experiment=_all,
        links=_LINKS,
        refuted_by=Change(
            text="another server has the port at 127.0.0.1, and both share it (SO_REUSEPORT)",
            make=_shadow,
            becomes=IN_PART,
        ),
        decided_by="__inet_lookup_listener in net/ipv4/inet_hashtables.c: first who is bound to the address that was "
        "asked, then who is to INADDR_ANY",
        remember="0.0.0.0 fits every IPv4 address, yet who binds one of them exactly goes first there.",
    ),
    Claim(
        id="any-later",
        says="A server at 0.0.0.0 or :: is there also at addresses that its machine gets after it has started.",
        statements=(5, 16),
        prediction="an address that is added while the server runs can be asked at once, and nothing is started again",
        expected=HOLDS,
        experiment=_later,
        links=("lo", "veth"),
        refuted_by=Change(
            text="servers are bound to a device, too (SO_BINDTODEVICE lo); what this machine sends to veth's address "
            "passes lo, and yet counts as veth's",
            make=_of_lo_alone,
            becomes=IN_PART,
        ),
        decided_by="__inet_lookup_listener in net/ipv4/inet_hashtables.c: looked up for each connection that comes",
        remember="0.0.0.0 is no list of addresses, made when the server starts: each who comes is compared anew.",
    ),
    Claim(
        id="any-exposed",
        says="A server at 0.0.0.0 can be reached by every device of every network that its machine is on.",
        statements=(6, 15, 75),
        prediction="neighbours on two links reach it, at whichever address of the machine they ask",
        expected=IN_PART,
        experiment=_exposed,
        links=_LINKS,
        refuted_by=Change(
            text="a firewall resets what comes to that port by other interfaces than lo",
            make=_refuse_neighbours,
            becomes=FALSE,
        ),
        decided_by="compute_score in net/ipv6/inet6_hashtables.c: only a socket of PF_INET6 gets packets of IPv6",
        remember="0.0.0.0 is open to every neighbour that asks by IPv4, and to none that asks by IPv6.",
    ),
    Claim(
        id="any-own",
        says="A server at the address of one card can be reached by way of that card alone.",
        statements=(19, 75),
        prediction="a neighbour on the router's link can't reach a server that is bound to the address of veth",
        expected=FALSE,
        experiment=_own,
        links=_LINKS,
        refuted_by=Change(
            text="a firewall refuses what comes by one card for the address of the other", make=_strong, becomes=HOLDS
        ),
        decided_by="RFC 1122, 3.3.4.2: Linux is a weak host; fib_table_lookup finds any own address in the table local",
        remember="An address is the machine's, not the card's: binding to one does not choose a network.",
    ),
    Claim(
        id="any-matrix",
        says="The address that a server is bound to decides alone who reaches it, and at which addresses.",
        statements=(14, 21, 72, 75),
        prediction="loopback: this machine alone; a card's address: all, there only; 0.0.0.0 and ::: all, everywhere",
        expected=HOLDS,
        experiment=_matrix,
        links=_LINKS,
        refuted_by=Change(
            text="a firewall refuses what comes by one card for the address of the other", make=_strong, becomes=IN_PART
        ),
        decided_by="__inet_lookup_listener in net/ipv4/inet_hashtables.c, inet6_lookup_listener in "
        "net/ipv6/inet6_hashtables.c",
        remember="Loopback addresses are for this machine, 0.0.0.0 for all by IPv4, and :: for all by either.",
    ),
    Claim(
        id="any-dual",
        says="A server at :: takes those who ask by IPv4, too.",
        statements=(6, 72),
        prediction="a server at :: alone answers at 127.0.0.1, and sees ::ffff:127.0.0.1 asking",
        expected=HOLDS,
        experiment=_dual,
        links=("lo", "veth"),
        refuted_by=Change(text="net.ipv6.bindv6only is 1, as on some BSDs", make=_v6only, becomes=FALSE),
        decided_by="RFC 3493, 3.7 and 5.3; inet6_create in net/ipv6/af_inet6.c: the sysctl is where IPV6_V6ONLY starts",
        remember="Unless it sets IPV6_V6ONLY, a server at :: serves both families, and sees IPv4 as ::ffff:a.b.c.d.",
    ),
    Claim(
        id="any-second",
        says="While a server is at 0.0.0.0 or ::, no other can have its port at 127.0.0.1 or ::1.",
        statements=(16, 78),
        prediction="the second bind fails with EADDRINUSE, in either order",
        expected=HOLDS,
        experiment=_second,
        refuted_by=Change(
            text="both share ports (SO_REUSEPORT), which takes programs of one user", make=_share_ports, becomes=FALSE
        ),
        decided_by="inet_csk_get_port in net/ipv4/inet_connection_sock.c, udp_lib_get_port in net/ipv4/udp.c",
        remember="0.0.0.0 takes the port at all addresses, unless both servers ask for sharing.",
    ),
)
