"""Links whose packets travel inside others: a device at either end, and a veth pair, or the wire, below.

Each is what the kernel's own module of that name makes; a kernel without it has no such link.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from dataclasses import replace

from lab.world.cables import Cable
from lab.world.netlink import Addresses, Network
from lab.world.way import MODULE_FIX, Made, Networks, Way

__all__ = ["Gre", "Ipip", "Sit", "Vlan", "Vxlan", "Wireguard"]


class Tunnelled(Way):
    """A device at either end whose packets travel inside those of a cable below."""

    def make(self, networks: Networks, *, wired: bool) -> Made:
        lower = f"{self.name}-u"  # what lies under it; a name has 15 bytes at most
        cable = Cable(networks, lower, wired=wired)
        for network, end in ((networks.near, 1), (networks.far, 2)):
            network.configure(lower, self.subnet(end, part=1))
            self.add(network, lower, self.subnet(end, part=1), self.subnet(3 - end, part=1))
        self.join(networks)
        return self.between(networks, cable.ports, self.name, self.configure(networks, self.name))

    def impaired_device(self, device: str) -> str:
        """What all of its packets leave by, whichever of its devices they came from."""
        return f"{self.name}-u"

    @abstractmethod
    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        """Makes the device of one end."""

    def join(self, networks: Networks) -> None:
        """What must be told to both ends once both are there."""


class Vlan(Tunnelled):
    name = "vlan"
    crosses = "an 802.1Q VLAN, tagged, on a veth pair"
    needs = "8021q"
    fix = MODULE_FIX.format("8021q", "8021q")
    wireable = False  # a packet socket shows frames without their tag

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "vlan", link=network.index(lower), vlan_id=127)


class Vxlan(Tunnelled):
    name = "vxlan"
    crosses = "Ethernet frames inside UDP (VXLAN, RFC 7348), on a veth pair"
    needs = "vxlan"
    fix = MODULE_FIX.format("vxlan", "vxlan")

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


class Gre(Tunnelled):
    name = "gre"
    crosses = "packets inside IPv4 (GRE, RFC 2784), on a veth pair"
    needs = "ip_gre"
    fix = MODULE_FIX.format("ip_gre", "ip_gre")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "gre", gre_local=local[4], gre_remote=remote[4])


class Ipip(Tunnelled):
    """One device for each family, as ipip carries IPv4 only."""

    name = "ipip"
    crosses = "IPv4 inside IPv4, IPv6 inside IPv6 (RFC 2003, 2473), on a veth pair"
    needs = "ipip, ip6_tunnel"
    fix = "Load the kernel modules ipip and ip6_tunnel (modprobe -a ipip ip6_tunnel), where the kernel has them"

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "ipip", ipip_local=local[4], ipip_remote=remote[4])
        network.add(f"{self.name}6", "ip6tnl", ip6tnl_local=local[6], ip6tnl_remote=remote[6])

    def make(self, networks: Networks, *, wired: bool) -> Made:
        made = super().make(networks, wired=wired)
        return Made(replace(made.link, mtu=min(made.link.mtu, networks.near.mtu(f"{self.name}6"))), made.ports)

    def configure(self, networks: Networks, device: str) -> dict[int, int]:
        for network, end in ((networks.near, 1), (networks.far, 2)):
            network.configure(device, {4: self.subnet(end)[4]})
            network.configure(f"{device}6", {6: self.subnet(end)[6]})
        return {}


class Sit(Tunnelled):
    name = "sit"
    crosses = "IPv6, or IPv4, inside IPv4 (RFC 4213), on a veth pair"
    needs = "sit"
    fix = MODULE_FIX.format("sit", "sit")

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "sit", sit_local=local[4], sit_remote=remote[4], sit_proto=0)  # 0: carries both


class Wireguard(Tunnelled):
    name = "wireguard"
    crosses = "packets encrypted inside UDP (WireGuard), on a veth pair"
    needs = "wireguard"
    fix = MODULE_FIX.format("wireguard", "wireguard")
    port = 51820

    def add(self, network: Network, lower: str, local: Addresses, remote: Addresses) -> None:
        network.add(self.name, "wireguard")

    def join(self, networks: Networks) -> None:
        """Each end learns the public key of the other, which the kernel works out of the private one."""
        ends = ((networks.near, 1), (networks.far, 2))
        keys = {end: network.wireguard_key(self.name, secrets.token_bytes(32), self.port) for network, end in ends}
        for network, end in ends:
            network.wireguard_peer(self.name, keys[3 - end], self.subnet(3 - end, part=1)[4], self.port)
