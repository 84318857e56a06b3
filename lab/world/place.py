"""Where links live: a private world, or a network that is there already. All answer to the same few calls."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from lab import native
from lab.checks import pick
from lab.conditions import BASELINES, NIC, pick_way
from lab.errors import Unavailable, UsageError
from lab.impairments import Impairment, parse_impairment
from lab.wire import Wire
from lab.world.baselines import baseline
from lab.world.client import Client, Refused
from lab.world.describe import offloads, sysctls
from lab.world.kernel import link_mtu
from lab.world.link import Link
from lab.world.links import LINKS, lo, lo_net

__all__ = ["USERNS_FIX", "HostWorld", "JoinedWorld", "Place", "PrivateWorld", "Skipped", "host_socket", "visit"]

ENDS = ("near", "far", "middle")
USERNS_FIX = (
    "Allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu; "
    "user.max_user_namespaces above 0; --security-opt seccomp=unconfined in a container), "
    "run as root, or measure this machine's own lo with --world host"
)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that could not be measured here: the errno of an actual attempt, why, and what would mend it."""

    link: str
    reason: str
    errno: int | None
    fix: str
    family: int | None = None
    probe: str | None = None


class Place(Protocol):
    """A network with links in it, where sockets can be opened."""

    kind: str
    impair: Impairment | None
    links: dict[str, Link]
    wires: dict[str, Wire]
    skipped: list[Skipped]

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002
        """A socket of the namespace at `end` ("near", "far" or "middle"). Raises Unavailable."""
        ...

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        ...

    def close(self) -> None:
        """Lets go of it. Sockets that were opened here live on."""
        ...


class PrivateWorld:
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
            self.rights = _greet(self._client)
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
            _add_existing(self, name)
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
        return Wire(near, far, (each, each), seed=impair.seed if impair else 0, header_bytes=header_bytes)

    @property
    def pid(self) -> int:
        """The helper's process: ``nsenter --target PID --net`` enters the near namespace."""
        return self._client.pid

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002
        """A socket of the namespace at `end` ("near", "far" or "middle"). Raises Unavailable."""
        pick("end", end, ENDS)
        return _open_socket(self._client, end, family, type, proto)

    def popen(self, command: Sequence[str], *, end: str = "near", **options: Any) -> subprocess.Popen[Any]:
        """Starts a program in the namespace at `end` ("near", "far" or "middle"), as your user.

        options: those of ``subprocess.Popen``, whose object it returns. A program that can't be executed exits with 127
        or 126, as in a shell. It lives on when the world is closed: end it first. Raises Unavailable.
        """
        pick("end", end, ENDS)
        try:
            net = self._client.ask_descriptor("namespace", end=end)
        except Refused as error:
            raise Unavailable(f"enter {end}: {error.filename}", errno=error.errno, fix="See lab doctor") from None
        descriptors = [net]
        try:
            if self.rights != "root":
                descriptors.append(self._client.ask_descriptor("users"))
            user = descriptors[1] if len(descriptors) > 1 else -1
            launcher = [sys.executable, "-P", "-m", "lab.world.enter", str(user), str(net)]
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
        for wire in self.wires.values():
            wire.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _of_a_direction(impair: Impairment) -> native.Impairment:
    """An impairment in the terms of the wire's loop."""
    to_bad, to_good, bad, good = impair.burst or (0.0, 0.0, 0.0, impair.loss)
    return native.Impairment(
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


def _greet(client: Client, join: int | None = None) -> str:
    """Makes the helper's namespaces, or joins those of a process. Returns by what right. Raises Unavailable."""
    try:
        return str(client.ask("hello", join=join)["rights"])
    except Refused as error:
        if join is None:
            raise Unavailable(
                f"cannot make a private network: {error.filename}", errno=error.errno, fix=USERNS_FIX
            ) from None
        raise Unavailable(
            f"cannot join the network of process {join}: {error.filename}",
            errno=error.errno,
            fix="Name a running process of your own, such as one that lab exec started, or run as root",
        ) from None


def _open_socket(client: Client, end: str, family: int, type_: int, proto: int) -> socket.socket:
    try:
        descriptor = client.ask_descriptor("socket", end=end, family=int(family), type=int(type_), proto=int(proto))
    except Refused as error:
        raise Unavailable(f"socket: {error.filename}", errno=error.errno, fix="See lab doctor") from None
    return socket.socket(fileno=descriptor)


def _not_made(name: str, error: Refused, impair: Impairment | None) -> Skipped:
    """Why a link is not there; where it was to be impaired, that may be all there is to it."""
    way = LINKS[name]
    fix = way.fix
    if impair and not (way.wireable and impair.by != "netem"):
        fix = "Load netem (modprobe sch_netem), where the kernel has it; or impair veth, which the wire can do"
    reason = f"cannot make the link: {error.filename}"
    if error.errno is not None:
        reason = Unavailable(reason, errno=error.errno, fix="").reason
    return Skipped(link=name, reason=reason, errno=error.errno, fix=fix)


def _add_existing(place: Place, name: str) -> None:
    """Adds what needs no making: a baseline, or a network card of the machine's own. Raises UsageError."""
    if name in BASELINES:
        place.links[name] = baseline(name)
        return
    device = name.removeprefix(NIC)
    try:
        socket.if_nametoindex(device)
    except OSError:
        known = ", ".join(found for _index, found in socket.if_nameindex())
        raise UsageError(f"{name}: this machine has no interface {device!r}; it has {known}") from None
    place.links[name] = Link(
        name=name,
        near={},
        far={},
        far_end="host",
        mtu=link_mtu(device),
        devices={"host": device},
        crosses="this machine's own network card, and whatever lies beyond it",
    )


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
                self.links[name] = lo_net(self._lo_mtu(), {6: errno.EADDRNOTAVAIL}, "")
            elif name not in LINKS:
                _add_existing(self, name)
            else:
                fix = "Leave --world out, or give --world new"
                reason = f"{name} is made in a private world, never {self._whose}"
                self.skipped.append(Skipped(link=name, reason=reason, errno=None, fix=fix))

    def _lo_mtu(self) -> int:
        return link_mtu("lo")

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002, ARG002
        """A socket of the machine's own network. Raises Unavailable."""
        return host_socket(family, type, proto)

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        devices = {device for link in self.links.values() for device in link.devices.values()}
        # pyroute2 runs an event loop of its own, which a notebook's thread, having one already, would refuse.
        with ThreadPoolExecutor(1) as elsewhere:
            found = {f"near {name}": elsewhere.submit(offloads, name).result() for name in sorted(devices)}
        return {"sysctls": sysctls(), "offloads": found}

    def close(self) -> None:
        """There is nothing to let go of."""


def host_socket(family: int, type_: int, proto: int = 0) -> socket.socket:
    """A socket of the machine's own network. Raises Unavailable."""
    try:
        return socket.socket(family, type_, proto)
    except OSError as error:
        raise Unavailable("socket: socket(2)", errno=error.errno, fix="See lab doctor") from error


class JoinedWorld(HostWorld):
    """The network of a running process, such as one that ``lab exec`` started: its lo, and nothing is changed there.

    Raises Unavailable if it can't be joined: there is no such process, or it is somebody else's.
    """

    _whose = "in that of a process"

    def __init__(self, pid: int, links: Iterable[str] = ("lo",)) -> None:
        self.kind = str(pid)
        self._client = Client()
        try:
            self.rights = _greet(self._client, pid)
            super().__init__(links)
        except BaseException:
            self.close()
            raise

    def _lo_mtu(self) -> int:
        return int(self._client.ask("mtu", device="lo")["mtu"])

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002, ARG002
        """A socket of that process's network. Raises Unavailable."""
        return _open_socket(self._client, "near", family, type, proto)

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of lo, for a study's metadata."""
        found: dict[str, Any] = self._client.ask("describe", devices={"near": ["lo"]})
        return found

    def close(self) -> None:
        """Ends the helper."""
        self._client.close()


@contextlib.contextmanager
def visit(
    world: str | int | Place | None, links: Iterable[str], impair: Impairment | None = None
) -> Iterator[tuple[Place, list[str]]]:
    """The place that ``--world`` names, and warnings; what was opened for the purpose is closed at the end.

    "new": a private one; "host": the machine's own; a number: that of a process. None: a private one or, where the
    machine refuses it, the host's lo, with a warning. A place that is open already stays so.
    Raises Unavailable, or UsageError for another name.
    """
    if world is not None and not isinstance(world, str | int):
        if impair is not None:
            raise UsageError("this world is made already: give the impairment to it, World(links, impair=…)")
        yield world, []
        return
    place, warnings = _open(world, list(links), impair)
    try:
        yield place, warnings
    finally:
        place.close()


def _open(world: str | int | None, links: list[str], impair: Impairment | None) -> tuple[Place, list[str]]:
    text = "new" if world is None else str(world)
    if text not in ("new", "host") and not text.isdecimal():
        raise UsageError(
            f"unknown world {world!r}: choose new (a private one), host (this machine's own), or a process's number"
        )
    if text != "new":
        if impair:
            raise UsageError("--impair changes a network: leave --world out, for a private one")
        return (HostWorld(links) if text == "host" else JoinedWorld(int(text), links)), []
    try:
        return PrivateWorld(links, impair=impair), []
    except Unavailable as error:
        if world == "new" or impair or "lo" not in links:
            raise
        host = HostWorld(links)
        host.skipped = [
            Skipped(link=skip.link, reason=error.reason, errno=error.errno, fix=error.fix) for skip in host.skipped
        ]
        return host, [f"measured on this machine's own lo, which may have rules of its own: {error.reason}"]
