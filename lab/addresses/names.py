"""Who says what of a name: each source that the C library asks, alone and all together; see ``to_json``.

The JSON document of a name, format 1:

============  ==========================================================================================================
given, name   as typed, and as it is looked up (ASCII)
address       the first address that programs get, family: 4 or 6; null if they get none
addresses     a document of ``facts`` for each address that programs get, in the order in which they try them
order         the `hosts:` line of /etc/nsswitch.conf: line (its number) and text, null if there is none; errno
sources       in order: service, status, addresses, text (the C library's words), took_ns. status: found, not-found,
              try-again, failed, no-answer (within patience_s), not-installed, not-asked (see withheld), crashed
hosts_file    errno (of reading /etc/hosts), lines (those that have the name: number, address, text, valid)
resolver      of /etc/resolv.conf: servers, default (whether none was named), search, patience_s, leaves
programs      what getaddrinfo(3) gives: status, addresses, text, took_ns
addrconfig    the same with AI_ADDRCONFIG, as browsers and curl ask
decided_by    the source at which getaddrinfo stops; null if none knows the name, or it can't be told
withheld      sources that are not asked for the name here: DNS on another machine, for a name of localhost's
patience_s    how long an answer is waited for
world, notes  as for an address
============  ==========================================================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.addresses.asking import PATIENCE_S
from lab.addresses.facts import AddressFacts
from lab.addresses.parsing import Name, is_localhost
from lab.addresses.sheet import Row, Sheet, Shown
from lab.addresses.telling import name_notes, name_rows
from lab.errors import Unavailable

__all__ = ["Answer", "NameFacts", "Start", "ask_for"]

#: Starts a program as ``subprocess.Popen`` does, in the network that is meant.
Start = Callable[..., "subprocess.Popen[bytes]"]

#: Beyond the patience of the questions: to start, and to enter another process's namespaces.
_START_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What one source, or all, say of a name. Fields: see the module's table; service is None for all together."""

    service: str | None
    status: str
    addresses: tuple[str, ...] = ()
    text: str | None = None
    took_ns: int | None = None

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Answer:
        """What the process that asked has told."""
        addresses = tuple(told.get("addresses", ()))
        return cls(told.get("service"), told["status"], addresses, told.get("text"), told.get("took_ns"))

    def to_json(self) -> dict[str, Any]:
        """All of it; without a service, if that is all together."""
        who = {} if self.service is None else {"service": self.service}
        return who | {
            "status": self.status,
            "addresses": list(self.addresses),
            "text": self.text,
            "took_ns": self.took_ns,
        }


@dataclass(frozen=True, repr=False)
class NameFacts(Shown):
    """What each source says of a name, and what programs get. Fields: see the module's table."""

    given: str
    name: str
    addresses: tuple[AddressFacts, ...]
    order: dict[str, Any]
    sources: tuple[Answer, ...]
    hosts_file: dict[str, Any]
    resolver: dict[str, Any]
    programs: Answer
    addrconfig: Answer
    decided_by: str | None
    withheld: tuple[str, ...]
    world: str

    @property
    def localhost(self) -> bool:
        """Whether it is a name that always means this machine (RFC 6761, 6.3)."""
        return is_localhost(self.name)

    @property
    def address(self) -> str | None:
        """The first address that programs get."""
        return self.addresses[0].address if self.addresses else None

    @property
    def family(self) -> int | None:
        """The first address's."""
        return self.addresses[0].family if self.addresses else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is worth knowing, in sentences."""
        return tuple(name_notes(self))

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "given": self.given,
            "name": self.name,
            "address": self.address,
            "family": self.family,
            "addresses": [each.to_json() for each in self.addresses],
            "order": self.order,
            "sources": [each.to_json() for each in self.sources],
            "hosts_file": self.hosts_file,
            "resolver": self.resolver,
            "programs": self.programs.to_json(),
            "addrconfig": self.addrconfig.to_json(),
            "decided_by": self.decided_by,
            "withheld": list(self.withheld),
            "patience_s": PATIENCE_S,
            "world": self.world,
            "notes": list(self.notes),
        }

    def _sheet(self) -> Sheet:
        said = ", ".join(each.address for each in self.addresses) or "no address"
        rows: list[Row] = name_rows(self)
        return f"{self.name}  {said}", rows, self.notes


def ask_for(name: Name, world: str, start: Start | None) -> dict[str, Any]:
    """What the C library says of a name in a network. Raises Unavailable if it can't be asked there.

    world: which; the number of a process whose namespaces are to be entered, if `start` is None.
    """
    join = int(world) if start is None else None
    question = {"name": name.name, "localhost": is_localhost(name.name), "join": join, "parent": os.getpid()}
    command = [sys.executable, "-P", "-m", "lab.addresses.asking", json.dumps(question)]
    try:
        started = (start or subprocess.Popen)(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except Unavailable:
        raise
    except OSError as error:
        raise Unavailable(f"cannot start {sys.executable}", errno=error.errno, fix="See lab doctor") from error
    with started as process:
        try:
            output, _ = process.communicate(timeout=PATIENCE_S + _START_S)
        except subprocess.TimeoutExpired:
            output = b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if not output:
        fix = "Try again; lab doctor tells what this machine allows"
        raise Unavailable(f"nobody could be asked for {name.name}", errno=None, fix=fix)
    told: dict[str, Any] = json.loads(output)
    if refused := told.get("error"):
        raise Unavailable(
            f"cannot enter process {world} to ask for {name.name}: {refused['call']}",
            errno=refused["errno"],
            fix="Name a running process of your own, such as one that lab exec started, or run as root",
        )
    return told
