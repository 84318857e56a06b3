"""A server that runs in a world, from its start to its end."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict
from pathlib import Path

from lab.checks import check_count, pick
from lab.errors import Unavailable, UsageError
from lab.managed import Managed
from lab.services.dnsmasq import Dnsmasq
from lab.services.mariadb import MariaDB
from lab.services.nginx import Nginx
from lab.services.notes import Notes
from lab.services.order import PID_FILE, Program
from lab.services.postgresql import PostgreSQL
from lab.services.redis import Redis
from lab.services.smtp import Smtp
from lab.taps.speakers import endpoint
from lab.world import PrivateWorld
from lab.world.place import ENDS

__all__ = ["Service", "serve"]

PROGRAMS: dict[str, type[Program]] = {
    "dnsmasq": Dnsmasq,
    "mariadb": MariaDB,
    "nginx": Nginx,
    "notes": Notes,
    "postgresql": PostgreSQL,
    "redis": Redis,
    "smtp": Smtp,
}

_START_S = 60  # of which a slow machine takes a few for a new cluster of databases
_STEP_S = 0.01
#: How long a keeper may take to end: it waits for the server after each of its signals.
_END_S = 60
_HIGHEST_PORT = (1 << 16) - 1
#: Ports below it are for servers that root starts, and ours run as somebody else: a world's own sysctl lets them.
_FOR_ROOT = "ipv4/ip_unprivileged_port_start"
_START_FIX = "See that the temporary folder (TMPDIR) has room, and can be entered by the user that it runs as"
_FAILED = re.compile(r"could not|cannot|too long|error:|FATAL|Fatal|failed to|\[emerg\]|\[ERROR\]|Error\b")
_FIXES = {
    errno.EADDRINUSE: "Give another port, or end what listens there",
    errno.EADDRNOTAVAIL: "Give an address of that end, such as 127.0.0.1 or one in world.links",
}


def serve(
    program: str, world: PrivateWorld, *, end: str = "near", port: int | None = None, address: str = "127.0.0.1"
) -> Service:
    """Starts a server in a world, on data of its own, and returns when it answers.

    program: "dnsmasq", "mariadb", "nginx", "notes" (a small JSON service), "postgresql", "redis" or "smtp" (which
    delivers nothing). end: whose network ("near", "far" or "middle"). address: where it listens, such as "::1",
    "0.0.0.0" for all IPv4 addresses of that end, or one in ``world.links``. port: None is the program's own; one below
    1,024 is opened to all of that end's programs. It runs as your user, or as "nobody" if you are root, and lets in all
    who are in the world, without a password. Raises UsageError, Unavailable.
    """
    pick("program", program, PROGRAMS)
    pick("end", end, ENDS)
    if port is not None:
        check_count("port", port, high=_HIGHEST_PORT)
    try:
        family = ipaddress.ip_address(address).version
    except ValueError:
        raise UsageError(f"{address!r} is no address: give one such as 127.0.0.1 or ::1") from None
    made = PROGRAMS[program]()
    chosen = made.port if port is None else port
    if chosen < int(world.sysctl(_FOR_ROOT, end=end)):
        world.sysctl(_FOR_ROOT, chosen, end=end)
    _require_free(world, end, socket.AF_INET if family == 4 else socket.AF_INET6, address, chosen)
    return Service(program, made, world, end=end, port=chosen, address=address)


def _require_free(world: PrivateWorld, end: str, family: int, address: str, port: int) -> None:
    """Raises Unavailable, with the kernel's errno, if nothing can listen there."""
    with world.socket(family, socket.SOCK_STREAM, end=end) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as ours do
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            fix = _FIXES.get(error.errno or 0, "See lab doctor")
            what = f"nothing can listen at {endpoint(address, port)} of the {end} end"
            raise Unavailable(what, errno=error.errno, fix=fix) from None


class Service(Managed):
    """A server that runs in a world, until the end of its ``with`` block, of its world, or of this program.

    address, port: where it listens. unix_socket: where it does so as well, without a network; None: nowhere. user,
    database: what a client must name; None where there is no such thing. folder: its data, removed at its end. pid: of
    its first process, which may have children.
    """

    def __init__(self, name: str, program: Program, world: PrivateWorld, *, end: str, port: int, address: str) -> None:
        self.name, self.end, self.address, self.port = name, end, address, port
        self.user, self.database = program.user, program.database
        self.folder = Path(tempfile.gettempdir(), f"lab-{name}-{secrets.token_hex(4)}").absolute()
        self.unix_socket = program.unix_socket(self.folder, port)
        order = program.order(self.folder, address, port)
        helper = os.pidfd_open(world.pid)
        try:
            self._keeper = world.popen(
                [sys.executable, "-P", "-m", "lab.services.keeper", str(helper), json.dumps(asdict(order))],
                end=end,
                pass_fds=[helper],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # what interrupts a cell, or the terminal's programs, is not for it
            )
        finally:
            os.close(helper)
        self._kept: list[str] = []
        self._end = weakref.finalize(self, _stop, self._keeper, self._kept, os.getpid())
        try:
            self.pid = self._wait_until_ready(program)
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self, program: Program) -> int:
        """The number of its process, when it answers. Raises Unavailable."""
        deadline_s = time.monotonic() + _START_S
        while self.running and time.monotonic() < deadline_s:
            if program.ready(self.folder) and (told := (self.folder / PID_FILE).read_text()):
                return int(told)
            time.sleep(_STEP_S)
        what, number = (f"did not start in {_START_S} s", errno.ETIMEDOUT) if self.running else ("did not start", None)
        self.close()
        raise Unavailable(f"{self.name} {what}: {_reason(self.log)}", errno=number, fix=_START_FIX)

    @property
    def running(self) -> bool:
        """Whether it was not ended, and has not ended by itself."""
        return self._keeper.poll() is None

    @property
    def log(self) -> str:
        """What it has written to its log so far, or the end of that (64 KiB) after its own."""
        if not self._kept:
            try:
                return (self.folder / "log").read_text(errors="replace")
            except FileNotFoundError:  # it has ended by itself
                self.close()
        return "".join(self._kept)  # nothing, if its end was interrupted

    def close(self) -> None:
        """Ends it, and removes its folder."""
        self._end()

    def __str__(self) -> str:
        how = f"process {self.pid}" if self.running else "ended"
        return f"{self.name} at {endpoint(self.address, self.port)} of the {self.end} end, {how}"

    __repr__ = __str__


def _stop(keeper: subprocess.Popen[bytes], kept: list[str], owner: int) -> None:
    if os.getpid() != owner:  # a forked child has a copy of the service, and no say in it
        return
    try:
        log, _none = keeper.communicate(b"\n", timeout=_END_S)
    except subprocess.TimeoutExpired:
        keeper.kill()  # the server dies with it
        log, _none = keeper.communicate()
    kept.append(log.decode(errors="replace"))


def _reason(log: str) -> str:
    """The line of a log that says best why a server didn't start."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    return next((line for line in lines if _FAILED.search(line)), lines[-1] if lines else "it wrote no log")
