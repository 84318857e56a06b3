"""What a keeper (``lab.services.keeper``) is told to do, and the programs that such orders are for."""

from __future__ import annotations

import errno
import shutil
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import Unavailable

__all__ = ["PID_FILE", "Order", "Program", "executable", "log_says"]

#: Where a keeper tells the number of the server's process, in its folder.
PID_FILE = "server.pid"
#: Where servers are, which are not for users' PATH.
_SERVERS = "/usr/sbin:/usr/local/sbin:/sbin"


@dataclass(frozen=True, kw_only=True)
class Order:
    """How one program is made to serve; it goes to the keeper as JSON.

    folder: that it is to make, and to remove in the end. files: texts by their paths, written there first. prepare: a
    command to run then, if it is not empty. command: the server, which stays in the foreground. stops: signals that end
    it, from the gentlest on: each is given a while, and SIGKILL comes after the last. renounces: it is started as root,
    where we are that, and becomes nobody itself.
    """

    folder: str
    command: list[str]
    files: dict[str, str] = field(default_factory=dict)
    prepare: list[str] = field(default_factory=list)
    stops: list[int] = field(default_factory=lambda: [signal.SIGTERM])
    renounces: bool = False


class Program(ABC):
    """A server that can be installed on this machine. Raises Unavailable if it is not.

    port: where it listens if none is given. user, database: what a client must name to be let in; None where there is
    no such thing.
    """

    port: int
    user: str | None = None
    database: str | None = None

    @abstractmethod
    def order(self, folder: Path, address: str, port: int) -> Order:
        """How it is made to listen at that address and port, and at the unix socket that ``unix_socket`` names."""

    @abstractmethod
    def ready(self, folder: Path) -> bool:
        """Whether it answers by now. To ask it over the network would put packets into a capture."""

    def unix_socket(self, folder: Path, port: int) -> Path | None:  # noqa: ARG002
        """Where it listens as well; None: nowhere."""
        return None


def executable(*names: str, what: str, fix: str) -> str:
    """The path of the first of these programs that there is, also where only servers are. Raises Unavailable."""
    found = next(filter(None, (shutil.which(name) or shutil.which(name, path=_SERVERS) for name in names)), None)
    if found is None:
        raise Unavailable(f"{what} is not installed: no {' or '.join(names)}", errno=errno.ENOENT, fix=fix)
    return found


def log_says(folder: Path, text: str) -> bool:
    """Whether a server has written this to its log."""
    try:
        return text in (folder / "log").read_text(errors="replace")
    except FileNotFoundError:  # it has not begun
        return False
