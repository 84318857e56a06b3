"""One network namespace and what is done in it: devices, addresses, routes, over netlink. Runs in the helper."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.world import kernel

__all__ = ["Addresses", "Network"]

_IFA_F_NODAD = 0x02  # no duplicate address detection: the address is usable at once
_RTN_LOCAL, _RT_TABLE_LOCAL, _RT_TABLE_MAIN = 2, 255, 254
_RT_SCOPE_HOST = 254
#: What becomes of packets that a route is for (linux/rtnetlink.h).
_ROUTE_KINDS = {"unicast": 1, "local": _RTN_LOCAL, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_TC_H_ROOT = 0xFFFFFFFF

#: An address for each family.
Addresses = dict[int, str]


class Network:
    """A network namespace. Whatever the kernel refuses becomes an OSError that names what was tried."""

    def __init__(self, descriptor: int) -> None:
        """descriptor: keeps the namespace alive."""
        self.descriptor = descriptor
        self._made: list[str] = []
        self._qdiscs: set[str] = set()

    @cached_property
    def _ip(self) -> Any:
        """A netlink socket of this namespace, whichever one the caller is in later."""
        from pyroute2 import IPRoute  # 0.15 s, which a world of nothing but lo is spared

        with self.inside():
            return IPRoute()

    @contextlib.contextmanager
    def _ask(self, what: str) -> Iterator[Any]:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            yield self._ip
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code), what) from error

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Runs a block in this namespace."""
        return kernel.inside(self.descriptor)

    def index(self, device: str) -> int:
        """The ifindex of a device."""
        with self._ask(f"look up {device}") as ip:
            return int(ip.link_lookup(ifname=device)[0])

    def add(self, device: str, kind: str, **options: Any) -> None:
        """Makes a device (ip link add)."""
        with self._ask(f"add a device of type {kind}") as ip:
            ip.link("add", ifname=device, kind=kind, **options)
        self._made.append(device)

    def marker(self) -> int:
        """What ``undo`` takes to remove the devices that are made from now on."""
        return len(self._made)

    def undo(self, marker: int) -> None:
        """Removes the devices that were made here since then, where they are still there."""
        for device in reversed(self._made[marker:]):
            with contextlib.suppress(OSError), self._ask(f"remove {device}") as ip:
                ip.link("del", ifname=device)
        del self._made[marker:]

    def add_pair(self, device: str, other: Network, peer: str) -> None:
        """Makes a veth pair: one end here, its peer in another namespace."""
        self.add(device, "veth", peer={"ifname": peer, "net_ns_fd": other.descriptor})

    def join(self, device: str, bridge: str) -> None:
        """Makes a device a port of a bridge."""
        with self._ask(f"make {device} a port of {bridge}") as ip:
            ip.link("set", index=self.index(device), master=self.index(bridge))

    def up(self, device: str) -> None:
        """Brings a device up."""
        with self._ask(f"bring {device} up") as ip:
            ip.link("set", index=self.index(device), state="up")

    def configure(self, device: str, addresses: Addresses, lengths: tuple[int, int] = (24, 64)) -> dict[int, int]:
        """Gives a device its addresses and brings it up. Returns {6: errno} where the kernel takes no IPv6 address.

        lengths: of the prefixes, for IPv4 and for IPv6; `addresses` may lack either.
        """
        self.up(device)
        index = self.index(device)
        missing = {}
        for family, address in sorted(addresses.items()):
            length = lengths[family == 6]
            try:
                with self._ask(f"give {device} an IPv{family} address") as ip:
                    ip.addr("add", index=index, address=address, prefixlen=length, flags=_IFA_F_NODAD)
            except OSError as error:
                if family == 4:
                    raise
                missing[family] = error.errno or 0
        return missing

    def set_link(
        self, device: str, up: bool | None, *, mtu: int | None = None, checksums_left: bool | None = None
    ) -> None:
        """Brings a device up or down, sets its MTU, or who fills in checksums; None: as it is."""
        if checksums_left is not None:
            with self.inside():
                kernel.leave_checksums(device, checksums_left)
        wanted: dict[str, Any] = {} if mtu is None else {"mtu": mtu}
        if up is not None:
            wanted["state"] = "up" if up else "down"
        if wanted:
            with self._ask(f"set {wanted} of {device}") as ip:
                ip.link("set", index=self._existing(device), **wanted)

    def change_address(self, verb: str, device: str, address: str) -> None:
        """Gives a device an address ("add"), or takes it away ("del"); address: with the length of its prefix."""
        host, _, length = address.partition("/")
        more = {"flags": _IFA_F_NODAD} if verb == "add" else {}
        with self._ask(f"{verb} {address} {'to' if verb == 'add' else 'from'} {device}") as ip:
            ip.addr(verb, index=self._existing(device), address=host, prefixlen=int(length), **more)

    def change_route(self, verb: str, destination: str, device: str | None, gateway: str | None, kind: str) -> None:
        """Adds a route ("add"), or removes it ("del"); kind: as ip-route(8) calls its types."""
        how: dict[str, Any] = {"type": _ROUTE_KINDS[kind]}
        how["table"] = _RT_TABLE_LOCAL if kind == "local" else _RT_TABLE_MAIN
        if device is not None:
            how["oif"] = self._existing(device)
        if gateway is not None:
            how["gateway"] = gateway
        if kind == "local":
            how["scope"] = _RT_SCOPE_HOST
        with self._ask(f"{verb} a route of type {kind} to {destination}") as ip:
            ip.route(verb, dst=destination, **how)

    def _existing(self, device: str) -> int:
        with self.inside():
            try:
                return socket.if_nametoindex(device)
            except OSError:  # which has no errno
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"look up {device}") from None

    def route(self, destination: str, gateway: str) -> None:
        """Sends what goes to `destination` (address/length) by way of `gateway`."""
        with self._ask(f"route {destination} by way of {gateway}") as ip:
            ip.route("add", dst=destination, gateway=gateway)

    def route_to_self(self, destination: str) -> None:
        """Makes every address of `destination` this namespace's own, over lo."""
        with self._ask(f"route {destination} to lo") as ip:
            ip.route("add", dst=destination, oif=self.index("lo"), type=_RTN_LOCAL, table=_RT_TABLE_LOCAL)

    def netem(self, device: str, options: dict[str, Any]) -> None:
        """Puts a netem qdisc at the root of a device, if there is none yet: links may share lo."""
        if device in self._qdiscs:
            return
        with self._ask(f"put netem on {device}") as ip:
            ip.tc("add", "netem", index=self.index(device), **options)
        self._qdiscs.add(device)

    def remove_qdisc(self, device: str) -> None:
        """Takes the root qdisc off a device again."""
        with self._ask(f"take the qdisc off {device}") as ip:
            ip.tc("del", index=self.index(device), parent=_TC_H_ROOT)
        self._qdiscs.discard(device)

    def sysctl(self, name: str, value: int) -> None:
        """Sets net.<name>, its parts divided by slashes."""
        with self.inside():
            path = Path("/proc/sys/net", name)
            try:
                path.write_text(str(value))
            except FileNotFoundError:
                if not name.startswith("ipv6/"):  # a kernel without IPv6 has nothing to set
                    raise
            except OSError as error:
                raise OSError(error.errno, error.strerror, f"write {path}") from None

    def wireguard_key(self, device: str, private: bytes, port: int) -> bytes:
        """Sets the private key and the port of a WireGuard device. Returns its public key, in base64."""
        with self.inside(), self._wireguard() as wg:
            wg.set(device, private_key=base64.b64encode(private), listen_port=port)
            return bytes(wg.info(device)[0].get("WGDEVICE_A_PUBLIC_KEY"))

    def wireguard_peer(self, device: str, key: bytes, address: str, port: int) -> None:
        """Tells a WireGuard device of its one peer, to which everything goes."""
        peer = {
            "public_key": key,
            "endpoint_addr": address,
            "endpoint_port": port,
            "allowed_ips": ["0.0.0.0/0", "::/0"],
        }
        with self.inside(), self._wireguard() as wg:
            wg.set(device, peer=peer)

    @contextlib.contextmanager
    def _wireguard(self) -> Iterator[Any]:
        from pyroute2 import WireGuard
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with WireGuard() as wg:
                yield wg
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code), "configure WireGuard") from error

    def mtu(self, device: str) -> int:
        """The MTU of a device, in bytes."""
        with self.inside():
            return kernel.link_mtu(device)
