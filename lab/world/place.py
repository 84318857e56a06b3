"""Where links live: a private world, or the machine's own network. Both answer to the same few calls."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from lab.checks import pick
from lab.conditions import LINKS
from lab.errors import Unavailable, UsageError
from lab.world.describe import offloads, sysctls
from lab.world.kernel import MAX_MESSAGE, link_mtu
from lab.world.link import Link
from lab.world.links import lo

__all__ = ["HostWorld", "Place", "Skipped", "World", "visit"]

_REPLY_S = 20  # making a link takes milliseconds; a helper that is silent for so long is stuck
_USERNS_FIX = (
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
    links: dict[str, Link]
    skipped: list[Skipped]

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002
        """A socket of the namespace at `end` ("near" or "far"). Raises Unavailable."""
        ...

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        ...

    def close(self) -> None:
        """Lets go of it. Sockets that were opened here live on."""
        ...


class World:
    """Private network namespaces with links in them, held by a helper process. Needs no privilege.

    links: their names; one that cannot be made is listed in ``skipped`` and left out of ``links``.
    Raises Unavailable if no namespace can be made, UsageError for an unknown link. A context manager.
    """

    kind = "new"

    def __init__(self, links: Iterable[str] = ("lo",)) -> None:
        names = list(dict.fromkeys(links))
        for name in names:
            pick("link", name, LINKS)
        self.links: dict[str, Link] = {}
        self.skipped: list[Skipped] = []
        self._turn = threading.Lock()  # threads share a world; each request must get its own reply
        self._numbers = itertools.count()
        self._start()
        try:
            self.rights = str(self._ask("hello")["rights"])
            for name in names:
                self._add(name)
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(_REPLY_S)
        with theirs:
            command = [sys.executable, "-P", "-m", "lab.world.helper", str(theirs.fileno()), str(os.getpid())]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
                )
            except OSError as error:
                self._channel.close()
                raise Unavailable(f"cannot start {sys.executable}", errno=error.errno, fix="See lab doctor") from error

    def _add(self, name: str) -> None:
        try:
            self.links[name] = Link.from_json(self._ask("link", name=name))
        except Unavailable as error:
            self.skipped.append(Skipped(link=name, reason=error.reason, errno=error.errno, fix=error.fix))

    def _exchange(self, op: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        number = next(self._numbers)
        try:
            self._channel.send(json.dumps({"op": op, "number": number, **arguments}).encode())
            while True:
                data, descriptors, _flags, _address = socket.recv_fds(self._channel, MAX_MESSAGE, 1)
                if not data:
                    break
                reply = json.loads(data)
                if reply["number"] == number:
                    return reply, descriptors
                for descriptor in descriptors:  # the reply to a request that was interrupted
                    os.close(descriptor)
        except TimeoutError:
            raise Unavailable(
                f"the world's helper did not answer {op!r} in {_REPLY_S} s", errno=errno.ETIMEDOUT, fix="Try again"
            ) from None
        except OSError as error:  # BrokenPipeError, ConnectionResetError; EBADF of a world that was closed
            raise Unavailable("this world has ended", errno=error.errno, fix="Make a new one") from None
        raise Unavailable("this world has ended", errno=None, fix="Make a new one")

    def _ask(self, op: str, **arguments: Any) -> Any:
        with self._turn:
            reply, descriptors = self._exchange(op, arguments)
        if "error" in reply:
            raise _refused(op, **reply["error"])
        return socket.socket(fileno=descriptors[0]) if descriptors else reply["result"]

    @property
    def pid(self) -> int:
        """The helper's process: ``nsenter --target PID --net`` enters the near namespace."""
        return self._process.pid

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002
        """A socket of the namespace at `end` ("near" or "far"). Raises Unavailable."""
        pick("end", end, ("near", "far"))
        made: socket.socket = self._ask("socket", end=end, family=int(family), type=int(type), proto=int(proto))
        return made

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of every device, for a study's metadata."""
        devices: dict[str, list[str]] = {}
        for link in self.links.values():
            for end, device in link.devices.items():
                devices.setdefault(end, []).append(device)
        found: dict[str, Any] = self._ask("describe", devices=devices)
        return found

    def close(self) -> None:
        """Ends the helper, and with it the namespaces, as soon as no socket of theirs is open."""
        self._channel.close()
        try:
            self._process.wait(_REPLY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refused(op: str, errno: int | None, call: str) -> Unavailable:
    if op == "hello":
        return Unavailable(f"cannot make a private network: {call}", errno=errno, fix=_USERNS_FIX)
    if op == "link":
        fix = "Load the kernel module of that link, or raise user.max_net_namespaces"
        return Unavailable(f"cannot make the link: {call}", errno=errno, fix=fix)
    return Unavailable(f"{op}: {call}", errno=errno, fix="See lab doctor")


class HostWorld:
    """The machine's own network: its lo, and nothing is changed there."""

    kind = "host"
    rights = "host"

    def __init__(self, links: Iterable[str] = ("lo",)) -> None:
        self.links: dict[str, Link] = {}
        self.skipped: list[Skipped] = []
        for name in dict.fromkeys(links):
            pick("link", name, LINKS)
            if name == "lo":
                self.links[name] = lo(link_mtu("lo"))
            else:
                fix = "Leave --world out, or give --world new"
                reason = f"{name} is made in a private world, never on the host"
                self.skipped.append(Skipped(link=name, reason=reason, errno=None, fix=fix))

    def socket(self, family: int, type: int, proto: int = 0, *, end: str = "near") -> socket.socket:  # noqa: A002, ARG002
        """A socket of the machine's own network. Raises Unavailable."""
        try:
            return socket.socket(family, type, proto)
        except OSError as error:
            raise _refused("socket", error.errno, "socket(2)") from error

    def describe(self) -> dict[str, Any]:
        """Sysctls, and the offloads of lo, for a study's metadata."""
        # pyroute2 runs an event loop of its own, which a notebook's thread, having one already, would refuse.
        with ThreadPoolExecutor(1) as elsewhere:
            found = {f"near {name}": elsewhere.submit(offloads, name).result() for name in self.links}
        return {"sysctls": sysctls(), "offloads": found}

    def close(self) -> None:
        """There is nothing to let go of."""


@contextlib.contextmanager
def visit(world: str | Place | None, links: Iterable[str]) -> Iterator[tuple[Place, list[str]]]:
    """The place that ``--world`` names, and warnings; what was opened for the purpose is closed at the end.

    "new": a private one; "host": the machine's own. None: a private one or, where the machine refuses it, the host's
    lo, with a warning. A place that is open already stays so. Raises Unavailable, or UsageError for another name.
    """
    if world is not None and not isinstance(world, str):
        yield world, []
        return
    place, warnings = _open(world, list(links))
    try:
        yield place, warnings
    finally:
        place.close()


def _open(world: str | None, links: list[str]) -> tuple[Place, list[str]]:
    if world not in (None, "new", "host"):
        raise UsageError(f"unknown world {world!r}: choose new (a private one) or host (this machine's own lo)")
    if world == "host":
        return HostWorld(links), []
    try:
        return World(links), []
    except Unavailable as error:
        if world == "new" or "lo" not in links:
            raise
        host = HostWorld(links)
        host.skipped = [
            Skipped(link=skip.link, reason=error.reason, errno=error.errno, fix=error.fix) for skip in host.skipped
        ]
        return host, [f"measured on this machine's own lo, which may have rules of its own: {error.reason}"]
