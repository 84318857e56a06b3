"""Where packets are injected, as far as it decides how they leave and whether they arrive."""

from __future__ import annotations

from dataclasses import dataclass

from lab.taps.places import SocketAt

__all__ = ["Towards"]


@dataclass(frozen=True, kw_only=True)
class Towards:
    """An interface, and what is known of the other side of it.

    name: as users call it: a link or an interface. device, ifindex, mtu, hardware (ARPHRD_*), mac: of the interface
    that packets leave by. socket_at: opens sockets in its network. world: "new", "host", or a process's number.
    routed_in: IPv4 frames from lo itself are delivered there, as route_localnet and accept_local are both set.
    receiver: opens sockets where packets arrive; None: that is not known. far_device, far_mac, addresses: of the
    interface where they arrive, and the networks that are its network's own. tap: the descriptor that packets for the
    far tun or tap device can be written to; None: there is none.
    """

    name: str
    device: str
    ifindex: int
    mtu: int
    hardware: int
    mac: bytes
    socket_at: SocketAt
    world: str
    routed_in: bool
    receiver: SocketAt | None
    far_device: str | None
    far_mac: bytes | None
    addresses: tuple[str, ...]
    tap: int | None = None
