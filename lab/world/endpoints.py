"""Opens and configures the sockets of one stream. C gets their descriptors; what they are set to is decided here."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import secrets
import socket
import struct
from dataclasses import dataclass

from lab.conditions import NIC, Condition
from lab.errors import Unavailable
from lab.managed import Managed
from lab.wire import Wire
from lab.world.baselines import End, open_pair
from lab.world.link import Link
from lab.world.place import Place, host_socket

__all__ = ["Endpoints", "open_endpoints"]

_CONNECT_S = 10.0  # a lost SYN is sent again after 1, 3 and 7 s
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# linux/icmp.h and linux/icmpv6.h; Python's socket module does not name them.
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_IP_RECVTTL = 12  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h
_ECHO_REPLY_4, _ECHO_REPLY_6 = 0, 129
_SO_ATTACH_FILTER = 26
_BPF_LDXB_MSH, _BPF_LDH_IND, _BPF_LDH_ABS, _BPF_JEQ, _BPF_RET = 0xB1, 0x48, 0x28, 0x15, 0x06

_RAW_FIX = "Leave --world out (a private world needs no rights), run as root, or give --probe udp or tcp"
_CARD_FIX = "Run as root, or allow ping sockets (sysctl net.ipv4.ping_group_range)"
_LO_NET_FIX = "Leave --world out: a private world routes a prefix to its lo"
_IPV6_FIX = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0), or measure IPv4 only"


@dataclass(frozen=True)
class Endpoints(Managed):
    """The two ends of one stream, none for shm. ``far`` is None where the kernel, or another machine, replies.

    A context manager that closes both. ``family`` and ``target`` are None for a baseline. ``wire`` is what joins them.
    """

    near: End | None
    far: End | None
    kind: str
    family: int | None = None
    target: str | None = None
    icmp_id: int = 0
    wire: Wire | None = None

    def close(self) -> None:
        """Closes both ends."""
        for end in (self.near, self.far):
            if end is not None:
                end.close()


def open_endpoints(place: Place, condition: Condition) -> Endpoints:
    """Sockets for a condition, ready to be handed to C. Raises Unavailable with the errno of what was refused."""
    link = place.links[condition.link]
    family = condition.family
    if family is None:
        near, far = open_pair(condition.link, size=condition.size, spin=condition.wait == "spin")
        return Endpoints(near, far, condition.link)
    if family in link.missing and condition.target is None:
        fix = _LO_NET_FIX if link.name == "lo-net" and place.kind != "new" else _IPV6_FIX
        raise Unavailable(f"{link.name} has no IPv{family} address", errno=link.missing[family], fix=fix)
    opened: list[socket.socket] = []
    try:
        if condition.probe == "icmp":
            return _icmp(place, link, condition, family, opened)
        return _pair(place, link, condition, family, opened)
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


def _icmp(place: Place, link: Link, condition: Condition, family: int, opened: list[socket.socket]) -> Endpoints:
    domain = _FAMILIES[family]
    proto = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    target = condition.target or link.far[family]
    card = link.devices.get("host")
    socket_at = host_socket if card else place.socket
    with socket_at(domain, socket.SOCK_DGRAM) as scout:
        _bind_to_card(scout, card)
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
    _bind_to_card(near, card)
    icmp_id = secrets.randbelow(0xFFFF) + 1
    if kind == "icmp-raw":
        _pass_only_echo_replies(near, family)
        _pass_only_id(near, family, icmp_id)
        _drain(near)
    if family == 6 or kind == "icmp-ping":
        _ask_for_ttl(near, family)
    _bind_to_near_address(near, link, condition, family)
    return Endpoints(near, None, kind, family, target, icmp_id, place.wires.get(link.name))


def _bind_to_card(end: socket.socket, card: str | None) -> None:
    """Keeps to one network card, whatever the routing table says."""
    if card:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())


def _bind_to_near_address(near: socket.socket, link: Link, condition: Condition, family: int) -> None:
    """Keeps the kernel from choosing another link's address to send from, as it does for one that no device has."""
    if condition.target is None and link.near != link.far:
        near.bind((link.near[family], 0))


def _pass_only_echo_replies(near: socket.socket, family: int) -> None:
    """Keeps everything else, such as the requests that a raw socket on lo sees too, out of the queue."""
    if family == 4:
        near.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", ~(1 << _ECHO_REPLY_4) & 0xFFFFFFFF))
        return
    words = [0xFFFFFFFF] * 8
    words[_ECHO_REPLY_6 // 32] &= ~(1 << _ECHO_REPLY_6 % 32)
    near.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *words))


def _pass_only_id(near: socket.socket, family: int, icmp_id: int) -> None:
    """Keeps the replies to other people's echoes out of the queue, which a flood of them would fill (socket(7)).

    Raw IPv4 sockets see the IP header, whose length the first instruction reads; raw IPv6 sockets do not.
    """
    offset = 4  # of the identifier, in an echo reply
    load = [(_BPF_LDXB_MSH, 0, 0, 0), (_BPF_LDH_IND, 0, 0, offset)] if family == 4 else [(_BPF_LDH_ABS, 0, 0, offset)]
    program = [*load, (_BPF_JEQ, 0, 1, icmp_id), (_BPF_RET, 0, 0, 0xFFFFFFFF), (_BPF_RET, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    near.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def _drain(near: socket.socket) -> None:
    """Empties the queue of what came before the filters were there: full, it would drop our first reply."""
    with contextlib.suppress(BlockingIOError):
        while True:
            near.recv(1, socket.MSG_DONTWAIT)


def _ask_for_ttl(end: socket.socket, family: int) -> None:
    if family == 4:
        end.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def _pair(place: Place, link: Link, condition: Condition, family: int, opened: list[socket.socket]) -> Endpoints:
    """A near and a far socket that are connected to each other."""
    domain = _FAMILIES[family]
    target = condition.target or link.far[family]
    type_ = socket.SOCK_DGRAM if condition.probe == "udp" else socket.SOCK_STREAM
    wire = place.wires.get(link.name)
    far = place.socket(domain, type_, end=link.far_end)
    opened.append(far)
    if family == 6:
        far.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # lo-net's address is routed here, and no device's
    far.bind((target, 0))
    near = place.socket(domain, type_)
    opened.append(near)
    _bind_to_near_address(near, link, condition, family)
    if condition.probe == "udp":
        near.connect(far.getsockname())
        far.connect(near.getsockname())
        _ask_for_ttl(near, family)
        return Endpoints(near, far, "udp", family, target, wire=wire)
    accepted = _handshake(near, far)
    opened.append(accepted)
    for end in (near, accepted):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One thread may play both ends, so a whole message must fit in what the kernel buffers.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(4 * condition.size, 1 << 16))
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
