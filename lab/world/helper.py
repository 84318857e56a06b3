"""The helper process: holds the namespaces, makes the links, opens sockets inside and sends them back.

Started by ``World`` as ``python -m lab.world.helper CHANNEL PARENT``. It is single-threaded, because a threaded
process cannot enter a user namespace, and it ends when its channel closes or its parent dies, however that happens.
The namespaces have no name and no file: its descriptors, and those of the sockets that it handed out, are all that
keeps them alive, so nothing is left behind after SIGKILL.

One request, one reply, as JSON on a SOCK_SEQPACKET pair; a descriptor travels beside the reply (SCM_RIGHTS).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import sys
from dataclasses import asdict
from typing import Any

from lab.world import kernel
from lab.world.describe import offloads, sysctls
from lab.world.links import LINKS


class PrivateNamespaces:
    """The near namespace, and a far one as soon as a link asks for it."""

    def __init__(self) -> None:
        """As root makes network namespaces directly; otherwise inside a new user namespace."""
        uid, gid = os.getuid(), os.getgid()
        self.rights = "root"
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
        except PermissionError:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
            kernel.map_self(uid, gid)
            self.rights = "user namespace"
        kernel.link_up("lo")
        self.near = kernel.namespace()
        self._far: int | None = None

    @property
    def far(self) -> int:
        if self._far is None:
            kernel.unshare(kernel.CLONE_NEWNET)
            try:
                kernel.link_up("lo")
                self._far = kernel.namespace()
            finally:
                kernel.setns(self.near)
        return self._far

    def end(self, name: str) -> int:
        return self.near if name == "near" else self.far


class Helper:
    """Carries out requests; each method below is one."""

    def __init__(self) -> None:
        self.namespaces = PrivateNamespaces()

    def hello(self) -> dict[str, Any]:
        return {"rights": self.namespaces.rights}

    def link(self, name: str) -> dict[str, Any]:
        return asdict(LINKS[name].make(self.namespaces))

    def socket(self, end: str, family: int, type: int, proto: int) -> socket.socket:  # noqa: A002 - as in socket()
        with kernel.inside(self.namespaces.end(end)):
            return socket.socket(family, type, proto)

    def describe(self, devices: dict[str, list[str]]) -> dict[str, Any]:
        found: dict[str, Any] = {"sysctls": sysctls(), "offloads": {}}
        for end, names in devices.items():
            with kernel.inside(self.namespaces.end(end)):
                found["offloads"] |= {f"{end} {name}": offloads(name) for name in names}
        return found


def _answer(helper: Helper | None, request: dict[str, Any]) -> tuple[Helper, Any]:
    """Carries out one request; the first makes the namespaces."""
    helper = helper or Helper()
    return helper, getattr(helper, request.pop("op"))(**request)


def _reply(channel: socket.socket, number: int, result: Any) -> None:
    """Sends a result back; a socket as a descriptor beside an empty one."""
    if not isinstance(result, socket.socket):
        channel.send(json.dumps({"number": number, **result}).encode())
        return
    with result:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [result.fileno()]))
        channel.sendmsg([json.dumps({"number": number}).encode()], [rights])


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
            result = result if isinstance(result, socket.socket) else {"result": result}
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
