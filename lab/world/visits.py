"""From what ``--world`` says to a place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from lab.errors import Unavailable, UsageError
from lab.impairments import Impairment
from lab.world.place import Place, Skipped
from lab.world.present import HostWorld, JoinedWorld
from lab.world.private import PrivateWorld

__all__ = ["visit"]

_WORLDS = "choose new (a private one), host (this machine's own), or a process's number"


@contextlib.contextmanager
def visit(
    world: str | int | Place | None, links: Iterable[str], impair: Impairment | None = None
) -> Iterator[tuple[Place, list[str]]]:
    """The place that ``--world`` names, and warnings; what was opened for the purpose is closed at the end.

    "new": a private one; "host": the machine's own; a number: that of a process. None: a private one or, where the
    machine refuses it, the host's lo, with a warning. A place that is open already stays so.
    Raises Unavailable, or UsageError for another name.
    """
    if world is not None and not isinstance(world, str | int):
        if not isinstance(getattr(world, "kind", None), str):
            raise UsageError(f"unknown world {world!r}: {_WORLDS}, or an open lab.World")
        if impair is not None:
            raise UsageError("this world is made already: give the impairment to it, World(links, impair=…)")
        yield world, []
        return
    place, warnings = _open(world, list(links), impair)
    try:
        yield place, warnings
    finally:
        place.close()


def _open(world: str | int | None, links: list[str], impair: Impairment | None) -> tuple[Place, list[str]]:
    text = "new" if world is None else str(world)
    if text not in ("new", "host") and not text.isdecimal():
        raise UsageError(f"unknown world {world!r}: {_WORLDS}")
    if text != "new":
        if impair:
            raise UsageError("--impair changes a network: leave --world out, for a private one")
        return (HostWorld(links) if text == "host" else JoinedWorld(int(text), links)), []
    try:
        return PrivateWorld(links, impair=impair), []
    except Unavailable as error:
        if world == "new" or impair or "lo" not in links:
            raise
        host = HostWorld(links)
        host.skipped = [
            Skipped(link=skip.link, reason=error.reason, errno=error.errno, fix=error.fix) for skip in host.skipped
        ]
        return host, [f"measured on this machine's own lo, which may have rules of its own: {error.reason}"]
