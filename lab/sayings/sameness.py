"""Of what is the same over lo as over a network: the handshake, the size of segments, and who is asked first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import LOOPBACK, Scene

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CLAIMS"]

_PORT = 8080
_LINKS = ("lo", "veth")
_ETHERNET_MTU = 1500
#: How a host is asked for its hardware address: ARP, and neighbour solicitations and advertisements of ICMPv6.
_ASKING = "arp or (icmp6 and (ip6[40] == 135 or ip6[40] == 136))"


def _talk(scene: Scene, link: str, family: int) -> pl.DataFrame:
    """A connection to a server at the far end of a link, as seen at the near one: a row a packet."""
    address = scene.far(link, family)
    scene.serve(address, _PORT, end=scene.world.links[link].far_end)
    with scene.watched(f"near:{link}", filter=f"tcp port {_PORT}") as capture:
        scene.ask(address, _PORT)
    return capture.to_polars("tcp_flags", "tcp_mss", "payload_length")


def _flags(number: int) -> str:
    return "".join(letter for bit, letter in enumerate("FSRPA") if number >> bit & 1)


def _handshake(scene: Scene) -> Iterator[Outcome]:
    for link in _LINKS:
        for family in LOOPBACK:
            rows = _talk(scene, link, family)
            begun = [_flags(number) for number in rows["tcp_flags"][:3]]
            yield Outcome(f"over {link}, IPv{family}", begun == ["S", "SA", "A"], f"{', '.join(begun)}, and so on")


def _refuse_on_lo(scene: Scene) -> None:
    rule = FirewallRule(verdict="tcp-reset", protocol="tcp", port=_PORT, device="lo")
    scene.opened.enter_context(scene.world.firewall(rule))


def _segments(scene: Scene) -> Iterator[Outcome]:
    for family in LOOPBACK:
        sizes = {link: _talk(scene, link, family)["tcp_mss"][0] for link in _LINKS}
        seen = ", ".join(f"at most {size:,} bytes over {link}" for link, size in sizes.items())
        yield Outcome(f"what the first packet allows, IPv{family}", sizes["lo"] == sizes["veth"], seen)


def _small_lo(scene: Scene) -> None:
    scene.world.set_link("lo", mtu=_ETHERNET_MTU)


def _neighbours(scene: Scene) -> Iterator[Outcome]:
    for link in _LINKS:
        for family in LOOPBACK:
            with scene.watched(f"near:{link}", filter=_ASKING) as capture:
                answer = scene.ping(scene.far(link, family))
            asked = len(capture)
            expected = asked == 0 if link == "lo" else asked > 0
            seen = f"{answer}; {asked or 'no'} frames to find the hardware address"
            yield Outcome(f"the first ping over {link}, IPv{family}", expected, seen)


def _asked_before(scene: Scene) -> None:
    for family in LOOPBACK:
        scene.ping(scene.far("veth", family))


CLAIMS = (
    Claim(
        id="same-handshake",
        says="A connection over loopback begins with the same three packets as one over a network.",
        statements=(30, 47),
        prediction="SYN, SYN-ACK, ACK, whichever the link",
        expected=HOLDS,
        experiment=_handshake,
        links=_LINKS,
        refuted_by=Change(text="a firewall resets connections that come by lo", make=_refuse_on_lo, becomes=IN_PART),
        decided_by="RFC 9293, 3.5",
        remember="TCP does not know what it runs over: a handshake on lo is a handshake.",
    ),
    Claim(
        id="same-segments",
        says="What TCP sends over loopback is cut into segments of the same size as over a network.",
        statements=(30, 47),
        prediction="both ends name the same largest segment",
        expected=FALSE,
        experiment=_segments,
        links=_LINKS,
        refuted_by=Change(text=f"lo has the MTU of Ethernet, {_ETHERNET_MTU:,}", make=_small_lo, becomes=HOLDS),
        decided_by="the MTU of lo, 64 KiB (loopback_setup in drivers/net/loopback.c), less headers; RFC 9293, 3.7.1",
        remember="What depends on the size of packets may work on lo and fail elsewhere: try it with an MTU of 1500.",
    ),
    Claim(
        id="same-neighbours",
        says="Over Ethernet a host first has to be asked for its hardware address, and over loopback nobody is.",
        statements=(28, 26),
        prediction="frames of ARP and of neighbour discovery on the wire, none on lo",
        expected=HOLDS,
        experiment=_neighbours,
        links=_LINKS,
        refuted_by=Change(text="the neighbour has been asked before", make=_asked_before, becomes=IN_PART),
        decided_by="lo has IFF_LOOPBACK, and so NUD_NOARP (arp_constructor in net/ipv4/arp.c); RFC 826, RFC 4861",
        remember="The first packet over a network waits for an answer that lo never needs.",
    ),
)
