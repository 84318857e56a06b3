"""Every link that can be made, a class each. Runs in the helper, inside the namespaces.

To add one: a subclass of ``Way`` with its texts and a ``make`` that leaves the link up in both families, its name in
``lab.conditions.LINKS``. Each link has devices and subnets of its own, so that any of them can be made with any other.
Addresses are those set aside for benchmarks (198.18.0.0/15 in RFC 2544, 2001:2::/48 in RFC 5180).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from lab.conditions import LINKS as ORDER
from lab.world import tuntap
from lab.world.cables import Cable
from lab.world.kernel import link_mtu
from lab.world.link import Link
from lab.world.netlink import Addresses
from lab.world.tunnels import Gre, Ipip, Sit, Vlan, Vxlan, Wireguard
from lab.world.way import ETHERNET, MODULE_FIX, Made, Networks, Way

__all__ = ["LINKS", "LO_NET_IPV6", "lo", "lo_net"]


class Lo(Way):
    """The loopback interface of the near namespace; both ends live there."""

    name = "lo"
    crosses = "the loopback device, inside one network namespace"
    wireable = False

    def make(self, networks: Networks, *, wired: bool) -> Made:
        with networks.near.inside():
            return Made(lo(link_mtu("lo")), [])


class LoNet(Way):
    """Another address of 127.0.0.0/8, or of an IPv6 prefix routed to lo: no device has it, yet it is ours."""

    name = "lo-net"
    crosses = "the loopback device, to an address that no device was given"
    wireable = False

    def make(self, networks: Networks, *, wired: bool) -> Made:
        missing = {}
        try:
            networks.near.route_to_self(f"{self.subnet(0)[6]}/64")
        except OSError as error:
            missing[6] = error.errno or 0
        with networks.near.inside():
            return Made(lo_net(link_mtu("lo"), missing, LO_NET_IPV6), [])


class Own(Way):
    """The near end's own veth address: the kernel routes it over lo, and the veth pair never sees a packet."""

    name = "own"
    crosses = "the loopback device, though the address is that of a veth"
    wireable = False

    def make(self, networks: Networks, *, wired: bool) -> Made:
        networks.near.add_pair(self.name, networks.far, self.name)
        networks.far.up(self.name)
        missing = networks.near.configure(self.name, self.subnet(1))
        addresses = {family: address for family, address in self.subnet(1).items() if family not in missing}
        with networks.near.inside():
            mtu = link_mtu("lo")
        link = Link(
            name=self.name,
            near=addresses,
            far=addresses,
            far_end="near",
            mtu=mtu,
            devices={"near": "lo"},
            crosses=self.crosses,
            missing=missing,
        )
        return Made(link, [])


class Veth(Way):
    name = "veth"
    crosses = "a pair of virtual Ethernet devices, between two network namespaces"

    def make(self, networks: Networks, *, wired: bool) -> Made:
        cable = Cable(networks, self.name, wired=wired)
        return self.between(networks, cable.ports, self.name, self.configure(networks, self.name))


class Bridge(Way):
    name = "bridge"
    crosses = "a bridge in a third namespace, between two veth pairs"
    needs = "bridge"
    fix = MODULE_FIX.format("bridge", "bridge")

    def make(self, networks: Networks, *, wired: bool) -> Made:
        middle = networks.middle
        middle.add(self.name, "bridge")
        networks.near.add_pair(self.name, middle, "bridge-near")
        cable = Cable(networks, self.name, near=middle, near_device="bridge-far", wired=wired)
        for port in ("bridge-near", "bridge-far"):
            middle.join(port, self.name)
            middle.up(port)
        middle.up(self.name)
        return self.between(networks, cable.ports, self.name, self.configure(networks, self.name))


class Router(Way):
    """Two subnets and a third namespace that forwards between them: the TTL falls by one."""

    name = "router"
    crosses = "a third namespace that forwards between two veth pairs: TTL 63"

    def make(self, networks: Networks, *, wired: bool) -> Made:
        middle = networks.middle
        networks.near.add_pair(self.name, middle, "router-near")
        cable = Cable(networks, self.name, near=middle, near_device="router-far", wired=wired)
        missing: dict[int, int] = {}
        sides = ((networks.near, "router-near", 1), (networks.far, "router-far", 2))
        for network, device, end in sides:
            middle.sysctl(f"ipv6/conf/{device}/disable_ipv6", 0)
            hop = {family: self._hop(family, end) for family in (4, 6)}
            missing |= network.configure(self.name, self.subnet(end), (25, 112))
            missing |= middle.configure(device, hop, (25, 112))
        for network, _device, end in sides:
            for family in {4, 6} - missing.keys():
                network.route(self._net(family, 3 - end), self._hop(family, end))
        middle.sysctl("ipv4/ip_forward", 1)
        middle.sysctl("ipv6/conf/all/forwarding", 1)
        made = self.between(networks, cable.ports, self.name, missing)
        return Made(replace(made.link, hops={"near": "router-near", "far": "router-far"}), made.ports)

    def subnet(self, end: int, *, part: int = 0) -> Addresses:
        """The halves of the link's subnet: one on either side of the router."""
        number = ORDER.index(self.name)
        return {4: f"198.18.{number}.{1 if end == 1 else 129}", 6: f"2001:2:0:{number:x}::{end}:1"}

    def _hop(self, family: int, end: int) -> str:
        number = ORDER.index(self.name)
        return f"198.18.{number}.{126 if end == 1 else 254}" if family == 4 else f"2001:2:0:{number:x}::{end}:fe"

    def _net(self, family: int, end: int) -> str:
        number = ORDER.index(self.name)
        return f"198.18.{number}.{0 if end == 1 else 128}/25" if family == 4 else f"2001:2:0:{number:x}::{end}:0/112"


class _Stacked(Way):
    """A device on top of one end of a cable; the other end of the cable is the far end."""

    kind: ClassVar[str]
    options: ClassVar[dict[str, Any]]

    def make(self, networks: Networks, *, wired: bool) -> Made:
        lower = f"{self.name}-lower"
        cable = Cable(networks, self.name, near_device=lower, wired=wired)
        networks.near.sysctl(f"ipv6/conf/{lower}/disable_ipv6", 1)
        networks.near.up(lower)
        networks.near.add(self.name, self.kind, link=networks.near.index(lower), **self.options)
        return self.between(networks, cable.ports, self.name, self.configure(networks, self.name))


class Macvlan(_Stacked):
    name = kind = "macvlan"
    options: ClassVar = {"macvlan_mode": "bridge"}
    crosses = "a macvlan device, with a MAC address of its own, on a veth"
    needs = "macvlan"
    fix = MODULE_FIX.format("macvlan", "macvlan")


class Ipvlan(_Stacked):
    name = kind = "ipvlan"
    options: ClassVar = {"ipvlan_mode": 0}  # IPVLAN_MODE_L2
    crosses = "an ipvlan device, which shares the MAC address of the veth below"
    needs = "ipvlan"
    fix = MODULE_FIX.format("ipvlan", "ipvlan")


class _TunTap(Way):
    """Two devices whose other side is a descriptor; the wire carries packets from one descriptor to the other."""

    wired = True
    kind: ClassVar[int]
    header: ClassVar[int]
    needs = "/dev/net/tun"
    fix = "Let this user open it (chmod 0666 /dev/net/tun, as many distributions do), or run as root"

    def make(self, networks: Networks, *, wired: bool) -> Made:
        ports = []
        for network in (networks.near, networks.far):
            with network.inside():
                ports.append(tuntap.open_tunnel(self.name, self.kind))
        return self.between(networks, ports, self.name, self.configure(networks, self.name), wire=self.header)


class Tun(_TunTap):
    name = "tun"
    kind, header = tuntap.IFF_TUN, 0
    crosses = "IP packets by way of a program: two tun devices, joined by the wire"


class Tap(_TunTap):
    name = "tap"
    kind, header = tuntap.IFF_TAP, ETHERNET
    crosses = "Ethernet frames by way of a program: two tap devices, joined by the wire"


LINKS: dict[str, Way] = {
    way.name: way
    for way in (
        Lo(), LoNet(), Own(), Veth(), Bridge(), Router(), Macvlan(), Ipvlan(), Vlan(), Vxlan(), Gre(), Ipip(), Sit(),
        Wireguard(), Tun(), Tap(),
    )
}  # fmt: skip


#: What stands for all addresses of the prefix that lo-net routes to lo.
LO_NET_IPV6 = LINKS["lo-net"].subnet(2)[6]


def lo(mtu: int) -> Link:
    """The description of a loopback interface, whose addresses the kernel chose."""
    return Link(
        name="lo",
        near={4: "127.0.0.1", 6: "::1"},
        far={4: "127.0.0.1", 6: "::1"},
        far_end="near",
        mtu=mtu,
        devices={"near": "lo"},
        crosses=Lo.crosses,
    )


def lo_net(mtu: int, missing: dict[int, int], ipv6: str) -> Link:
    """The description of lo when asked at another of its addresses; 127.0.0.2 is there wherever lo is."""
    far = {4: "127.0.0.2", 6: ipv6}
    return Link(
        name="lo-net",
        near={4: "127.0.0.1", 6: "::1"},
        far={family: address for family, address in far.items() if family not in missing},
        far_end="near",
        mtu=mtu,
        devices={"near": "lo"},
        crosses=LoNet.crosses,
        missing=missing,
    )
