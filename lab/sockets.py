"""Sockets of any network for programs that open their own: scapy's functions, as they are."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from lab.checks import pick
from lab.errors import Unavailable
from lab.taps.places import SocketAt
from lab.world import Place, visit
from lab.world.stamping import Stamping

__all__ = ["scapy_sockets"]

_ENDS = ("near", "far", "middle")


@contextlib.contextmanager
def scapy_sockets(world: str | int | Place | None = None, *, end: str = "near") -> Iterator[None]:
    """Lets scapy's functions use the lab's sockets within the ``with`` block; afterwards all is as it was.

    ``sniff``, ``AsyncSniffer``, ``sr``, ``sr1``, ``send``, ``sendp``, ``srp``, ``srp1`` and their like then see the
    network of `world`: an open ``World``, the number of a process, "new" for a private one, or None for the machine's
    own, which takes CAP_NET_RAW. end: whose interfaces, in a world ("near", "far" or "middle"). On lo they see one copy
    of each frame, whole, with the kernel's time to the nanosecond; filters need no libpcap. Sockets that are opened
    within live on after it. scapy has one configuration: other threads see this one, too.
    Raises UsageError, Unavailable.
    """
    pick("end", end, _ENDS)
    with visit("host" if world is None else world, ["lo"]) as (place, _warnings):

        def socket_at(family: int, kind: int, protocol: int) -> socket.socket:
            return place.socket(family, kind, protocol, end=end)

        _try_packet_socket(socket_at)
        with contextlib.closing(Stamping(place)):
            from lab.taps.provider import in_network  # it imports scapy, half a second

            with in_network(socket_at):
                yield


def _try_packet_socket(socket_at: SocketAt) -> None:
    """Raises Unavailable at once, rather than in a sniffer's thread, if there is no right to open them."""
    try:
        socket_at(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except Unavailable as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise Unavailable(
            "cannot open packet sockets here",
            errno=error.errno,
            fix="Use a private network, with lab.World() as world: lab.scapy_sockets(world), or give this process "
            "CAP_NET_RAW (run as root)",
        ) from None
