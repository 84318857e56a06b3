"""Which processes spoke: sockets watched while a capture runs, kept as comments in its file, and matched with flows.

A socket is one line among the comments of the file's statistics, of eight words with a space between::

    lab-process tcp 127.0.0.1:43210 127.0.0.1:8080 1234 curl 1763868472000000000 1763868472100000000

the mark; tcp or udp; its own end; its peer, ``*`` of a socket without one, ``listen`` of one that listens; the number
and the name of the process, both ``-`` where they are not known; and the ns since 1970 before and after which there was
no such socket. An IPv6 address is in brackets. In a name all but letters, digits and ``_.-~`` is percent-encoded.

A flow's end is *sure* if all sockets that may have been it, at any time of the flow, belong to one known process.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from lab.managed import Managed
from lab.taps.places import SocketAt
from lab.taps.sockdiag import NETLINK_SOCK_DIAG, Owner, Socket, list_sockets, owners

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Speaker", "Speakers", "endpoint", "parse_speakers", "with_speakers"]

_MARK = "lab-process"
#: The state of a flow to a port where nobody listens.
_REFUSED = "refused"
_UNCONNECTED, _LISTENING, _UNKNOWN = "*", "listen", "-"
_COMMENT = re.compile(
    rf"{_MARK} (tcp|udp) (\S+) (\S+) (?:([0-9]{{1,10}}) (\S*)|{_UNKNOWN} {_UNKNOWN}) ([0-9]{{1,19}}) ([0-9]{{1,19}})"
)

#: Between two looks at the sockets: at least, at most, and so many times what a look takes, so as to spare the CPU.
_LEAST_S, _MOST_S, _SPARING = 0.02, 0.1, 50
_GROWTH = 1.2
_TIMEOUT_S = 5
#: Sockets that are kept, so that the comments stay within a block that readers accept (16 MiB in Wireshark).
_MAX_SOCKETS = 20_000


class Speaker(NamedTuple):
    """A socket that was there, and whose it was: ``owner`` is None if that is not known.

    local, remote: as ``endpoint`` writes them; remote may be "*" or "listen". Times: as in the comment.
    """

    protocol: str
    local: str
    remote: str
    owner: Owner | None
    not_before_ns: int
    not_after_ns: int

    @property
    def port(self) -> int:
        """Its own."""
        return int(self.local.rpartition(":")[2])

    def comment(self) -> str:
        """The line that ``parse_speakers`` reads as the same."""
        pid, name = (self.owner.pid, quote(self.owner.name, safe="")) if self.owner else (_UNKNOWN, _UNKNOWN)
        times = f"{self.not_before_ns} {self.not_after_ns}"
        return f"{_MARK} {self.protocol} {self.local} {self.remote} {pid} {name} {times}"


def endpoint(address: str, port: int) -> str:
    """``"127.0.0.1:80"``, ``"[::1]:80"``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_speakers(comments: Iterable[str]) -> list[Speaker]:
    """The sockets that a file's comments tell of. Other comments, and lines that are none of ours, are left out."""
    found = []
    for line in (line for comment in comments for line in comment.splitlines()):
        if told := _COMMENT.fullmatch(line):
            protocol, local, remote, pid, name, *times = told.groups()
            owner = None if pid is None else Owner(int(pid), unquote(name))
            found.append(Speaker(protocol, local, remote, owner, int(times[0]), int(times[1])))
    return found


def with_speakers(flows: pl.DataFrame, speakers: Iterable[Speaker]) -> pl.DataFrame:
    """A table of flows with the columns client_process, client_pid, server_process and server_pid."""
    import polars as pl

    at: dict[tuple[str, str], list[Speaker]] = {}
    for speaker in speakers:
        at.setdefault((speaker.protocol, speaker.local), []).append(speaker)
    sides: dict[str, list[Owner | None]] = {"client": [], "server": []}
    names = ("protocol", "client", "client_port", "server", "server_port", "start_ns", "duration_ns", "state")
    for protocol, client, client_port, server, server_port, start_ns, took_ns, state in flows.select(names).iter_rows():
        pair = ((client, client_port), (server, server_port))
        span = (start_ns, start_ns + took_ns)
        known = bool(at) and client_port is not None
        for side, own, peer in zip(sides, pair, reversed(pair), strict=True):
            asked = known and not (side == "server" and state == _REFUSED)  # by the kernel: nobody was there
            sides[side].append(_sure(at, protocol, own, peer, span) if asked else None)
    told = {}
    for side, found in sides.items():
        told[f"{side}_process"] = pl.Series([owner.name if owner else "unknown" for owner in found], dtype=pl.String)
        told[f"{side}_pid"] = pl.Series([owner.pid if owner else None for owner in found], dtype=pl.Int64)
    return flows.with_columns(**told)


def _sure(
    at: dict[tuple[str, str], list[Speaker]],
    protocol: str,
    own: tuple[str, int],
    peer: tuple[str, int],
    span: tuple[int, int],
) -> Owner | None:
    """The process at one end of a flow, if it is sure. Sockets of just this pair go before those that take any peer."""
    address, port = own
    everywhere = {endpoint(any_, port) for any_ in (("::",) if ":" in address else ("::", "0.0.0.0"))}  # noqa: S104
    found = [
        speaker
        for local in (endpoint(address, port), *everywhere)
        for speaker in at.get((protocol, local), ())
        if speaker.not_before_ns <= span[1] and span[0] <= speaker.not_after_ns
    ]
    exact = [speaker for speaker in found if speaker.remote == endpoint(*peer)]
    general = [speaker for speaker in found if speaker.remote in (_UNCONNECTED, _LISTENING)]
    possible = {speaker.owner for speaker in exact or general}
    return possible.pop() if len(possible) == 1 else None


class Speakers(Managed):
    """Watches the TCP and UDP sockets of a network namespace from now on, in a thread of its own, until stopped.

    socket_at: opens a socket in that namespace. Start it before the capture: what spoke and went before it looked is
    not known. A socket that is there for less than 20 ms, or 100 ms where little happens, may go unseen, and the
    processes of other users are not ours to look at. A look takes half a millisecond, and more with many sockets; all
    looks take at most a fiftieth of a CPU, and half of that while no socket comes or goes. Where the sockets can't be
    listed nothing is known, and ``warnings`` says why.
    """

    def __init__(self, socket_at: SocketAt = socket.socket) -> None:
        self.warnings: tuple[str, ...] = ()
        self._failed = False
        self._open: dict[Socket, tuple[set[Owner], int]] = {}  # who has it, and when it was not there yet
        self._gone: list[Speaker] = []
        self._looked_ns = time.time_ns()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._netlink = socket_at(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        except OSError as error:
            self._fail(error)
            return
        self._netlink.settimeout(_TIMEOUT_S)
        self._look()
        self._thread = threading.Thread(target=self._watch, name="lab speakers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Looks a last time and ends; ``comments`` are complete then. May be called again."""
        self._stopping.set()
        if self._thread is not None:
            if self._thread is not threading.current_thread():  # where that forgot the last who knew us
                self._thread.join()
            self._thread = None
            self._netlink.close()

    close = stop

    def comments(self, ports: bytes | None = None) -> list[str]:
        """A line for each socket that was seen so far; ports: 65,536 bits, of those whose sockets are wanted."""
        here = [_speaker(key, *owned, self._looked_ns) for key, owned in self._open.items()]
        wanted = [each for each in (*self._gone, *here) if ports is None or _has(ports, each.port)]
        return [speaker.comment() for speaker in wanted]

    def _watch(self) -> None:
        wait_s = _LEAST_S
        last = False
        while not last and not self._failed:
            last = self._stopping.wait(wait_s)
            begun_s = time.thread_time()
            changed = self._look()
            least_s = max(_LEAST_S, _SPARING * (time.thread_time() - begun_s))
            wait_s = least_s if changed else max(least_s, min(wait_s * _GROWTH, _MOST_S))

    def _look(self) -> bool:
        """Takes in what sockets there are; whether any came or went."""
        try:
            found = set(list_sockets(self._netlink))
        except OSError as error:
            self._fail(error)
            return False
        now_ns, before = time.time_ns(), self._open
        # A server that forks for each connection has it together with the child for a moment: so it is asked again.
        known = {each.inode: have for each, (have, _) in before.items() if len(have) < 2 or not each.remote_port}
        asked = {each.inode for each in found} - known.keys()
        holders = owners(asked) if asked else {}
        known |= {inode: holders.get(inode, set()) for inode in asked}
        fresh = (set[Owner](), self._looked_ns)
        self._open = {each: (known[each.inode], before.get(each, fresh)[1]) for each in found}
        self._gone += [_speaker(each, *owned, now_ns) for each, owned in before.items() if each not in found]
        if len(self._gone) > _MAX_SOCKETS:
            del self._gone[_MAX_SOCKETS:]
            self._warn(f"more than {_MAX_SOCKETS:,} sockets came and went: who spoke on later ones is not known")
        self._looked_ns = now_ns
        return before.keys() != found

    def _fail(self, error: OSError) -> None:
        self._failed = True
        fix = "; load its module (modprobe tcp_diag udp_diag)" if error.errno == errno.ENOENT else ""
        self._warn(f"who spoke is not known from here on: the sockets can't be listed: {error.strerror or error}{fix}")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings += (text,)


def _has(ports: bytes, port: int) -> bool:
    return bool(ports[port // 8] >> port % 8 & 1)


def _only(holders: set[Owner]) -> Owner | None:
    """The owner of a socket that one process has open. Of several, who of them speaks is not sure."""
    return next(iter(holders)) if len(holders) == 1 else None


def _speaker(each: Socket, holders: set[Owner], not_before_ns: int, not_after_ns: int) -> Speaker:
    if each.listening:
        remote = _LISTENING
    else:
        remote = endpoint(_text(each.remote), each.remote_port) if each.remote_port else _UNCONNECTED
    local = endpoint(_text(each.local), each.local_port)
    return Speaker(each.protocol, local, remote, _only(holders), not_before_ns, not_after_ns)


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
