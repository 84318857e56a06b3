"""Keeps the kernel's resets away from a TCP session that is played by hand."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from lab.checks import check_count, pick
from lab.errors import Unavailable, UsageError
from lab.taps import nftables as nft
from lab.taps.filters import NOTHING, attach
from lab.taps.places import SocketAt
from lab.world import Place, visit
from lab.world.place import ENDS

__all__ = ["NoResets", "no_rst"]

_MEANS = {"nftables": "a rule of nftables drops them", "listener": "a socket that listens there swallows what comes"}
#: Options by which a socket wants packets to have so many hops left (RFC 5082): IP_MINTTL, IPV6_MINHOPCOUNT.
_LEAST_HOPS = {socket.AF_INET: (socket.IPPROTO_IP, 21), socket.AF_INET6: (socket.IPPROTO_IPV6, 73)}
_MOST_HOPS = 255
_FLAGS_AT, _RST = 13, bytes([0x04])  # in a TCP header
_RULE_FIX = "Leave by= out or give by='listener', which takes no rights; nftables takes {what}"
_LISTENER_FIX = {
    errno.EADDRINUSE: "Play from a port that no socket has",
    errno.EACCES: "Play from a port above 1023, or run as root",
}


@dataclass(frozen=True)
class NoResets:
    """From where the kernel sends no RST, and by what it is kept from it: "nftables" or "listener".

    instead: why not by nftables, where that was tried first.
    """

    device: str
    port: int
    by: str
    instead: str | None = None

    def __str__(self) -> str:
        why = f" ({self.instead})" if self.instead else ""
        return f"no RST of the kernel's from port {self.port} on {self.device}: {_MEANS[self.by]}{why}"

    __repr__ = __str__


@contextlib.contextmanager
def no_rst(
    where: str, port: int, *, world: str | int | Place | None = None, end: str = "near", by: str | None = None
) -> Iterator[NoResets]:
    """Lets you play TCP by hand from `port`, within the ``with`` block: the kernel sends no RST from there.

    ::

        with lab.World(["veth"]) as world, lab.scapy_sockets(world), lab.no_rst("veth", 40000, world=world):
            there = world.links["veth"].far[4]
            syn_ack = sr1(IP(dst=there) / TCP(sport=40000, dport=80, flags="S", seq=1000))

    The kernel knows nothing of a connection that is made with packets of your own, and resets it when the SYN-ACK
    comes. where: a link, or the interface that the session leaves by. world: whose network: an open ``World``, the
    number of a process, or None for the machine's own. end: whose kernel, in a world ("near", "far" or "middle").
    by: "nftables", a rule that drops these resets, but not those that you send; "listener", a socket that listens at
    the port and drops all that comes, which takes no rights; None: the first of them that works here. Either serves
    both families, and ends with the process if that is killed. Raises UsageError, Unavailable.
    """
    check_count("port", port, high=(1 << 16) - 1)
    pick("end", end, ENDS)
    pick("by", by, (*_MEANS, None))
    if world == "new":
        raise UsageError("nothing would ever pass in a new world of no_rst's own: open one, with lab.World() as world")
    with visit("host" if world is None else world, ["lo"]) as (place, _warnings), contextlib.ExitStack() as held:
        device = _device(place, where, end)
        socket_at = partial(place.socket, end=end)
        instead = None
        if by != "listener":
            try:
                held.enter_context(_rule(socket_at, device, port))
            except Unavailable as error:
                if by == "nftables":
                    raise
                by, instead = "listener", error.reason
        if by == "listener":
            for family in (socket.AF_INET, socket.AF_INET6):
                held.enter_context(_listener(socket_at, family, device, port))
        yield NoResets(device, port, by or "nftables", instead)


def _device(place: Place, where: str, end: str) -> str:
    """The interface that `where` names in the namespace at `end`. Raises UsageError."""
    if end != "near" and place.kind != "new":
        raise UsageError(f"only a private world has a {end} end: leave end= out, or give world=")
    link = place.links.get(where) if isinstance(where, str) else None
    device = link.devices.get(end, where) if link else where
    known = place.interfaces(end=end)
    if device not in known:
        links = (name for name, link in place.links.items() if link.devices.get(end) in known)
        here = ", ".join(dict.fromkeys([*links, *known]))
        raise UsageError(f"there is no interface {where!r} at the {end} end: give one of {here}")
    return device


@contextlib.contextmanager
def _rule(socket_at: SocketAt, device: str, port: int) -> Iterator[None]:
    """A rule that is there as long as its netlink socket is open."""
    with contextlib.ExitStack() as opened:
        try:
            channel = opened.enter_context(socket_at(socket.AF_NETLINK, socket.SOCK_RAW, nft.NETLINK_NETFILTER))
            nft.install(channel, "no_rst", [nft.Chain("output", _no_resets(device, port))])
        except OSError as error:
            what = "CAP_NET_ADMIN (run as root, or in a private world)"
            if error.errno not in (errno.EPERM, errno.EACCES):
                what = "Linux 5.12 with nf_tables"
            fix = _RULE_FIX.format(what=what)
            raise Unavailable("cannot make a rule of nftables", errno=error.errno, fix=fix) from error
        yield


def _no_resets(device: str, port: int) -> list[nft.Rule]:
    """As nft(8) has it: ``meta skuid >= 0 accept``; ``oifname "veth" tcp sport 40000 tcp flags rst drop``.

    What a program sends has a socket, which is some user's (skuid), and passes, also a reset that is sent by hand; a
    reset by which the kernel refuses what no socket waits for has none. A mark would not tell one from the other, as
    the kernel may give its answers that of the question (fwmark_reflect).
    """
    return [
        [nft.meta(nft.SKUID), nft.at_least(bytes(4)), nft.accept()],
        [
            *nft.leaves_by(device),
            *nft.of_protocol(socket.IPPROTO_TCP),
            *nft.payload(nft.TRANSPORT, 0, 2),
            nft.equal(struct.pack("!H", port)),
            *nft.payload(nft.TRANSPORT, _FLAGS_AT, 1, mask=_RST),
            nft.not_equal(bytes(1)),
            nft.drop(),
        ],
    ]


@contextlib.contextmanager
def _listener(socket_at: SocketAt, family: int, device: str, port: int) -> Iterator[None]:
    """A socket that listens at the port, for which the kernel drops what comes, and so refuses nothing.

    Where the kernel has no IPv6, there is none of it.
    """
    with contextlib.ExitStack() as opened:
        try:
            listener = opened.enter_context(socket_at(family, socket.SOCK_STREAM, 0))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also where an old one is in TIME_WAIT
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _deafen(listener)
            listener.bind(("", port))
            listener.listen()
        except OSError as error:
            if (family, error.errno) != (socket.AF_INET6, errno.EAFNOSUPPORT):
                fix = _LISTENER_FIX.get(error.errno or 0, "See lab doctor")
                raise Unavailable(f"cannot listen at port {port}", errno=error.errno, fix=fix) from error
        yield


def _deafen(listener: socket.socket) -> None:
    """Lets no packet reach the socket. Raises OSError.

    Some kernels take CAP_NET_ADMIN for the filter of a TCP socket (6.18.44 does). Without it, the socket wants packets
    that no router has passed on yet, and that set out with the highest hop limit there is; a kernel's own have 64.
    """
    try:
        attach(listener, NOTHING)
    except PermissionError:
        listener.setsockopt(*_LEAST_HOPS[listener.family], _MOST_HOPS)
