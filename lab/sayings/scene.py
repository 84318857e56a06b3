"""Where experiments are made: a private world, and short words for what they do in it.

All of it is done by this thread, in order: a server here is a socket that listens, and answers when somebody has asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import Unavailable, errno_name
from lab.firewall import FirewallRule
from lab.single import World

if TYPE_CHECKING:
    from lab.taps.live import LiveCapture

__all__ = ["LOOPBACK", "Answer", "Scene", "Server", "family_of"]

#: The loopback address of each family.
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

#: How long silence is listened to before it is called silence. On one machine an answer takes microseconds.
_SILENCE_S = 0.25
#: How long after a handshake a server of ours is waited for that may have to accept it.
_ACCEPT_S = 0.05
_PROGRAM_S = 30
_Socket = socket.socket  # which Scene has a method of that name for
_KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_ECHO = {4: (socket.IPPROTO_ICMP, 8), 6: (socket.IPPROTO_ICMPV6, 128)}
# linux/in.h, linux/in6.h; Python 3.11 lacks some of them
_HOPS = {4: (socket.IPPROTO_IP, 12), 6: (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT)}
_TTL = {4: (socket.IPPROTO_IP, socket.IP_TTL), 6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)}
_HOPS_TOLD = {4: (socket.IPPROTO_IP, 2), 6: (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}
_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


@dataclass(frozen=True)
class Answer:
    """What came of asking. by: the name of the server that answered, or "" (an echo, a handshake that nobody took).

    errno: 0 if there was an answer; ETIMEDOUT for silence. source: whose address it came from; local: that which was
    asked from, "" if there was none. hops: the TTL, or hop limit, of an echo's reply.
    """

    errno: int
    by: str = ""
    source: str = ""
    local: str = ""
    hops: int | None = None

    @property
    def came(self) -> bool:
        """Whether there was an answer."""
        return self.errno == 0

    def __str__(self) -> str:
        if self.errno == errno.ETIMEDOUT:
            return "silence"
        if self.errno:
            return errno_name(self.errno)
        return f"answered by {self.by or self.source}"


@dataclass(frozen=True)
class Server:
    """A socket that waits for somebody. name: what it says of itself to whoever asks."""

    name: str
    socket: socket.socket


class Scene:
    """A world for one experiment.

    world: an open private world. files: texts that programs here see in place of this machine's files, by path.
    exhaustive: whether to ask all that there is rather than a sample. opened: is closed after the experiment, in
    reverse order. server_options: options (level, name, value) that servers here set before they bind, as their
    authors would have. home: the end at which programs live that are to speak with themselves alone, apart from those
    that experiment upon them. note: says something that belongs to the evidence, beside the outcomes.
    """

    def __init__(self, world: World, *, exhaustive: bool = False) -> None:
        self.world, self.exhaustive = world, exhaustive
        self.files: dict[str, str] = {}
        self.opened = contextlib.ExitStack()
        self.server_options: list[tuple[int, int, int | bytes]] = []
        self.home = "near"
        self.notes: list[str] = []
        self._servers: list[Server] = []

    def note(self, text: str) -> None:
        """Adds to the evidence."""
        self.notes.append(text)

    def until(self, condition: Callable[[], bool], timeout_s: float = 2.0) -> bool:
        """Asks again and again until it is so: what a change sets going may take a moment. Whether it is."""
        deadline_s = time.monotonic() + timeout_s
        while not (true := condition()) and time.monotonic() < deadline_s:
            os.sched_yield()
        return true

    def far(self, link: str, family: int) -> str:
        """The address of the far end of a link. Raises Unavailable if it has none of that family."""
        return self._address(link, "far", family)

    def near(self, link: str, family: int) -> str:
        """The address of the near end of a link. Raises Unavailable if it has none of that family."""
        return self._address(link, "near", family)

    def _address(self, link: str, side: str, family: int) -> str:
        found: dict[int, str] = getattr(self.world.links[link], side)
        if family not in found:
            fix = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0)"
            raise Unavailable(f"{link} has no IPv{family} address", errno=errno.EADDRNOTAVAIL, fix=fix)
        return found[family]

    # ---- servers and who asks them ----

    def socket(self, family: int, kind: str = "tcp", *, end: str = "near") -> socket.socket:
        """A socket of the namespace at `end`, closed after the experiment. kind: "tcp" or "udp"."""
        return self.opened.enter_context(self.world.socket(_KINDS[family], _TYPES[kind], end=end))

    def listen(
        self,
        address: str,
        port: int,
        name: str = "",
        *,
        kind: str = "tcp",
        end: str = "near",
        v6only: bool | None = None,
    ) -> Server:
        """A socket that is bound, and that nobody serves. Raises OSError if it can't be bound there.

        v6only: whether one at an IPv6 address takes no IPv4; None: as it is without asking for either.
        """
        family = family_of(address)
        place = f"[{address}]:{port}" if family == 6 else f"{address}:{port}"
        server = Server(name or place, self.socket(family, kind, end=end))
        if v6only is not None and family == 6:
            server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        for option in self.server_options:
            server.socket.setsockopt(*option)
        server.socket.bind((address, port))
        if kind == "tcp":
            server.socket.listen()
        server.socket.setblocking(False)
        return server

    def serve(self, address: str, port: int, name: str = "", **options: Any) -> Server:
        """A server that answers ``ask`` with its name. options: those of ``listen``; raises what that does."""
        server = self.listen(address, port, name, **options)
        self._servers.append(server)
        return server

    def bind(self, address: str, port: int, **options: Any) -> int:
        """The errno of an attempt to serve there, 0 if it worked; then it goes on serving. options: of ``serve``."""
        try:
            self.serve(address, port, **options)
        except OSError as error:
            return error.errno or 0
        return 0

    def ask(
        self,
        address: str,
        port: int,
        *,
        kind: str = "tcp",
        end: str = "near",
        source: str = "",
        timeout_s: float = _SILENCE_S,
    ) -> Answer:
        """Asks a server of this scene, from `end` and perhaps from an address of one's own. Who answered?"""
        family = family_of(address)
        with self.world.socket(_KINDS[family], _TYPES[kind], end=end) as client:
            client.settimeout(timeout_s)
            try:
                if source:
                    client.bind((source, 0))
                client.connect((address, port))
                if kind == "udp":
                    client.send(b"who is there?")
                by = self._answer(client, kind, timeout_s)
                said = client.recv(1024) if by or kind == "udp" else b""
            except TimeoutError:
                return Answer(errno.ETIMEDOUT)
            except OSError as error:
                return Answer(error.errno or errno.EIO)
            return Answer(0, said.decode(), client.getpeername()[0], client.getsockname()[0])

    def _answer(self, client: _Socket, kind: str, timeout_s: float) -> str:
        """Has the server that was asked answer; its name, "" if it was none of ours. Raises TimeoutError."""
        # Mostly what was sent is there by now. Under load, a thread of the kernel's may still be on its way with it.
        servers = [server for server in self._servers if server.socket.type == _TYPES[kind]]
        waiting = [server.socket for server in servers] + ([client] if kind == "udp" else [])
        ready, _, _ = select.select(waiting, [], [], timeout_s if kind == "udp" else min(_ACCEPT_S, timeout_s))
        if kind == "udp" and not ready:
            raise TimeoutError
        for server in (each for each in servers if each.socket in ready):
            if kind == "udp":
                _asked, asker = server.socket.recvfrom(1024)
                server.socket.sendto(server.name.encode(), asker)
            else:
                accepted, _ = server.socket.accept()
                with accepted:
                    accepted.sendall(server.name.encode())
            return server.name
        return ""

    def ping(
        self,
        address: str,
        *,
        end: str = "near",
        source: str = "",
        size: int = 56,
        ttl: int | None = None,
        timeout_s: float = _SILENCE_S,
    ) -> Answer:
        """One echo request, and its reply. ttl: or hop limit. Raises Unavailable where no ping socket can be had."""
        family = family_of(address)
        protocol, request = _ECHO[family]
        with self.world.socket(_KINDS[family], socket.SOCK_DGRAM, protocol, end=end) as client:
            client.settimeout(timeout_s)
            client.setsockopt(*_HOPS[family], 1)
            client.setsockopt(*_RECVERR[family], 1)  # so that an ICMP error becomes our errno
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if ttl is not None:
                client.setsockopt(*_TTL[family], ttl)
            try:
                if source:
                    client.bind((source, 0))
                client.connect((address, 0))
                local = client.getsockname()[0]
                client.send(bytes([request, 0, 0, 0, 0, 0, 0, 1]) + bytes(size))
                _reply, told, _flags, sender = client.recvmsg(2048 + size, 64)
            except TimeoutError:
                return Answer(errno.ETIMEDOUT)
            except OSError as error:
                return Answer(error.errno or errno.EIO)
        hops = next((int.from_bytes(data[:4], sys.byteorder) for level, kind, data in told
                     if (level, kind) == _HOPS_TOLD[family]), None)  # fmt: skip
        return Answer(0, source=sender[0], local=local, hops=hops)

    def refuse(self, *addresses: str, port: int) -> None:
        """From now on a firewall resets what goes to this port of these addresses, as if nobody listened there."""
        rules = [
            FirewallRule(verdict="tcp-reset", protocol="tcp", port=port, destination=address) for address in addresses
        ]
        self.opened.enter_context(self.world.firewall(*rules))

    # ---- programs ----

    def run(
        self, *command: str, end: str = "near", files: Mapping[str, str] | None = None, timeout_s: float = _PROGRAM_S,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Runs a program to its end, and returns what it printed. files: beside those of the scene.

        Raises Unavailable if it can't be found, or does not end in time.
        """
        with self.world.popen(
            command,
            end=end,
            files={**self.files, **(files or {})} or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        ) as program:
            try:
                out, err = program.communicate(timeout=timeout_s)
            except BaseException as error:  # Ctrl-C does not reach it, as its session is its own
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
                program.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                what, fix = f"{command[0]} took more than {timeout_s} s", "Try again on a quieter machine"
                raise Unavailable(what, errno=errno.ETIMEDOUT, fix=fix) from None
        if program.returncode == 127:
            raise Unavailable(f"{command[0]} is not installed", errno=errno.ENOENT, fix=f"Install {command[0]}")
        return subprocess.CompletedProcess(command, program.returncode, out, err)

    # ---- witnesses ----

    @contextlib.contextmanager
    def watched(self, where: str = "all", **options: Any) -> Iterator[LiveCapture]:
        """A capture of what passes these interfaces within the block; its frames can be read inside and after."""
        capture = self.opened.enter_context(self.world.capture(where, **{"buffer": "8MiB", **options}))
        try:
            yield capture
        finally:
            capture.stop()

    @contextlib.contextmanager
    def passing(self, *where: str, filter: str) -> Iterator[dict[str, int]]:  # noqa: A002 - as everywhere
        """How many frames pass each of these interfaces, such as "near:lo", in the block; filled at its end."""
        found = dict.fromkeys(where, 0)
        with self.watched(",".join(where), filter=filter) as capture:
            yield found
        for name in capture.to_numpy("interface")["interface"]:
            found[name if ":" in name else f"near:{name}"] += 1

    @contextlib.contextmanager
    def counting(self, *names: str, end: str = "near") -> Iterator[dict[str, int]]:
        """By how much these counters of the kernel grow within the block; filled at its end."""
        grown: dict[str, int] = {}
        before = self.world.counters(end=end)
        try:
            yield grown
        finally:
            after = self.world.counters(end=end)
            grown |= {name: after.get(name, 0) - before.get(name, 0) for name in names}
