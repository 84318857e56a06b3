"""Who has a port, since when and bound to what; what would free it, and a free one nearby."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lab.checkup.findings import Item
from lab.checkup.network import Network
from lab.listeners import Holder, Program, bind_errno, find_holders, free_port
from lab.listeners.findings import about_port, takes
from lab.listeners.shown import duration_text
from lab.texts import printable

__all__ = ["Holding", "hold", "port_item"]

_COST = "no other server can listen there"
_MAX_SHOWN = 4


@dataclass(frozen=True)
class Holding:
    """listening: the sockets that listen at the port. others: whatever else has it. hidden: processes that hide."""

    port: int
    listening: tuple[Holder, ...]
    others: tuple[Holder, ...]
    hidden: int

    def takers(self, address: str) -> list[Holder]:
        """Those that take what is sent to an address."""
        return [each for each in self.listening if takes(each, address)]


def hold(network: Network, port: int) -> Holding:
    """Asks the kernel who has a port of TCP. Raises Unavailable."""
    holders, hidden = find_holders(port, socket_at=network.socket_at)
    tcp = [each for each in holders if each.protocol == "tcp"]
    listening = tuple(each for each in tcp if each.state == "listen")
    return Holding(port, listening, tuple(each for each in tcp if each not in listening), hidden)


def port_item(network: Network, holding: Holding) -> Item:
    """The item port: ok if it is free, partial if it is taken, which is no trouble for whoever has it."""
    port = holding.port
    binding = bind_errno(port, socket_at=network.socket_at, protocols=("tcp",))
    windows = f"netstat -ano | findstr :{port} tells the process, taskkill /PID NUMBER ends it"
    macos = f"lsof -i :{port}, then kill the process"
    if not holding.listening and binding.errno is None:
        return Item("port", "ok", f"nobody listens on port {port}: a server can have it")
    near = free_port(port, socket_at=network.socket_at)
    instead = f"port {near} is free" if near else "no port nearby is free"
    if binding.errno == errno.EACCES and not holding.listening:
        (why,) = about_port(port, (), (), binding)
        return Item("port", "partial", f"nobody listens on port {port}", f"{why}; {instead}", "we may not listen there")
    if not holding.listening:
        told = "; ".join(about_port(port, (), holding.others, binding)) or f"{binding.where}: {binding.error}"
        fix = _freeing(holding.others)
        return Item("port", "partial", f"port {port}: {told}", f"{fix}{instead}", _COST, windows=windows, macos=macos)
    evidence = f"port {port} is taken: {_told(holding)}"
    fix = f"{_freeing(holding.listening) or _unseen(holding)}{instead}"
    return Item("port", "partial", evidence, fix, _COST, windows=windows, macos=macos)


def _freeing(holders: Iterable[Holder]) -> str:
    commands = dict.fromkeys(command for each in holders if (command := each.end_command))
    return f"{'; '.join(commands)} frees it; " if commands else ""


def _unseen(holding: Holding) -> str:
    if not holding.hidden:
        return "It is the kernel's own, or of a process outside this container; "
    return f"sudo lab doctor {holding.port} tells whose it is; "


def _told(holding: Holding) -> str:
    """Who listens, by process."""
    groups: dict[tuple[tuple[Program, ...], str], list[Holder]] = {}
    for each in holding.listening:
        groups.setdefault((each.programs, each.user), []).append(each)
    return "; ".join(_group(*key, same) for key, same in list(groups.items())[:_MAX_SHOWN])


def _group(programs: tuple[Program, ...], user: str, same: list[Holder]) -> str:
    return f"{process(programs, user)} listens at {' and '.join(bound_to(each) for each in same)}{_since(programs)}"


def process(programs: tuple[Program, ...], user: str) -> str:
    """Such as "python3 (process 1234 of www-data)"."""
    if not programs:
        return f"a process of user {user} that we may not see"
    first = programs[0]
    more = f" and {len(programs) - 1} more" if len(programs) > 1 else ""
    return f"{printable(first.name)} (process {first.pid}{more} of {first.user or user})"


def bound_to(holder: Holder) -> str:
    """The address that a socket is bound to, and what that means where it means more."""
    if holder.address == "0.0.0.0":  # noqa: S104 - as it is told
        return "0.0.0.0 (all of IPv4)"
    if holder.address == "::":
        return ":: (all of IPv6)" if holder.v6only else ":: (all of IPv6, and of IPv4)"
    return holder.address


def _since(programs: tuple[Program, ...]) -> str:
    if not programs or programs[0].since_ns is None:
        return ""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(programs[0].since_ns / 1e9))
    return f", running since {stamp} ({duration_text(time.time_ns() - programs[0].since_ns)})"
