"""Opens and configures the sockets of one stream. C gets their descriptors; what they are set to is decided here."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace

from lab.conditions import NIC, Condition
from lab.errors import Unavailable
from lab.world.baselines import open_pair
from lab.world.ends import (
    DOMAINS,
    Closable,
    Endpoints,
    ask_for_ttl,
    bind_to_card,
    bind_to_near_address,
    drain,
    pass_only_echo_replies,
    without_device,
)
from lab.world.handshakes import open_connect, open_syn
from lab.world.link import Link
from lab.world.place import Place, host_socket
from lab.world.stamping import Stamping

__all__ = ["Endpoints", "open_bulk_ends", "open_endpoints"]

_Opener = Callable[[Place, Link, Condition, int, list[Closable]], Endpoints]

_CONNECT_S = 10.0  # a lost SYN is sent again after 1, 3 and 7 s

_RAW_FIX = "Leave --world out (a private world needs no rights), run as root, or give --probe udp or tcp"
_CARD_FIX = "Run as root, or allow ping sockets (sysctl net.ipv4.ping_group_range)"
_LO_NET_FIX = "Leave --world out: a private world routes a prefix to its lo"
_IPV6_FIX = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0), or measure IPv4 only"


def open_endpoints(place: Place, condition: Condition) -> Endpoints:
    """Sockets for a condition, ready to be handed to C. Raises Unavailable with the errno of what was refused."""
    family = condition.family
    if family is None:
        near, far = open_pair(condition)
        return Endpoints(near, far, condition.link)
    open_kind = {"icmp": _icmp, "tcp-connect": open_connect, "tcp-syn": open_syn}.get(condition.probe, _pair)
    return _open(open_kind, place, condition, family)


def open_bulk_ends(place: Place, condition: Condition, family: int) -> Endpoints:
    """Connected sockets for a condition of udp or tcp, set as programs get them. Raises Unavailable likewise."""
    return _open(_connected, place, condition, family)


def _open(open_kind: _Opener, place: Place, condition: Condition, family: int) -> Endpoints:
    """Opens the ends of a link; closes what was opened if that fails, and says why."""
    link = place.links[condition.link]
    if family in link.missing and condition.target is None:
        fix = _LO_NET_FIX if link.name == "lo-net" and place.kind != "new" else _IPV6_FIX
        raise Unavailable(f"{link.name} has no IPv{family} address", errno=link.missing[family], fix=fix)
    opened: list[Closable] = []
    try:
        kept: tuple[Closable, ...] = ()
        if condition.stages:
            kept = (Stamping(place),)
            opened.extend(kept)
        ends = open_kind(place, link, condition, family, opened)
        return replace(ends, kept=(*ends.kept, *kept))
    except OSError as error:
        for end in opened:
            end.close()
        if isinstance(error, Unavailable) and error.errno != errno.EAFNOSUPPORT:
            raise
        raise Unavailable(f"cannot open {condition}", errno=error.errno, fix=_fix(error, condition)) from error


def _fix(error: OSError, condition: Condition) -> str:
    if condition.family == 6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH):
        return _IPV6_FIX
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
        return "Bring the interface up and give it its address (ip link set lo up; ip addr)"
    if error.errno == errno.EACCES and condition.link.startswith(NIC):
        return "It is a broadcast address, or a rule forbids it: name one machine"
    if isinstance(error, TimeoutError):
        return "Look for a rule that drops the handshake (nft list ruleset)"
    return "See lab doctor"


def _icmp(place: Place, link: Link, condition: Condition, family: int, opened: list[Closable]) -> Endpoints:
    domain = DOMAINS[family]
    proto = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    target = condition.target or link.far[family]
    card = link.devices.get("host")
    socket_at = host_socket if card else place.socket
    with socket_at(domain, socket.SOCK_DGRAM) as scout:
        bind_to_card(scout, card)
        scout.connect((target, 9))  # sends nothing: asks for the route, whose absence is told here in time
    kind = "icmp-raw"
    try:
        near = socket_at(domain, socket.SOCK_RAW, proto)
    except Unavailable as refused:
        if refused.errno not in (errno.EPERM, errno.EACCES):
            raise
        kind = "icmp-ping"
        try:
            near = socket_at(domain, socket.SOCK_DGRAM, proto)
        except Unavailable:
            raise Unavailable(
                f"no raw socket for {condition}, and net.ipv4.ping_group_range allows no ping socket",
                errno=refused.errno,
                fix=_CARD_FIX if card else _RAW_FIX,
            ) from refused
    opened.append(near)
    bind_to_card(near, card)
    icmp_id = secrets.randbelow(0xFFFF) + 1
    if kind == "icmp-raw":
        pass_only_echo_replies(near, family, icmp_id)
        drain(near)
    if family == 6 or kind == "icmp-ping":
        ask_for_ttl(near, family)
    bind_to_near_address(near, link, condition, family)
    return Endpoints(near, None, kind, family, target, icmp_id, place.wires.get(link.name))


def _pair(place: Place, link: Link, condition: Condition, family: int, opened: list[Closable]) -> Endpoints:
    """A near and a far socket that are connected to each other, and send each message at once."""
    ends = _connected(place, link, condition, family, opened)
    for end in (ends.near, ends.far):
        if ends.kind == "udp" or not isinstance(end, socket.socket):
            continue
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One thread may play both ends, so a whole message must fit in what the kernel buffers.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(4 * condition.size, 1 << 16))
    return ends


def _connected(place: Place, link: Link, condition: Condition, family: int, opened: list[Closable]) -> Endpoints:
    """A near and a far socket that are connected to each other."""
    domain = DOMAINS[family]
    target = condition.target or link.far[family]
    type_ = socket.SOCK_DGRAM if condition.probe == "udp" else socket.SOCK_STREAM
    wire = place.wires.get(link.name)
    far = place.socket(domain, type_, end=link.far_end)
    opened.append(far)
    without_device(far, family)
    far.bind((target, 0))
    near = place.socket(domain, type_)
    opened.append(near)
    bind_to_near_address(near, link, condition, family)
    if condition.probe == "udp":
        near.connect(far.getsockname())
        far.connect(near.getsockname())
        ask_for_ttl(near, family)
        return Endpoints(near, far, "udp", family, target, wire=wire)
    accepted = _handshake(near, far)
    opened.append(accepted)
    return Endpoints(near, accepted, "tcp", family, target, wire=wire)


def _handshake(near: socket.socket, listener: socket.socket) -> socket.socket:
    """Connects `near`, closes the listener, returns the accepted socket; both in blocking mode, as C expects."""
    with listener:
        listener.listen(1)
        listener.settimeout(_CONNECT_S)
        near.settimeout(_CONNECT_S)
        near.connect(listener.getsockname())
        accepted, _address = listener.accept()
    near.setblocking(True)
    accepted.setblocking(True)
    return accepted
