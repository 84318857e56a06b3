"""A private world: network namespaces of our own, with the links that were asked for."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lab.checks import check_count, pick
from lab.conditions import BASELINES, pick_way
from lab.errors import Unavailable, UsageError
from lab.impairments import Impairment, parse_impairment
from lab.managed import Managed
from lab.native import wire as native_wire
from lab.wire import Wire
from lab.world.changes import MAX_MTU, REFUSED_FIX, route, texts_of, with_length
from lab.world.client import Client, Refused
from lab.world.link import Link
from lab.world.links import LINKS
from lab.world.place import ENDS, NAMESPACES_FIX, Skipped, add_existing, ask_sysctl, greet, open_socket

__all__ = ["PrivateWorld"]

#: How long before a frame is due a wire stops sleeping: a guest's timer wakes it some 100 us late.
_LAST_STRETCH_NS = 200_000


class PrivateWorld(Managed):
    """Private network namespaces with links in them, held by a helper process. Needs no privilege.

    links: their names; one that cannot be made is listed in ``skipped`` and left out of ``links``. impair: what worsens
    every link, such as "delay=5ms,loss=1%". ``wires`` has the wire of each link that one joins.
    Raises Unavailable if no namespace can be made, UsageError for an unknown link. A context manager.
    """

    kind = "new"

    def __init__(self, links: Iterable[str] = ("lo",), *, impair: str | Impairment | None = None) -> None:
        names = list(dict.fromkeys(links))
        for name in names:
            pick_way(name)
        self.impair = parse_impairment(impair) if isinstance(impair, str) else impair
        self.links: dict[str, Link] = {}
        self.wires: dict[str, Wire] = {}
        self.skipped: list[Skipped] = []
        self._client = Client()
        try:
            self.rights = greet(self._client)
            for name in names:
                self._add(name)
        except BaseException:
            self.close()
            raise

    def _add(self, name: str) -> None:
        if name in BASELINES and self.impair:
            reason = f"{name} has no packets that could be impaired"
            self.skipped.append(Skipped(link=name, reason=reason, errno=None, fix="Measure it without --impair"))
        elif name not in LINKS:
            add_existing(self, name)
        else:
            try:
                self._make(name)
            except Refused as error:
                self.skipped.append(_not_made(name, error, self.impair))

    def _make(self, name: str) -> None:
        link = Link.from_json(self._client.ask("link", name=name, impair=self.impair and asdict(self.impair)))
        self.links[name] = link
        if link.wire is not None:
            self.wires[name] = self._join(name, link.wire, self.impair if link.impaired == "wire" else None)

    def _join(self, name: str, header_bytes: int, impair: Impairment | None) -> Wire:
        """Starts the wire between the two ports of a link."""
        descriptors = [self._client.ask_descriptor("port", name=name) for _side in ("near", "far")]
        sockets = [stat.S_ISSOCK(os.fstat(descriptor).st_mode) for descriptor in descriptors]
        near, far = (
            socket.socket(fileno=descriptor) if is_socket else os.fdopen(descriptor, "r+b", buffering=0)
            for descriptor, is_socket in zip(descriptors, sockets, strict=True)
        )
        each = _of_a_direction(impair or Impairment())
        return Wire(
            near,
            far,
            (each, each),
            seed=impair.seed if impair else 0,
            spin_ns=_LAST_STRETCH_NS if impair else 0,
            header_bytes=header_bytes,
        )

    @property
    def pid(self) -> int:
        """The helper's process: ``nsenter --target PID --net`` enters the near namespace."""
        return self._client.pid

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002
        """A socket of the namespace at `end` ("near", "far" or "middle"). Raises Unavailable."""
        pick("end", end, ENDS)
        return open_socket(self._client, end, family, type, proto)

    def interfaces(self, *, end: str = "near") -> list[str]:
        """The names of the interfaces that are in the namespace at `end` ("near", "far" or "middle") now."""
        pick("end", end, ENDS)
        try:
            return list(self._client.ask("interfaces", end=end)["names"])
        except Refused as error:
            raise Unavailable(f"look at {end}: {error.filename}", errno=error.errno, fix="See lab doctor") from None

    def sysctl(self, name: str, value: int | str | None = None, *, end: str = "near") -> str:
        """A sysctl below net/ of the namespace at `end`, such as "ipv4/conf/lo/route_localnet"; a value sets it first.

        Raises UsageError for one that there is not, or a value that it doesn't take; Unavailable if it is refused.
        """
        pick("end", end, ENDS)
        return ask_sysctl(self._client, end, name, value)

    def set_link(
        self,
        device: str,
        up: bool | None = None,
        *,
        mtu: int | None = None,
        checksums_left: bool | None = None,
        end: str = "near",
    ) -> None:
        """Brings an interface of the namespace at `end` up, or down, or changes it otherwise; None: as it is.

        checksums_left: whether checksums, and with them the cutting of segments, are left to the device, as lo needs it
        (ethtool -K tx). mtu: in bytes. Raises UsageError; Unavailable if the kernel refuses.
        """
        if up is mtu is checksums_left is None:
            raise UsageError("change what? Give up=, mtu= or checksums_left=")
        if mtu is not None:
            check_count("packet size (MTU)", mtu, high=MAX_MTU)
        self._change("set_link", end, device=device, up=up, mtu=mtu, checksums_left=checksums_left)

    def add_address(self, device: str, address: str, *, end: str = "near") -> None:
        """Gives an interface an address, such as "198.18.3.9/24". Raises UsageError, Unavailable."""
        self._change("change_address", end, verb="add", device=device, address=with_length(address))

    def remove_address(self, device: str, address: str, *, end: str = "near") -> None:
        """Takes an address such as "127.0.0.1/8" away from an interface. Raises UsageError, Unavailable."""
        self._change("change_address", end, verb="del", device=device, address=with_length(address))

    def add_route(
        self,
        destination: str,
        *,
        device: str | None = None,
        gateway: str | None = None,
        kind: str = "unicast",
        end: str = "near",
    ) -> None:
        """Tells the namespace at `end` where packets for a prefix go. Raises UsageError, Unavailable.

        kind: "unicast", by a device or a gateway; "local", to the namespace itself, of a device (lo, say); or
        "blackhole", "unreachable" or "prohibit", nowhere. As with ip-route(8).
        """
        self._change("change_route", end, verb="add", **route(destination, device, gateway, kind))

    def remove_route(
        self,
        destination: str,
        *,
        device: str | None = None,
        gateway: str | None = None,
        kind: str = "unicast",
        end: str = "near",
    ) -> None:
        """Takes such a route away. Raises UsageError, Unavailable."""
        self._change("change_route", end, verb="del", **route(destination, device, gateway, kind, removed=True))

    def counters(self, *, end: str = "near") -> dict[str, int]:
        """What the namespace at `end` has counted so far: "Icmp.InEchos", "TcpExt.ListenDrops", "Ip6.InReceives"."""
        found: dict[str, int] = self._change("counters", end)["counters"]
        return found

    def _change(self, op: str, end: str, **arguments: Any) -> Any:
        pick("end", end, ENDS)
        try:
            return self._client.ask(op, end=end, **arguments)
        except Refused as error:
            fix = REFUSED_FIX.get(error.errno or 0, "See lab doctor")
            raise Unavailable(f"cannot {error.filename}", errno=error.errno, fix=fix) from None

    def popen(
        self,
        command: Sequence[str],
        *,
        end: str = "near",
        files: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Starts a program in the namespace at `end` ("near", "far" or "middle"), as your user.

        files: texts that it finds in place of files of this machine, by their paths, such as {"/etc/hosts": "…"}; all
        others see the machine's own. options: those of ``subprocess.Popen`` but shell and executable; its object is
        returned. A program that can't be executed exits with 127 or 126, as in a shell. It lives on when the world is
        closed: end it first. Raises UsageError, Unavailable.
        """
        pick("end", end, ENDS)
        if isinstance(command, str) or not command or not command[0] or {"shell", "executable"} & options.keys():
            raise UsageError('give the command as a list, as in ["sh", "-c", "…"], without shell= or executable=')
        try:
            net = self._client.ask_descriptor("namespace", end=end)
        except Refused as error:
            raise Unavailable(f"enter {end}: {error.filename}", errno=error.errno, fix="See lab doctor") from None
        descriptors = [net]
        try:
            user = texts = -1
            if self.rights != "root":
                descriptors.append(user := self._client.ask_descriptor("users"))
            if files:
                descriptors.append(texts := texts_of(files))
            launcher = [sys.executable, "-P", "-m", "lab.world.enter", *map(str, (user, net, texts))]
            passed = (*options.pop("pass_fds", ()), *descriptors)
            return subprocess.Popen([*launcher, *map(os.fspath, command)], pass_fds=passed, **options)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        devices: dict[str, list[str]] = {}
        for link in self.links.values():
            for end, device in link.devices.items():
                devices.setdefault(end, []).append(device)
        devices.pop("host", None)
        found: dict[str, Any] = self._client.ask("describe", devices=devices)
        return found

    def close(self) -> None:
        """Ends the helper, and with it the namespaces, as soon as no socket of theirs is open."""
        with contextlib.ExitStack() as closing:  # all of it, also where a wire tells what had ended it
            closing.callback(self._client.close)
            for wire in self.wires.values():
                closing.callback(wire.close)


def _of_a_direction(impair: Impairment) -> native_wire.Impairment:
    """An impairment in the terms of the wire's loop."""
    to_bad, to_good, bad, good = impair.burst or (0.0, 0.0, 0.0, impair.loss)
    return native_wire.Impairment(
        delay_ns=impair.delay_ns,
        ipdv_ns=impair.ipdv_ns,
        distribution=impair.dist,
        cut=impair.cut or "clip",
        loss=good,
        loss_bad=bad,
        to_bad=to_bad,
        to_good=to_good,
        duplicate=impair.duplicate,
        reorder=impair.reorder,
        corrupt=impair.corrupt,
        rate_bps=impair.rate_bps,
        limit=impair.limit,
    )


def _not_made(name: str, error: Refused, impair: Impairment | None) -> Skipped:
    """Why a link is not there; where it was to be impaired, that may be all there is to it."""
    way = LINKS[name]
    if error.errno is None:  # nothing was tried, as it could not be
        fix = "Leave by= out, and impair a link that the wire can join, such as veth"
        return Skipped(link=name, reason=str(error.filename), errno=None, fix=fix)
    fix = NAMESPACES_FIX if error.errno in (errno.ENOSPC, errno.EPERM) else way.fix
    if impair and "netem" in str(error.filename):
        fix = "Load netem (modprobe sch_netem), where the kernel has it; or impair veth, which the wire can do"
    reason = Unavailable(f"cannot make the link: {error.filename}", errno=error.errno, fix=fix).reason
    return Skipped(link=name, reason=reason, errno=error.errno, fix=fix)
