"""Of what stays inside: whether a loopback address is seen by a neighbour, reached by one, or goes by a card."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

from lab.errors import Unavailable
from lab.firewall import FirewallRule
from lab.sayings.claim import HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.crossing import ask_across, let_pass
from lab.sayings.scene import LOOPBACK, Scene
from lab.taps import nftables as nft

__all__ = ["CLAIMS"]

_PORT, _WEB_PORT = 8080, 8000
_FAMILIES = (4, 6)
_KINDS = ("tcp", "udp")
_LINKS = ("lo", "veth")
_FLOOD = 500
_WEB_SERVER = f"""
import http.server, socket
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
with Server(("::", {_WEB_PORT}), Page) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
_WEB_CLIENT = f"""
import http.client, sys
for address in sys.argv[1:]:
    client = http.client.HTTPConnection(address, {_WEB_PORT}, timeout=1)
    try:
        client.request("GET", "/")
        answer = client.getresponse()
        print(answer.status, answer.reason, answer.getheader("Server"), answer.read().decode())
    except OSError as error:
        print(error)
"""


def _all_three(scene: Scene, address: str, end: str = "near") -> int:
    """Asks by ping, TCP and UDP; how many of the three were answered."""
    asked = [scene.ping(address, end=end), *(scene.ask(address, _PORT, kind=kind, end=end) for kind in _KINDS)]
    return sum(answer.came for answer in asked)


# ---- outwards ----


def _neighbour(scene: Scene) -> Iterator[Outcome]:
    for address in (LOOPBACK[4], "127.9.9.9", LOOPBACK[6]):
        for kind in _KINDS:
            scene.bind(address, _PORT, kind=kind)
        with scene.passing("near:lo", "far:veth", filter=f"host {address}") as frames:
            came = _all_three(scene, address)
        evidence = f"{frames['near:lo']} frames on lo, {frames['far:veth']} at the neighbour's; {came} of 3 answered"
        yield Outcome(f"ping, TCP and UDP to {address}", not frames["far:veth"], evidence)


def _route_out(scene: Scene) -> None:
    scene.world.add_route("127.9.0.0/16", gateway=scene.far("veth", 4))


def _hardware(scene: Scene) -> Iterator[Outcome]:
    for own in (False, True):
        for family in _FAMILIES:
            address = scene.near("veth", family) if own else LOOPBACK[family]
            scene.bind(address, _PORT)
            with scene.passing("near:lo", "near:veth", filter=_about(address)) as frames:
                ping, tcp = scene.ping(address), scene.ask(address, _PORT)
            on_card = frames["near:veth"]
            evidence = f"{frames['near:lo']} frames on lo, {on_card} on the card; ping {ping}, TCP {tcp}"
            case = f"the card's own address, {address}, goes by it" if own else f"{address} goes round the card"
            yield Outcome(case, bool(on_card) == own, evidence)


def _about(address: str) -> str:
    """A filter for what is sent to an address, and for the question who has it."""
    return f"host {address}" if ":" not in address else f"host {address} or icmp6[icmp6type] == icmp6-neighborsolicit"


def _forget_own(scene: Scene) -> None:
    for family, length in ((4, 32), (6, 128)):
        scene.world.remove_route(f"{scene.near('veth', family)}/{length}", device="veth", kind="local")


# ---- inwards ----


def _received(scene: Scene) -> Iterator[Outcome]:
    for family in _FAMILIES:
        address, count = LOOPBACK[family], f"Ip{'' if family == 4 else '6'}"
        for kind in _KINDS:
            scene.serve(address, _PORT, kind=kind)
        ask_across(scene, family)
        counters = scene.counting(f"{count}.InReceives", f"{count}.InHdrErrors", f"{count}.InDelivers")
        with scene.watched("near:veth", filter=f"dst host {address}", direction="in") as arrived, counters as grown:
            came = _all_three(scene, address, end="far")
        counted = ", ".join(f"{name} {number}" for name, number in grown.items())
        evidence = f"{came} of 3 were answered, {len(arrived)} packets for {address} came in by the cable ({counted})"
        yield Outcome(f"a neighbour sends ping, TCP and UDP to {address} of ours", not came, evidence)


def _outside(scene: Scene) -> Iterator[Outcome]:
    for family in _FAMILIES:
        for kind in _KINDS:
            scene.serve(LOOPBACK[family], _PORT, kind=kind)
    for family in _FAMILIES:
        for kind in _KINDS:
            own = scene.near("veth", family)
            answer = scene.ask(own, _PORT, kind=kind, end="far")
            inside = scene.ask(LOOPBACK[family], _PORT, kind=kind)
            evidence = f"{answer}; at {LOOPBACK[family]}, from here: {inside}"
            yield Outcome(f"a neighbour asks our {own}, {kind.upper()} port {_PORT}", not answer.came, evidence)


def _hand_on(scene: Scene) -> None:
    """As for containers: what comes to a port is sent on to 127.0.0.1, and such packets are let in."""
    let_pass(scene)
    channel = scene.opened.enter_context(scene.world.socket(socket.AF_NETLINK, socket.SOCK_RAW, nft.NETLINK_NETFILTER))
    rule = [nft.meta(nft.NFPROTO), nft.equal(b"\x02"), *nft.of_protocol(socket.IPPROTO_TCP)]
    rule += nft.translate(socket.inet_aton(LOOPBACK[4]))
    try:
        nft.install(channel, "translation", [nft.Chain("prerouting", [rule], "nat", -100)])
    except OSError as error:
        fix = "It takes nf_tables and nft_nat (modprobe nft_nat)"
        raise Unavailable("cannot translate addresses", errno=error.errno, fix=fix) from error


# ---- beside one another ----


def _disturbs(scene: Scene) -> Iterator[Outcome]:
    for family in _FAMILIES:
        own, address = scene.near("veth", family), LOOPBACK[family]
        scene.serve(own, _PORT, kind="udp")
        flood = scene.socket(family, "udp")
        flooded = f"host {address} or dst port 9"
        with scene.passing("near:lo", "far:veth", filter=flooded) as frames:
            for _ in range(_FLOOD):
                flood.sendto(b"nobody is there", (address, 9))
            answer = scene.ask(own, _PORT, kind="udp", end="far")
        seen = frames["far:veth"]
        evidence = f"{frames['near:lo']} frames on lo; {seen} at the neighbour's"
        yield Outcome(f"{_FLOOD} datagrams to a port of {address} where nobody is", not seen, evidence)
        yield Outcome(f"meanwhile the neighbour asks our {own} by UDP", answer.came, str(answer))


def _careless_rule(scene: Scene) -> None:
    scene.opened.enter_context(scene.world.firewall(FirewallRule(verdict="drop", protocol="udp")))


# ---- as between machines ----


def _same(scene: Scene) -> Iterator[Outcome]:
    pages = _pages(scene)
    for family in _FAMILIES:
        here, there = LOOPBACK[family], scene.far("veth", family)
        flags = []
        for address, end, where in ((here, "near", "near:lo"), (there, "far", "near:veth")):
            for kind in _KINDS:
                scene.bind(address, _PORT, name="a service", kind=kind, end=end)
            with scene.watched(where, filter=f"tcp and host {address}") as capture:
                scene.ask(address, _PORT)
            flags.append([str(frame["TCP"].flags) for frame in capture if frame["TCP"].flags != "A"])
        case = f"a TCP conversation with {here} and one with the neighbour, {there}, without bare ACKs"
        yield Outcome(case, flags[0] == flags[1] != [], f"{' '.join(flags[0])}; {' '.join(flags[1])}")
        answers = [scene.ask(address, _PORT, kind="udp") for address in (here, there)]
        alike = all(answer.came for answer in answers)
        yield Outcome(f"a UDP question to {here} and to {there}", alike, f"{answers[0]}; {answers[1]}")
        told = [pages[address] for address in (here, there)]
        yield Outcome(f"a web page of {here} and of {there}", told[0] == told[1], f"{told[0]}; {told[1]}")


def _pages(scene: Scene) -> dict[str, str]:
    """What a web client prints of a server here and of one at the neighbour's, by the addresses that it asks."""
    for end in ("near", "far"):
        server = scene.opened.enter_context(
            scene.world.popen([sys.executable, "-c", _WEB_SERVER], end=end, stdout=subprocess.PIPE, text=True)
        )
        scene.opened.callback(server.kill)
        if server.stdout is None or not server.stdout.readline():
            raise Unavailable("a web server did not start", errno=None, fix="See what it printed above")
    addresses = [each for family in _FAMILIES for each in (LOOPBACK[family], scene.far("veth", family))]
    done = scene.run(sys.executable, "-c", _WEB_CLIENT, *addresses)
    return dict(zip(addresses, done.stdout.splitlines(), strict=True))


def _reset_on_lo(scene: Scene) -> None:
    # Without their ports, the rules would swallow the resets, too, which come in by lo like all else.
    rules = (FirewallRule(verdict="tcp-reset", protocol="tcp", port=port, device="lo") for port in (_PORT, _WEB_PORT))
    scene.opened.enter_context(scene.world.firewall(*rules))


CLAIMS = (
    Claim(
        id="leaves-neighbour",
        says="What is sent to a loopback address never appears on a network.",
        statements=(2, 7, 17),
        prediction="a neighbour who listens to all that reaches its card sees nothing of it",
        expected=HOLDS,
        experiment=_neighbour,
        links=_LINKS,
        refuted_by=Change(
            text="127.9.0.0/16 is routed to the neighbour, which is a longer prefix than that of the local route",
            make=_route_out,
            becomes=IN_PART,
        ),
        decided_by=(
            "RFC 1122, 3.2.1.3 (g); fib_lookup in include/net/ip_fib.h, fib_trie_table in net/ipv4/fib_trie.c: without "
            "rules of one's own, the tables local and main are one, and the longest prefix wins"
        ),
        remember="Not the number keeps 127.9.9.9 inside but a route, local 127.0.0.0/8: a longer one can lead outside.",
    ),
    Claim(
        id="leaves-received",
        says="A packet to a loopback address that comes from a network is thrown away.",
        statements=(7,),
        prediction="a neighbour that routes 127.0.0.1 to us gets no answer, though services listen there",
        expected=HOLDS,
        experiment=_received,
        links=_LINKS,
        refuted_by=Change(
            text="the sysctl net.ipv4.conf.DEVICE.route_localnet is 1 at both ends of the cable",
            make=let_pass,
            becomes=IN_PART,
        ),
        decided_by=(
            "RFC 1122, 3.2.1.3 (g), RFC 4291, 2.5.3; ip_route_input_slow in net/ipv4/route.c: martian destination; "
            "ip6_rcv_core in net/ipv6/ip6_input.c"
        ),
        remember="With route_localnet=1, a neighbour can ask the services at our 127.0.0.1; at ::1 never.",
    ),
    Claim(
        id="leaves-outside",
        says="A service at 127.0.0.1 or ::1 can't be reached from another machine.",
        statements=(7, 17, 21, 55),
        prediction="a neighbour that asks our address is refused, while the service answers ourselves",
        expected=HOLDS,
        experiment=_outside,
        links=_LINKS,
        refuted_by=Change(
            text="a rule of nftables sends TCP that comes in on to 127.0.0.1, with route_localnet=1, as tools for "
            "containers set it up",
            make=_hand_on,
            becomes=IN_PART,
        ),
        decided_by="__inet_lookup_listener in net/ipv4/inet_hashtables.c: the address bound to has to be that asked",
        remember="At 127.0.0.1 a service is hidden from neighbours, as long as nothing on its machine hands on.",
    ),
    Claim(
        id="leaves-hardware",
        says="Loopback addresses go round the network card, and the card's own addresses go by it.",
        statements=(28, 50),
        prediction="a ping of the machine's own address is seen on its card, one of 127.0.0.1 is not",
        expected=IN_PART,
        experiment=_hardware,
        links=_LINKS,
        refuted_by=Change(
            text="the local routes for the card's own addresses are taken away",
            make=_forget_own,
            becomes=HOLDS,
        ),
        decided_by="__mkroute_output, ip_route_output_key_hash_rcu in net/ipv4/route.c: RTN_LOCAL goes by lo",
        remember="All that a machine sends to itself goes by lo, to whichever of its addresses.",
    ),
    Claim(
        id="leaves-disturbs",
        says="What is tried on loopback disturbs no other device.",
        statements=(9, 18),
        prediction="while a program floods 127.0.0.1, the neighbour sees nothing of it, and is answered",
        expected=HOLDS,
        experiment=_disturbs,
        links=_LINKS,
        refuted_by=Change(
            text="a rule of the firewall that is tried, too, drops all UDP, as it does not say on which device",
            make=_careless_rule,
            becomes=IN_PART,
        ),
        decided_by="loopback_xmit in drivers/net/loopback.c: what lo sends, lo takes in, and no other device",
        remember="Packets on lo stay there; but rules, ports and memory are those of the machine, lo or not.",
    ),
    Claim(
        id="leaves-same",
        says="Over loopback, TCP, UDP and HTTP work as between machines.",
        statements=(8, 30, 47),
        prediction="the same kinds of packets pass as with a neighbour, and the same page comes",
        expected=HOLDS,
        experiment=_same,
        links=_LINKS,
        refuted_by=Change(
            text="a firewall resets TCP that comes in by lo",
            make=_reset_on_lo,
            becomes=IN_PART,
        ),
        decided_by="RFC 9293, 3.5 and 3.6; loopback_xmit in drivers/net/loopback.c: what is sent is received as it is",
        remember="Loopback leaves out the card and the wire, and nothing above: the protocols are all there.",
    ),
)
