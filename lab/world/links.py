"""Every link that can be made, a class each. Runs in the helper, inside the namespaces.

To add one: a class with a ``name`` and a ``make`` that leaves the link up in both families and returns its ``Link``.
Addresses are those set aside for benchmarks (198.18.0.0/15 in RFC 2544, 2001:2::/48 in RFC 5180).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from lab.world.kernel import inside, link_mtu
from lab.world.link import Link

__all__ = ["LINKS", "Namespaces", "lo"]

_IFA_F_NODAD = 0x02  # no duplicate address detection: the address is usable at once


class Namespaces(Protocol):
    """What a link is made in: descriptors of network namespaces, made when first asked for."""

    @property
    def near(self) -> int: ...
    @property
    def far(self) -> int: ...


class Lo:
    """The loopback interface of the near namespace; both ends live there."""

    name = "lo"

    def make(self, namespaces: Namespaces) -> Link:
        with inside(namespaces.near):
            return lo(link_mtu("lo"))


class Veth:
    """A virtual Ethernet pair, one end in the near namespace and one in the far."""

    name = "veth"
    near: ClassVar = {4: "198.18.1.1", 6: "2001:2:0:1::1"}
    far: ClassVar = {4: "198.18.1.2", 6: "2001:2:0:1::2"}

    def make(self, namespaces: Namespaces) -> Link:
        peer = {"ifname": "veth", "net_ns_fd": namespaces.far}
        with inside(namespaces.near), _netlink("add a veth pair") as ip:
            ip.link("add", ifname="veth", kind="veth", peer=peer)
        with inside(namespaces.near):
            missing = _configure("veth", self.near)
            mtu = link_mtu("veth")
        with inside(namespaces.far):
            missing |= _configure("veth", self.far)
        return Link(
            name=self.name,
            near={family: address for family, address in self.near.items() if family not in missing},
            far={family: address for family, address in self.far.items() if family not in missing},
            far_end="far",
            mtu=mtu,
            devices={"near": "veth", "far": "veth"},
            crosses="a pair of virtual Ethernet devices, between two network namespaces",
            missing=missing,
        )


LINKS = {link.name: link for link in (Lo(), Veth())}


def lo(mtu: int) -> Link:
    """The description of a loopback interface, whose addresses the kernel chose."""
    return Link(
        name="lo",
        near={4: "127.0.0.1", 6: "::1"},
        far={4: "127.0.0.1", 6: "::1"},
        far_end="near",
        mtu=mtu,
        devices={"near": "lo"},
        crosses="the loopback device, inside one network namespace",
    )


@contextlib.contextmanager
def _netlink(what: str) -> Iterator[Any]:
    """A netlink socket of the current namespace. A refusal becomes an OSError that names `what` was tried."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as ip:
        try:
            yield ip
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code), what) from error


def _configure(device: str, addresses: dict[int, str]) -> dict[int, int]:
    """Gives the device its addresses and brings it up, in the current namespace.

    Returns {6: errno} where the kernel takes no IPv6 address.
    """
    with _netlink(f"configure {device}") as ip:
        index = ip.link_lookup(ifname=device)[0]
        ip.addr("add", index=index, address=addresses[4], prefixlen=24)
        ip.link("set", index=index, state="up")
        try:
            with _netlink(f"give {device} an IPv6 address") as ip6:
                ip6.addr("add", index=index, address=addresses[6], prefixlen=64, flags=_IFA_F_NODAD)
        except OSError as error:
            return {6: error.errno or 0}
    return {}
