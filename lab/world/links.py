"""Every link that can be made, a class each. Runs in the helper, inside the namespaces.

To add one: a subclass of ``Way`` with its texts and a ``make`` that leaves the link up in both families, its name in
``lab.conditions.LINKS``. Each link has devices and subnets of its own, so that any of them can be made with any other.
Addresses are those set aside for benchmarks (198.18.0.0/15 in RFC 2544, 2001:2::/48 in RFC 5180).
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from lab.conditions import LINKS as ORDER
from lab.world import tunnel
from lab.world.cables import ETHERNET, Cable
from lab.world.kernel import link_mtu
from lab.world.link import Link
from lab.world.netlink import Addresses, Network

__all__ = ["LINKS", "Made", "Networks", "Way", "lo", "lo_net"]

_MODULE_FIX = "Load the kernel module {} (modprobe {}), where the kernel has it"


class Networks(Protocol):
    """What links are made in: namespaces, each made when first asked for. ``middle`` lies between the ends."""

    @property
    def near(self) -> Network: ...
    @property
    def far(self) -> Network: ...
    @property
    def middle(self) -> Network: ...


class Made:
    """A link that is up, and the two descriptors that the wire is to join, where it has them."""

    def __init__(self, link: Link, ports: list[int]) -> None:
        self.link, self.ports = link, ports


class Way(ABC):
    """One kind of link.

    name: as users write it. crosses: what every packet crosses. needs: beside a network namespace. fix: what to do
    where it can't be made. wireable: whether the wire can join it.
    wired: whether it always does.
    """

    name: ClassVar[str]
    crosses: ClassVar[str]
    needs: ClassVar[str] = "nothing more"
    fix: ClassVar[str] = "Raise user.max_net_namespaces, or run as root"
    wireable: ClassVar[bool] = True
    wired: ClassVar[bool] = False

    def subnet(self, end: int, *, part: int = 0) -> Addresses:
        """The addresses of an end (1 or 2). part 1: of what lies under the link."""
        number = ORDER.index(self.name)
        return {4: f"198.{18 + part}.{number}.{end}", 6: f"2001:2:{part:x}:{number:x}::{end}"}

    @abstractmethod
    def make(self, networks: Networks, *, wired: bool) -> Made:
        """Makes the link. wired: joined by the wire, so that it can be impaired. Raises OSError naming the attempt."""

    def between(
        self, networks: Networks, ports: list[int], device: str, missing: dict[int, int], *, wire: int = ETHERNET
    ) -> Made:
        """The description of a link from near to far whose devices have the same name at both ends."""
        near, far = self.subnet(1), self.subnet(2)
        link = Link(
            name=self.name,
            near={family: address for family, address in near.items() if family not in missing},
            far={family: address for family, address in far.items() if family not in missing},
            far_end="far",
            mtu=networks.near.mtu(device),
            devices={"near": device, "far": device},
            crosses=self.crosses,
            missing=missing,
            wire=wire if ports else None,
        )
        return Made(link, ports)

    def configure(self, networks: Networks, device: str) -> dict[int, int]:
        """Gives the device at either end its addresses."""
        missing = networks.near.configure(device, self.subnet(1))
        return missing | networks.far.configure(device, self.subnet(2))


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
        prefix = self.subnet(0)[6].removesuffix("0") + "/64"
        missing = {}
        try:
            networks.near.route_to_self(prefix)
        except OSError as error:
            missing[6] = error.errno or 0
        with networks.near.inside():
            return Made(lo_net(link_mtu("lo"), missing, self.subnet(2)[6]), [])


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
    fix = _MODULE_FIX.format("bridge", "bridge")

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
        return self.between(networks, cable.ports, self.name, missing)

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
    fix = _MODULE_FIX.format("macvlan", "macvlan")


class Ipvlan(_Stacked):
    name = kind = "ipvlan"
    options: ClassVar = {"ipvlan_mode": 0}  # IPVLAN_MODE_L2
    crosses = "an ipvlan device, which shares the MAC address of the veth below"
    needs = "ipvlan"
    fix = _MODULE_FIX.format("ipvlan", "ipvlan")


class _Tunnelled(Way):
    """A device at either end whose packets travel inside those of a cable below."""

    def make(self, networks: Networks, *, wired: bool) -> Made:
        lower = f"{self.name}-lower"
        cable = Cable(networks, lower, wired=wired)
        for network, end in ((networks.near, 1), (networks.far, 2)):
            network.configure(lower, self.subnet(end, part=1))
            self.add(network, lower, self.subnet(end, part=1), self.subnet(3 - end, part=1))
        self.join(networks)
        return self.between(networks, cable.ports, self.name, self.configure(networks, self.name))

    @abstractmethod
    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        """Makes the device of one end."""

    def join(self, networks: Networks) -> None:
        """What must be told to both ends once both are there."""


class Vlan(_Tunnelled):
    name = "vlan"
    crosses = "an 802.1Q VLAN, tagged, on a veth pair"
    needs = "8021q"
    fix = _MODULE_FIX.format("8021q", "8021q")
    wireable = False  # a packet socket shows frames without their tag

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "vlan", link=network.index(lower), vlan_id=127)


class Vxlan(_Tunnelled):
    name = "vxlan"
    crosses = "Ethernet frames inside UDP (VXLAN, RFC 7348), on a veth pair"
    needs = "vxlan"
    fix = _MODULE_FIX.format("vxlan", "vxlan")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(
            self.name,
            "vxlan",
            vxlan_id=127,
            vxlan_link=network.index(lower),
            vxlan_local=local[4],
            vxlan_group=remote[4],
            vxlan_port=4789,
        )


class Gre(_Tunnelled):
    name = "gre"
    crosses = "packets inside IPv4 (GRE, RFC 2784), on a veth pair"
    needs = "ip_gre"
    fix = _MODULE_FIX.format("ip_gre", "ip_gre")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "gre", gre_local=local[4], gre_remote=remote[4])


class Ipip(_Tunnelled):
    """One device for each family, as ipip carries IPv4 only."""

    name = "ipip"
    crosses = "IPv4 inside IPv4, IPv6 inside IPv6 (RFC 2003, 2473), on a veth pair"
    needs = "ipip, ip6_tunnel"
    fix = _MODULE_FIX.format("ipip and ip6_tunnel", "-a ipip ip6_tunnel")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "ipip", ipip_local=local[4], ipip_remote=remote[4])
        network.add(f"{self.name}6", "ip6tnl", ip6tnl_local=local[6], ip6tnl_remote=remote[6])

    def configure(self, networks: Networks, device: str) -> dict[int, int]:
        for network, end in ((networks.near, 1), (networks.far, 2)):
            network.configure(device, {4: self.subnet(end)[4]})
            network.configure(f"{device}6", {6: self.subnet(end)[6]})
        return {}


class Sit(_Tunnelled):
    name = "sit"
    crosses = "IPv6, or IPv4, inside IPv4 (RFC 4213), on a veth pair"
    needs = "sit"
    fix = _MODULE_FIX.format("sit", "sit")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "sit", sit_local=local[4], sit_remote=remote[4], sit_proto=0)  # 0: carries both


class Wireguard(_Tunnelled):
    name = "wireguard"
    crosses = "packets encrypted inside UDP (WireGuard), on a veth pair"
    needs = "wireguard"
    fix = _MODULE_FIX.format("wireguard", "wireguard")
    port = 51820

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "wireguard")

    def join(self, networks: Networks) -> None:
        """Each end learns the public key of the other, which the kernel works out of the private one."""
        ends = ((networks.near, 1), (networks.far, 2))
        keys = {end: network.wireguard_key(self.name, secrets.token_bytes(32), self.port) for network, end in ends}
        for network, end in ends:
            network.wireguard_peer(self.name, keys[3 - end], self.subnet(3 - end, part=1)[4], self.port)


class _Tunnel(Way):
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
                ports.append(tunnel.open_tunnel(self.name, self.kind))
        return self.between(networks, ports, self.name, self.configure(networks, self.name), wire=self.header)


class Tun(_Tunnel):
    name = "tun"
    kind, header = tunnel.IFF_TUN, 0
    crosses = "IP packets by way of a program: two tun devices, joined by the wire"


class Tap(_Tunnel):
    name = "tap"
    kind, header = tunnel.IFF_TAP, ETHERNET
    crosses = "Ethernet frames by way of a program: two tap devices, joined by the wire"


LINKS: dict[str, Way] = {
    way.name: way
    for way in (
        Lo(), LoNet(), Own(), Veth(), Bridge(), Router(), Macvlan(), Ipvlan(), Vlan(), Vxlan(), Gre(), Ipip(), Sit(),
        Wireguard(), Tun(), Tap(),
    )
}  # fmt: skip


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
