"""What joins a device in one namespace with a device in another: a veth pair, or two with the wire between them.

The wire (``lab.wire``) forwards between two packet sockets on the middle ends of the two pairs. It passes on what it
reads, so the outer ends must fill in checksums and cut segments themselves: their transmit offloads are switched off.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from lab.world.kernel import leave_checksums

if TYPE_CHECKING:
    from lab.world.netlink import Network
    from lab.world.way import Networks

__all__ = ["Cable"]

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23


class Cable:
    """A cable whose near end is `near_device` in `near`, and whose far end is `device` in the far namespace.

    ``ports`` are two descriptors, near and far, that the wire is to join; there are none without a wire.
    """

    def __init__(
        self,
        networks: Networks,
        device: str,
        *,
        near: Network | None = None,
        near_device: str | None = None,
        wired: bool,
    ) -> None:
        near, near_device = near or networks.near, near_device or device
        self.ports: list[int] = []
        if not wired:
            near.add_pair(near_device, networks.far, device)
            return
        for network, outer, side in ((near, near_device, "n"), (networks.far, device, "f")):
            self.ports.append(_port(networks.middle, network, outer, f"{device}-{side}"))


def _port(middle: Network, network: Network, outer: str, inner: str) -> int:
    """One veth pair of a wired cable. Returns the packet socket on its middle end, bound and not blocking."""
    middle.add_pair(inner, network, outer)
    with network.inside():
        leave_checksums(outer, False)
    middle.up(inner)
    with middle.inside():
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing before it is bound
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.setblocking(False)
    port.bind((inner, _ETH_P_ALL))
    return port.detach()
