"""The helper process: holds the namespaces, makes the links, opens sockets inside and sends them back.

Started by ``World`` as ``python -m lab.world.helper CHANNEL PARENT``. It is single-threaded, because a threaded
process cannot enter a user namespace, and it ends when its channel closes or its parent dies, however that happens.
The namespaces have no name and no file: its descriptors, and those of the sockets that it handed out, are all that
keeps them alive, so nothing is left behind after SIGKILL.

One request, one reply, as JSON on a SOCK_SEQPACKET pair; a descriptor travels beside the reply (SCM_RIGHTS).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
from dataclasses import asdict
from functools import cached_property
from typing import Any

from lab.world import kernel
from lab.world.describe import counters, offloads, sysctls
from lab.world.impair import make
from lab.world.links import LINKS
from lab.world.netlink import Network


def _join(pid: int) -> str:
    """Enters the user namespace of a process, unless that is ours, and its network."""
    with contextlib.ExitStack() as opened:
        descriptors = {}
        for name in ("user", "net"):
            descriptors[name] = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, descriptors[name])
        if not os.path.sameopenfile(descriptors["user"], own := os.open("/proc/self/ns/user", os.O_RDONLY)):
            kernel.setns(descriptors["user"], kernel.CLONE_NEWUSER)
        os.close(own)
        kernel.setns(descriptors["net"])
    return f"process {pid}"


def _forget_settings(network: Network) -> None:
    """Has IPv4 be as the kernel is built, whatever this machine is set to.

    A new namespace begins with a copy of that (net.core.devconf_inherit_init_net), though not of IPv6's settings.
    """
    for name in ("rp_filter", "route_localnet", "accept_local", "arp_ignore", "arp_announce"):
        for device in ("all", "default", "lo"):
            network.sysctl(f"ipv4/conf/{device}/{name}", 0)


def _deliver_injected(network: Network) -> None:
    """Has lo deliver IPv4 packets that were injected there as frames, as it does IPv6.

    They carry no route, unlike those that the kernel sends there, so it looks for one; and to this a packet to or from
    127.0.0.0/8 is a martian without the first of the two, and one from an own address without the second.
    """
    for name in ("route_localnet", "accept_local"):
        network.sysctl(f"ipv4/conf/lo/{name}", 1)


def _skip_address_detection(network: Network) -> None:
    """Makes IPv6 link-local addresses usable at once, as a router has no other to ask for its neighbours with.

    Otherwise the first packet that it forwards waits a second for them. Nobody else is there to have the same address.
    """
    network.sysctl("ipv6/conf/default/accept_dad", 0)


def _prepare(network: Network) -> None:
    """Makes a new namespace such as experiments expect it."""
    _forget_settings(network)
    _skip_address_detection(network)
    _deliver_injected(network)


class Namespaces:
    """The near namespace, and others as soon as a link asks for them. ``rights`` says how they could be made."""

    def __init__(self, join: int | None) -> None:
        """join: the process whose network the near namespace is to be; None for a new one."""
        self.rights = kernel.enter_private_network() if join is None else _join(join)
        self.near = Network(kernel.namespace())
        if join is None:
            _prepare(self.near)

    def _another(self) -> Network:
        kernel.unshare(kernel.CLONE_NEWNET)
        try:
            kernel.link_up("lo")
            kernel.allow_ping()
            made = Network(kernel.namespace())
        finally:
            kernel.setns(self.near.descriptor)
        _prepare(made)
        return made

    @cached_property
    def far(self) -> Network:
        """Where the far end lives, if it isn't near."""
        return self._another()

    @cached_property
    def middle(self) -> Network:
        """What lies between: bridges, routers and the wire's ends. Its devices stay silent unless told otherwise."""
        made = self._another()
        made.sysctl("ipv6/conf/default/disable_ipv6", 1)
        return made

    def end(self, name: str) -> Network:
        """The namespace of that name: near, far or middle."""
        network: Network = getattr(self, name)
        return network

    def made(self) -> list[Network]:
        """Those that were asked for so far."""
        return [self.end(name) for name in ("near", "far", "middle") if name in self.__dict__]


class Helper:
    """Carries out requests; each method below is one."""

    def __init__(self, join: int | None) -> None:
        self.namespaces = Namespaces(join)
        self.ports: dict[str, list[int]] = {}

    def hello(self) -> dict[str, Any]:
        return {"rights": self.namespaces.rights}

    def mtu(self, device: str) -> dict[str, Any]:
        return {"mtu": self.namespaces.near.mtu(device)}

    def link(self, name: str, impair: dict[str, Any] | None) -> dict[str, Any]:
        marks = [(network, network.marker()) for network in self.namespaces.made()]
        try:
            made = make(LINKS[name], self.namespaces, impair)
        except OSError:
            for network in self.namespaces.made():
                network.undo(dict(marks).get(network, 0))
            raise
        self.ports[name] = made.ports
        return asdict(made.link)

    def port(self, name: str) -> int:
        return self.ports[name].pop(0)

    def interfaces(self, end: str) -> dict[str, Any]:
        with self.namespaces.end(end).inside():
            return {"names": [name for _index, name in socket.if_nameindex()]}

    def sysctl(self, end: str, name: str, value: str | None) -> dict[str, Any]:
        with self.namespaces.end(end).inside():
            return {"value": kernel.net_sysctl(name, value)}

    def set_link(self, end: str, device: str, up: bool | None, mtu: int | None, checksums_left: bool | None) -> Any:
        self.namespaces.end(end).set_link(device, up, mtu=mtu, checksums_left=checksums_left)
        return {}

    def change_address(self, end: str, verb: str, device: str, address: str) -> dict[str, Any]:
        self.namespaces.end(end).change_address(verb, device, address)
        return {}

    def change_route(
        self, end: str, verb: str, destination: str, device: str | None, gateway: str | None, kind: str
    ) -> dict[str, Any]:
        self.namespaces.end(end).change_route(verb, destination, device, gateway, kind)
        return {}

    def counters(self, end: str) -> dict[str, Any]:
        with self.namespaces.end(end).inside():
            return {"counters": counters()}

    def namespace(self, end: str) -> int:
        return os.dup(self.namespaces.end(end).descriptor)

    def users(self) -> int:
        return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    def socket(self, end: str, family: int, type: int, proto: int) -> int:  # noqa: A002 - as in socket()
        with self.namespaces.end(end).inside():
            return socket.socket(family, type, proto).detach()

    def describe(self, devices: dict[str, list[str]]) -> dict[str, Any]:
        found: dict[str, Any] = {"sysctls": sysctls(), "offloads": {}}
        for end, names in devices.items():
            with self.namespaces.end(end).inside():
                found["offloads"] |= {f"{end} {name}": offloads(name) for name in dict.fromkeys(names)}
        return found


def _answer(helper: Helper | None, request: dict[str, Any]) -> tuple[Helper, Any]:
    """Carries out one request; the first, hello, makes or joins the namespaces."""
    if helper is None:
        helper = Helper(request.pop("join"))
    return helper, getattr(helper, request.pop("op"))(**request)


def _reply(channel: socket.socket, number: int, result: Any) -> None:
    """Sends a result back; a number is a descriptor, which goes beside an empty one."""
    if not isinstance(result, int):
        channel.send(json.dumps({"number": number, **result}).encode())
        return
    try:
        socket.send_fds(channel, [json.dumps({"number": number}).encode()], [result])
    finally:
        os.close(result)


def _serve(channel: socket.socket, parent: int) -> None:
    watched = select.poll()
    watched.register(channel, select.POLLIN)
    watched.register(parent, select.POLLIN)
    helper = None
    while True:
        ready = dict(watched.poll())
        message = channel.recv(kernel.MAX_MESSAGE) if channel.fileno() in ready else b""
        if not message:
            return
        request = json.loads(message)
        number = request.pop("number")
        try:
            helper, result = _answer(helper, request)
        except OSError as error:
            result = {"error": {"errno": error.errno, "call": error.filename or "socket(2)"}}
        else:
            result = result if isinstance(result, int) else {"result": result}
        _reply(channel, number, result)


def main() -> None:
    """Serves until the parent is gone."""
    channel, parent = int(sys.argv[1]), int(sys.argv[2])
    try:
        alive = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() == parent:
        # The parent may go at any moment, also while it is answered: that is how it ends, not an error.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _serve(socket.socket(fileno=channel), alive)


if __name__ == "__main__":
    main()
