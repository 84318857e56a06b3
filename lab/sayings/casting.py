"""Of broadcast, and of what IPv6 has in its place: who gets what is sent to all."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator

from lab.errors import errno_name
from lab.firewall import FirewallRule
from lab.sayings.claim import FALSE, HOLDS, IN_PART, Change, Claim, Outcome
from lab.sayings.scene import Scene

__all__ = ["CLAIMS"]

_PORT = 5353
_ALL = {4: "255.255.255.255", 6: "ff02::1"}
_LINK = "bridge"
#: Where neighbours are: on the other side of the bridge, and at the bridge itself.
_NEIGHBOURS = {"far": "a neighbour across the bridge", "middle": "a neighbour at the bridge"}
_PATIENCE_S = 0.25


def _receiver(scene: Scene, family: int, end: str) -> socket.socket:
    """A socket at `end` that takes what comes to the port, whatever address it was sent to."""
    receiver = scene.socket(family, "udp", end=end)
    if family == 6:
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    receiver.bind(("", _PORT))
    receiver.settimeout(_PATIENCE_S)
    return receiver


def _sender(scene: Scene, family: int, *, permitted: bool, link: str = _LINK) -> socket.socket:
    """A socket that sends by a link's interface, which an address that is everybody's does not name."""
    sender = scene.socket(family, "udp")
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, permitted)
    return sender


def _send(sender: socket.socket, family: int) -> int:
    """The errno of an attempt to send to all."""
    try:
        sender.sendto(b"who is there?", (_ALL[family], _PORT))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _came(receiver: socket.socket) -> str:
    """Who sent what came; "" for nothing."""
    try:
        _data, sender = receiver.recvfrom(1024)
    except TimeoutError:
        return ""
    return str(sender[0])


def _neighbour_at_the_bridge(scene: Scene, family: int) -> None:
    """Gives the bridge itself an address: with IPv4, of the same subnet, or reverse path filters drop what comes."""
    if family == 6:
        scene.world.sysctl(f"ipv6/conf/{_LINK}/disable_ipv6", 0, end="middle")  # it makes one of its own
    else:
        address = ipaddress.ip_address(scene.far(_LINK, 4)) + 1
        scene.world.add_address(_LINK, f"{address}/24", end="middle")


def _reached(scene: Scene, family: int) -> Iterator[tuple[str, str]]:
    """Each neighbour, and who sent what it got."""
    _neighbour_at_the_bridge(scene, family)
    receivers = {end: _receiver(scene, family, end) for end in _NEIGHBOURS}
    failed = _send(_sender(scene, family, permitted=family == 4), family)
    for end, receiver in receivers.items():
        yield _NEIGHBOURS[end], errno_name(failed) if failed else _came(receiver)


def _all(scene: Scene) -> Iterator[Outcome]:
    for who, came in _reached(scene, 4):
        yield Outcome(who, bool(came), f"got it from {came}" if came else "got nothing")


def _six(scene: Scene) -> Iterator[Outcome]:
    for who, came in _reached(scene, 6):
        evidence = f"got it from {came}" if came else "got nothing"
        yield Outcome(f"{who} waits for what is sent to {_ALL[6]}", not came, evidence)


def _deaf_far(scene: Scene) -> None:
    rule = FirewallRule(protocol="udp", port=_PORT, destination=_ALL[4])
    scene.opened.enter_context(scene.world.firewall(rule, end="far"))


def _deaf_to_six(scene: Scene) -> None:
    for end in _NEIGHBOURS:
        rule = FirewallRule(protocol="udp", port=_PORT, destination=_ALL[6])
        scene.opened.enter_context(scene.world.firewall(rule, end=end))


def _permission(scene: Scene) -> Iterator[Outcome]:
    receiver = _receiver(scene, 4, "far")
    for permitted, case in ((False, "as to any other address"), (True, "with SO_BROADCAST set on the socket")):
        failed = _send(_sender(scene, 4, permitted=permitted), 4)
        came = "" if failed else _came(receiver)
        yield Outcome(f"sent {case}", bool(came), errno_name(failed) if failed else f"arrived from {came}")


def _device_down(scene: Scene) -> None:
    scene.world.set_link(_LINK, False)


def _stays(scene: Scene) -> Iterator[Outcome]:
    """Links: a router, behind which the far end is."""
    receivers = {end: _receiver(scene, 4, end) for end in ("middle", "far")}
    failed = _send(_sender(scene, 4, permitted=True, link="router"), 4)
    nearer = errno_name(failed) if failed else _came(receivers["middle"])
    farther = _came(receivers["far"])
    yield Outcome("the router, a neighbour", bool(nearer), f"got it from {nearer}" if nearer else "got nothing")
    yield Outcome("a device behind the router", not farther, f"got it from {farther}" if farther else "got nothing")


def _router_down(scene: Scene) -> None:
    rule = FirewallRule(protocol="udp", port=_PORT)
    scene.opened.enter_context(scene.world.firewall(rule, end="middle"))


CLAIMS = (
    Claim(
        id="cast-all",
        says="What is sent to 255.255.255.255 comes to everybody in the subnet.",
        statements=(36,),
        prediction="one datagram comes to both neighbours",
        expected=HOLDS,
        experiment=_all,
        links=(_LINK,),
        refuted_by=Change(text="one neighbour's firewall drops what is sent to all", make=_deaf_far, becomes=IN_PART),
        decided_by="RFC 919, 7; __mkroute_output in net/ipv4/route.c (RTCF_BROADCAST)",
        remember="255.255.255.255 means everybody on this link: each who wants to hear it does.",
    ),
    Claim(
        id="cast-stays",
        says="A datagram to 255.255.255.255 stays in the subnet: the router gets it, and does not hand it on.",
        statements=(36, 74),
        prediction="the router hears it, a device behind it does not",
        expected=HOLDS,
        experiment=_stays,
        links=("router",),
        refuted_by=Change(text="the router's firewall drops it", make=_router_down, becomes=IN_PART),
        decided_by="RFC 1812, 5.3.5.1 (limited broadcasts must not be forwarded)",
        remember="A limited broadcast ends at the next router.",
    ),
    Claim(
        id="cast-permission",
        says="A program sends to 255.255.255.255 as to any other address.",
        statements=(36,),
        prediction="sendto() works without further ado",
        expected=IN_PART,
        experiment=_permission,
        links=(_LINK,),
        refuted_by=Change(text="the interface is down", make=_device_down, becomes=FALSE),
        decided_by="udp_sendmsg in net/ipv4/udp.c: EACCES for a broadcast route without SOCK_BROADCAST; socket(7)",
        remember="Broadcasting takes SO_BROADCAST, so that nobody does it by mistake.",
    ),
    Claim(
        id="cast-six",
        says="By IPv6 nothing can be sent to all neighbours at once.",
        statements=(37,),
        prediction="there is no broadcast address, so no neighbour gets anything",
        expected=FALSE,
        experiment=_six,
        links=(_LINK,),
        refuted_by=Change(
            text="both neighbours' firewalls drop what is sent to ff02::1", make=_deaf_to_six, becomes=HOLDS
        ),
        decided_by="RFC 4291, 2.7.1 (all-nodes addresses)",
        remember="IPv6 has no broadcast, but ff02::1 reaches all nodes of a link, and takes no permission.",
    ),
)
