"""Networks that are there already: the machine's own, and that of a running process. Nothing is changed in them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.conditions import NIC, pick_way
from lab.errors import UsageError
from lab.impairments import Impairment
from lab.wire import Wire
from lab.world.client import Client
from lab.world.describe import offloads, sysctls
from lab.world.kernel import link_mtu, net_sysctl
from lab.world.link import Link
from lab.world.links import LINKS, LO_NET_IPV6, lo, lo_net
from lab.world.place import Skipped, add_existing, ask_sysctl, asking_for_sysctl, greet, host_socket, open_socket

__all__ = ["HostWorld", "JoinedWorld"]


class HostWorld:
    """The machine's own network: its lo, and nothing is changed there."""

    kind = "host"
    rights = "host"
    impair: Impairment | None = None
    _whose = "on the host"

    def __init__(self, links: Iterable[str] = ("lo",)) -> None:
        self.links: dict[str, Link] = {}
        self.wires: dict[str, Wire] = {}
        self.skipped: list[Skipped] = []
        for name in dict.fromkeys(links):
            pick_way(name)
            if name == "lo":
                self.links[name] = lo(self._lo_mtu())
            elif name == "lo-net":
                self.links[name] = lo_net(self._lo_mtu(), self._missing(LO_NET_IPV6), LO_NET_IPV6)
            elif name.startswith(NIC) and self.kind != "host":
                raise UsageError(f"{name} is a card of this machine's own network: leave --world out")
            elif name not in LINKS:
                add_existing(self, name)
            else:
                fix = "Leave --world out, or give --world new"
                reason = f"{name} is made in a private world, never {self._whose}"
                self.skipped.append(Skipped(link=name, reason=reason, errno=None, fix=fix))

    def _lo_mtu(self) -> int:
        return link_mtu("lo")

    def _missing(self, address: str) -> dict[int, int]:
        """{6: errno} of binding to an IPv6 address, if that can't be done: it is not ours."""
        try:
            with self.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end:
                end.bind((address, 0))
        except OSError as error:
            return {6: error.errno or 0}
        return {}

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002, ARG002
        """A socket of the machine's own network. Raises Unavailable."""
        return host_socket(family, type, proto)

    def interfaces(self, *, end: str = "near") -> list[str]:  # noqa: ARG002
        """The names of the interfaces that are there now."""
        return [name for _index, name in socket.if_nameindex()]

    def sysctl(self, name: str, value: int | str | None = None, *, end: str = "near") -> str:  # noqa: ARG002
        """A sysctl below net/, such as "ipv4/conf/lo/route_localnet". Raises UsageError, also for a value to set."""
        if value is not None:
            raise UsageError(f"net/{name} is only read {self._whose}: set it in a private world")
        return self._read_sysctl(name)

    def _read_sysctl(self, name: str) -> str:
        with asking_for_sysctl(name):
            return net_sysctl(name)

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        devices = {device for link in self.links.values() for device in link.devices.values()}
        # pyroute2 runs an event loop of its own, which a notebook's thread, having one already, would refuse.
        with ThreadPoolExecutor(1) as elsewhere:
            found = {f"near {name}": elsewhere.submit(offloads, name).result() for name in sorted(devices)}
        return {"sysctls": sysctls(), "offloads": found}

    def close(self) -> None:
        """There is nothing to let go of."""


class JoinedWorld(HostWorld):
    """The network of a running process, such as one that ``lab exec`` started: its lo, and nothing is changed there.

    Raises Unavailable if it can't be joined: there is no such process, or it is somebody else's.
    """

    _whose = "in that of a process"

    def __init__(self, pid: int, links: Iterable[str] = ("lo",)) -> None:
        self.kind = str(pid)
        self._client = Client()
        try:
            self.rights = greet(self._client, pid)
            super().__init__(links)
        except BaseException:
            self.close()
            raise

    def _lo_mtu(self) -> int:
        return int(self._client.ask("mtu", device="lo")["mtu"])

    def _read_sysctl(self, name: str) -> str:
        return ask_sysctl(self._client, "near", name)

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002, ARG002
        """A socket of that process's network. Raises Unavailable."""
        return open_socket(self._client, "near", family, type, proto)

    def interfaces(self, *, end: str = "near") -> list[str]:  # noqa: ARG002
        """The names of the interfaces that are there now."""
        return list(self._client.ask("interfaces", end="near")["names"])

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of lo, for a study's metadata."""
        found: dict[str, Any] = self._client.ask("describe", devices={"near": ["lo"]})
        return found

    def close(self) -> None:
        """Ends the helper."""
        self._client.close()
