"""Of what is the same over lo as over a network: the handshake, the size of segments, and who is asked first."""

from __future__ import annotations

import socket
from collections import Counter
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
_ETHERNET_MTU, _ETHERNET = 1500, 14
_SHAKEN = ["SYN", "SYN-ACK", "ACK"]
#: Bytes that are sent in one go: they fit into the buffers of both ends.
_LARGE = 60_000
_PATIENCE_S = 5
_CHECKSUMS = {"left": "whose checksum was left to the device", "good": "with a good one", "bad": "with a bad one"}
#: How a host is asked for its hardware address: ARP, and neighbour solicitations and advertisements of ICMPv6.
_ASKING = "arp or (icmp6 and (ip6[40] == 135 or ip6[40] == 136))"


def _talk(scene: Scene, link: str, family: int, more: bytes = b"") -> pl.DataFrame:
    """A connection to a server at the far end of a link, as seen at the near one: a row a packet.

    more: what the near end then sends in one go to a second server there.
    """
    address = scene.far(link, family)
    end = scene.world.links[link].far_end
    scene.serve(address, _PORT, end=end)
    with scene.watched(f"near:{link}", filter=f"tcp portrange {_PORT}-{_PORT + 1}") as capture:
        scene.ask(address, _PORT)
        if more:
            listener = scene.listen(address, _PORT + 1, end=end).socket
            client = scene.socket(family)
            client.settimeout(_PATIENCE_S)
            client.connect((address, _PORT + 1))
            listener.settimeout(_PATIENCE_S)
            accepted, _client = listener.accept()
            accepted.settimeout(_PATIENCE_S)
            with accepted:
                client.sendall(more)
                client.shutdown(socket.SHUT_WR)
                while accepted.recv(1 << 20):
                    pass
    return capture.to_polars("tcp_flags", "tcp_mss", "payload_length", "length", "checksum")


def _flags(number: int) -> str:
    return "-".join(name for bit, name in enumerate(("FIN", "SYN", "RST", "PSH", "ACK")) if number >> bit & 1)


def _handshake(scene: Scene) -> Iterator[Outcome]:
    for link in _LINKS:
        for family in LOOPBACK:
            rows = _talk(scene, link, family)
            begun = [_flags(number) for number in rows["tcp_flags"][:3]]
            yield Outcome(f"over {link}, IPv{family}", begun == _SHAKEN, f"{', '.join(begun)}, and so on")


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


def _checksums(scene: Scene) -> Iterator[Outcome]:
    for link in _LINKS:
        for family in LOOPBACK:
            rows = _talk(scene, link, family)
            found = Counter(rows["checksum"])
            seen = ", ".join(f"{count} {_CHECKSUMS.get(state, state)}" for state, count in found.items())
            yield Outcome(f"TCP over {link}, IPv{family}", set(found) <= {"good"}, f"of {len(rows)} packets, {seen}")


def _sizes(scene: Scene) -> Iterator[Outcome]:
    for link in _LINKS:
        for family in LOOPBACK:
            rows = _talk(scene, link, family, bytes(_LARGE))
            mtu = scene.world.links[link].mtu or 0
            largest = max(rows["length"].to_list()) - _ETHERNET
            seen = f"the largest has {largest:,} bytes, at an MTU of {mtu:,}"
            yield Outcome(f"{_LARGE:,} bytes sent over {link}, IPv{family}", largest <= mtu, seen)


def _nothing_left_to_cards(scene: Scene) -> None:
    for end in ("near", "far"):
        scene.world.set_link("veth", checksums_left=False, end=end)


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
        id="same-checksums",
        says="A packet that is captured has a checksum that is right.",
        statements=(30, 47),
        prediction="a capture shows good checksums, over lo and over a network",
        expected=FALSE,
        experiment=_checksums,
        links=_LINKS,
        refuted_by=Change(
            text="the cards let the stack fill in checksums (ethtool -K tx off), as lo never does",
            make=_nothing_left_to_cards,
            becomes=IN_PART,
        ),
        decided_by="CHECKSUM_PARTIAL in include/linux/skbuff.h; lo has NETIF_F_HW_CSUM and needs no checksum at all",
        remember="A checksum that was left to the device is not wrong: on lo nobody ever looks at it.",
    ),
    Claim(
        id="same-sizes",
        says="No packet on an interface is larger than its MTU.",
        statements=(30, 47),
        prediction="on lo they are large, on the network at most 1,500 bytes",
        expected=IN_PART,
        experiment=_sizes,
        links=_LINKS,
        refuted_by=Change(
            text="the cards let the stack cut segments (ethtool -K tx off)", make=_nothing_left_to_cards, becomes=HOLDS
        ),
        decided_by="segmentation offload: gso_size in struct skb_shared_info; a tap sees packets before they are cut",
        remember="Where the card cuts, a capture shows packets that no wire ever carried.",
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
