"""What every place has in common where links live, and what needs no making there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lab.conditions import BASELINES, NIC
from lab.errors import Unavailable, UsageError, errno_name
from lab.impairments import Impairment
from lab.wire import Wire
from lab.world.baselines import baseline
from lab.world.client import Client, Refused
from lab.world.kernel import USERNS_FIX, link_mtu
from lab.world.link import Link

__all__ = [
    "ENDS",
    "NAMESPACES_FIX",
    "Place",
    "Skipped",
    "add_existing",
    "ask_sysctl",
    "asking_for_sysctl",
    "greet",
    "host_socket",
    "open_socket",
    "require_link",
    "rights_fix",
]

ENDS = ("near", "far", "middle")
WORLD_FIX = f"{USERNS_FIX}, or measure this machine's own lo with --world host"
NAMESPACES_FIX = "Raise user.max_net_namespaces, or run as root"


def rights_fix(instead: str) -> str:
    """What to do for want of CAP_NET_RAW, beside what takes no rights."""
    return (
        f"{instead}, or run this one as root or with CAP_NET_RAW alone (sudo setpriv --reuid {os.getuid()} --regid "
        f"{os.getgid()} --init-groups --inh-caps +net_raw --ambient-caps +net_raw CMD)"
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

    def interfaces(self, *, end: str = "near") -> list[str]:
        """The names of the interfaces that are in the namespace at `end` now."""
        ...

    def sysctl(self, name: str, value: int | str | None = None, *, end: str = "near") -> str:
        """A sysctl below net/ of the namespace at `end`; a value sets it first, in a private world."""
        ...

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        ...

    def close(self) -> None:
        """Lets go of it. Sockets that were opened here live on."""
        ...


def greet(client: Client, join: int | None = None) -> str:
    """Makes the helper's namespaces, or joins those of a process. Returns by what right. Raises Unavailable."""
    try:
        return str(client.ask("hello", join=join)["rights"])
    except Refused as error:
        if join is None:
            raise Unavailable(
                f"cannot make a private network: {error.filename}", errno=error.errno, fix=WORLD_FIX
            ) from None
        raise Unavailable(
            f"cannot join the network of process {join}: {error.filename}",
            errno=error.errno,
            fix="Name a running process of your own, such as one that lab exec started, or run as root",
        ) from None


def open_socket(client: Client, end: str, family: int, type_: int, proto: int) -> socket.socket:
    """A socket of the helper's namespace at `end`. Raises Unavailable."""
    try:
        descriptor = client.ask_descriptor("socket", end=end, family=int(family), type=int(type_), proto=int(proto))
    except Refused as error:
        raise Unavailable(f"socket: {error.filename}", errno=error.errno, fix="See lab doctor") from None
    return socket.socket(fileno=descriptor)


@contextlib.contextmanager
def asking_for_sysctl(name: str) -> Iterator[None]:
    """Raises UsageError in a block that reads or sets a sysctl below net/ if there is none, else Unavailable."""
    unknown = UsageError(f"no sysctl {name!r} here: give one below net/, as in ipv4/conf/lo/route_localnet")
    if not (isinstance(name, str) and name.isprintable()) or any(part in ("", ".", "..") for part in name.split("/")):
        raise unknown
    try:
        yield
    except OSError as error:
        if isinstance(error, Unavailable):
            raise
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise unknown from None
        if error.errno == errno.EINVAL:
            raise UsageError(f"cannot {error.filename}: give a value that it takes") from None
        raise Unavailable(f"sysctl: {error.filename}", errno=error.errno, fix="See lab doctor") from None


def ask_sysctl(client: Client, end: str, name: str, value: int | str | None = None) -> str:
    """A sysctl below net/ of the helper's namespace at `end`; a value sets it first. Raises UsageError, Unavailable."""
    with asking_for_sysctl(name):
        return str(client.ask("sysctl", end=end, name=name, value=None if value is None else str(value))["value"])


def host_socket(family: int, type_: int, proto: int = 0) -> socket.socket:
    """A socket of the machine's own network. Raises Unavailable."""
    try:
        return socket.socket(family, type_, proto)
    except OSError as error:
        raise Unavailable("socket: socket(2)", errno=error.errno, fix="See lab doctor") from error


def add_existing(place: Place, name: str) -> None:
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


def require_link(place: Place, name: str) -> None:
    """Raises what kept the link from being made, if it is not there."""
    if name in place.links:
        return
    for skip in place.skipped:
        if skip.link == name:
            if skip.errno is None:
                raise UsageError(f"{skip.reason}: {skip.fix[0].lower()}{skip.fix[1:]}")
            what = skip.reason.removesuffix(f": {errno_name(skip.errno)}")
            raise Unavailable(what, errno=skip.errno, fix=skip.fix)
    raise UsageError(f"this world has no {name}: make it with World(links=[{name!r}])")
