"""What a keeper (``lab.services.keeper``) is told to do, and the programs that such orders are for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Order", "Program"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """How one program is made to serve; it goes to the keeper as JSON.

    folder: that it is to make, and to remove in the end. files: texts by their paths, written there first. prepare: a
    command to run then. command: the server, which stays in the foreground. stops: signals that end it, from the
    gentlest on: each is given a while, and SIGKILL comes after the last.
    """

    folder: str
    files: dict[str, str]
    prepare: list[str]
    command: list[str]
    stops: list[int]


class Program(ABC):
    """A server that can be installed on this machine. Raises Unavailable if it is not.

    user, database: what a client must name to be let in; None where there is no such thing.
    """

    user: str | None = None
    database: str | None = None

    @abstractmethod
    def order(self, folder: Path, address: str, port: int) -> Order:
        """How it is made to listen at that address and port, and at the unix socket that ``unix_socket`` names."""

    @abstractmethod
    def ready(self, folder: Path) -> int | None:
        """The number of its first process, if it answers by now."""

    def unix_socket(self, folder: Path, port: int) -> Path | None:  # noqa: ARG002
        """Where it listens as well; None: nowhere."""
        return None
