"""Of 0.0.0.0 and ::, the unspecified addresses: what comes of asking them, and who is told to bind them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.programs import chromium, curl, glibc, listed, web
from lab.sayings.scene import LOOPBACK, Scene, family_of
from lab.sayings.sources import PREFERENCES, nobody_answers, replace
from lab.taps.live import LiveCapture

__all__ = ["CLAIMS"]

_PORT = 8080
_UNSPECIFIED = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - in a private world
_TOLD = {"tcp": "TCP", "udp": "UDP", "echo": "ping"}
#: What to look for on the way: the first packet, and no neighbour discovery.
_FILTERS = {"tcp": f"tcp port {_PORT}", "udp": f"udp port {_PORT}", "echo": "icmp[0] == 8 or ip6[40] == 128"}
_LENGTHS = {4: 8, 6: 128}
#: Where the addresses stand in a frame of Ethernet: source, destination, end.
_PLACES = {4: (26, 30, 34), 6: (22, 38, 54)}
#: No name has a label of its own but by this table, so that the preference for IPv6 decides.
_GAI = "label ::/0 1\nprecedence ::/0 40\nprecedence ::ffff:0:0/96 10\n"


def _destination(scene: Scene) -> Iterator[Outcome]:
    for asked in _UNSPECIFIED.values():
        for kind in ("tcp", "udp"):
            scene.serve(asked, _PORT, "a server of this machine", kind=kind, v6only=True)
            answer = scene.ask(asked, _PORT, kind=kind)
            yield Outcome(f"{asked} by {kind.upper()}", not answer.came, str(answer))
        answer = scene.ping(asked)
        yield Outcome(f"{asked} by ping", not answer.came, str(answer))


def _bare_lo(scene: Scene) -> None:
    for family, address in LOOPBACK.items():
        scene.world.remove_address("lo", f"{address}/{_LENGTHS[family]}")


def _source(scene: Scene) -> Iterator[Outcome]:
    for family, asked in _UNSPECIFIED.items():
        for kind in ("tcp", "udp", "echo"):
            yield _way(scene, kind, asked)
        yield _way(scene, "echo", asked, source=scene.near("veth", family))


def _way(scene: Scene, kind: str, asked: str, *, source: str = "") -> Outcome:
    """Where the first packet went that was sent to an unspecified address."""
    family = family_of(asked)
    with scene.watched("all", filter=_FILTERS[kind]) as capture:
        sent = scene.ping(asked, source=source) if kind == "echo" else scene.ask(asked, _PORT, kind=kind)
    way = _travelled(capture, family)
    told = f"first packet from {way[0]} to {way[1]}" if way else f"no packet: {sent}"
    case = f"{asked} by {_TOLD[kind]}" + (f" from {source}" if source else "")
    return Outcome(case, way is not None and way[1] == LOOPBACK[family], told)


def _travelled(capture: LiveCapture, family: int) -> tuple[str, str] | None:
    """The source and the destination of the first packet; None if there was none."""
    if not len(capture):
        return None
    frame = capture.frames.frame_bytes(0)
    source, destination, end = _PLACES[family]
    fields = frame[source:destination], frame[destination:end]
    source_text, destination_text = (str(ipaddress.ip_address(bytes(field))) for field in fields)
    return source_text, destination_text


def _url(scene: Scene) -> Iterator[Outcome]:
    urls = [f"http://{host}:{_PORT}/" for host in (_UNSPECIFIED[4], f"[{_UNSPECIFIED[6]}]")]
    with web(scene, *LOOPBACK.values(), port=_PORT):
        for url in urls:
            address, told = curl(scene, url)
            yield Outcome(f"curl {url}", not address, told)
        for url, (address, told) in zip(urls, chromium(scene, urls), strict=False):
            yield Outcome(f"Chromium at {url}", not address, told)


def _reset_loopback(scene: Scene) -> None:
    scene.refuse(*LOOPBACK.values(), port=_PORT)


def _passive(scene: Scene) -> Iterator[Outcome]:
    nobody_answers(scene)
    found = glibc(scene, None, flags=socket.AI_PASSIVE)
    first = found[0]
    yield Outcome("getaddrinfo(None, AI_PASSIVE)", first == _UNSPECIFIED[4], listed(found))
    scene.serve(first, _PORT)
    for family, takes in ((4, True), (6, False)):
        answer = scene.ask(LOOPBACK[family], _PORT)
        yield Outcome(f"a server at the first, asked at {LOOPBACK[family]}", answer.came == takes, str(answer))
    scene.note(f"without AI_PASSIVE, for whoever asks: {listed(glibc(scene, None))}")


def _prefer_ipv6(scene: Scene) -> None:
    replace(scene, PREFERENCES, _GAI)


CLAIMS = (
    Claim(
        id="any-destination",
        says="0.0.0.0 and :: are no addresses that anything can be sent to.",
        statements=(4, 20),
        prediction="a connection to 0.0.0.0 fails at once, as there is no such destination",
        expected=FALSE,
        experiment=_destination,
        refuted_by=Change(text="lo has lost 127.0.0.1 and ::1", make=_bare_lo, becomes=HOLDS),
        decided_by="ip_route_output_key_hash_rcu in net/ipv4/route.c, tcp_v6_connect in net/ipv6/tcp_ipv6.c (as "
        "BSD did); against it RFC 1122, 3.2.1.3 (a), and RFC 4291, 2.5.2",
        remember="Linux takes who asks 0.0.0.0 or :: to mean this machine, and asks 127.0.0.1 or ::1 instead.",
    ),
    Claim(
        id="any-source",
        says="What is sent to 0.0.0.0 goes to 127.0.0.1, and what is sent to :: goes to ::1.",
        statements=(4, 14),
        prediction="every packet that is sent to 0.0.0.0 shows 127.0.0.1 as where it goes",
        expected=IN_PART,
        experiment=_source,
        links=("lo", "veth"),
        refuted_by=Change(text="lo has lost 127.0.0.1 and ::1", make=_bare_lo, becomes=FALSE),
        decided_by="ip_route_output_key_hash_rcu in net/ipv4/route.c: the asker's own address if it has chosen one, "
        "else INADDR_LOOPBACK",
        remember="No packet has 0.0.0.0 as its destination: the kernel writes one of its own addresses in before it "
        "sends, 127.0.0.1 unless the asker is bound to another.",
    ),
    Claim(
        id="any-url",
        says="A URL can't have 0.0.0.0 or [::] in it: no page comes from there.",
        statements=(4, 20),
        prediction="curl and a browser at http://0.0.0.0:8080/ tell of an invalid address",
        expected=FALSE,
        experiment=_url,
        refuted_by=Change(
            text="a firewall resets what goes to 127.0.0.1 and ::1, where it goes in truth",
            make=_reset_loopback,
            becomes=HOLDS,
        ),
        decided_by="the URL Standard, host parsing (0.0.0.0 is an IPv4 address); then the kernel, as for any program",
        remember="A page at http://0.0.0.0 is this machine's own: the address that a server prints works, on Linux.",
    ),
    Claim(
        id="any-passive",
        says="A server that names no address, and takes the first that it is told, serves IPv4 alone, at 0.0.0.0.",
        statements=(14, 16),
        prediction="getaddrinfo tells whoever will serve 0.0.0.0 first, and :: second",
        expected=HOLDS,
        experiment=_passive,
        refuted_by=Change(
            text="/etc/gai.conf gives all addresses one label, so that IPv6 is preferred",
            make=_prefer_ipv6,
            becomes=IN_PART,
        ),
        decided_by="RFC 6724, 6, rules 5 and 6, in rfc3484_sort of glibc (getaddrinfo); RFC 3493, 6.1, for AI_PASSIVE",
        remember="A server should bind all that getaddrinfo gives it with AI_PASSIVE, not the first alone.",
    ),
)
