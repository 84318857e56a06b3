"""From what is asked to be captured, of whose network, to the interfaces that are tapped."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from lab.conditions import LINKS
from lab.errors import Unavailable, UsageError
from lab.taps.places import SocketAt, TapAt
from lab.world import Place, visit
from lab.world.place import ENDS, rights_fix

__all__ = ["capture", "taps_of"]

if TYPE_CHECKING:
    from lab.taps.live import LiveCapture

#: What names every interface of a network.
_ALL = "all"
_WHOSE = {"host": "this machine", "new": "this world"}
_JOINED = "that process's network"
_INSTEAD = "Capture a program in a private world, which takes no rights (lab exec --capture FILE -- CMD)"


def capture(
    where: str | Iterable[str] | int | Place = "lo", *, world: str | int | Place | None = None, **options: Any
) -> LiveCapture:
    """Captures from now on, until stopped, or to the end of its ``with`` block: a sequence of scapy packets.

    ::

        with lab.capture("lo", filter="icmp6") as capture:
            subprocess.run(["ping", "-c3", "::1"])
        capture[0].show()

    where: an interface, a link, several with commas, or "all"; a world, or the number of a process, for all of its
    interfaces. world: whose network: "host" (the default), the number of a process, or an open ``World``. options: of
    ``LiveCapture``: filter, direction, both_copies, count, duration, file, buffer. Raises UsageError, Unavailable.
    """
    from lab.taps.live import LiveCapture

    with taps_of(where, world) as places:
        return LiveCapture(places, **options)


@contextlib.contextmanager
def taps_of(
    where: str | Iterable[str] | int | Place = "lo", world: str | int | Place | None = None
) -> Iterator[list[TapAt]]:
    """The interfaces that `where` names in the network of `world`; sockets can be opened there inside the block.

    where: names, or one text with commas between them, of interfaces, of links, which mean their devices at all their
    ends, or "all"; in a private world also END:DEVICE, such as "far:veth". Or an open world, or the number of a
    process, for all of its interfaces. world: "host" (None too), the number of a process, or an open world. Names tell
    the end ("near:veth") unless it is the near one throughout. Raises UsageError, Unavailable.
    """
    if not isinstance(where, str | Iterable):
        where, world = _ALL, where
    if world == "new":
        raise UsageError(
            "nothing would ever pass in a new world of lab capture's own: use lab exec --capture FILE -- CMD, or give "
            "--world the number of a process in that world"
        )
    names = [name.strip() for name in (where.split(",") if isinstance(where, str) else where)]
    with visit("host" if world is None else world, []) as (place, _warnings):
        found: dict[tuple[str, str], str] = {}
        for name in names:
            for end, device, text in _named(place, name):
                found.setdefault((end, device), text)
        if not found:
            raise UsageError("no interface to capture on: this world's links have none")
        plain = {end for end, _device in found} == {"near"}
        yield [
            TapAt(
                name=device if plain else f"{end}:{device}",
                interface=device,
                socket_at=_opener(place, end),
                description=text,
            )
            for (end, device), text in found.items()
        ]


def _named(place: Place, name: str) -> Iterator[tuple[str, str, str]]:
    """Of what one name means: the end, the device, and what is said of it."""
    known = place.interfaces()
    end, _, device = name.rpartition(":")
    if name == _ALL and place.links:
        for each in place.links:
            yield from _named(place, each)
    elif name == _ALL:
        for each in known:
            yield "near", each, _described(place, "near", each)
    elif name in place.links:
        link = place.links[name]
        for end, device in link.devices.items():
            yield end, device, f"{end} end of {name}: {link.crosses}"
    elif end in ENDS and place.kind == "new" and device in place.interfaces(end=end):
        yield end, device, _described(place, end, device)
    elif name in known:
        yield "near", name, _described(place, "near", name)
    else:
        here = ", ".join(dict.fromkeys([*place.links, *known]))
        made = f"; {name} is a link of private worlds: lab.World([{name!r}]).capture()" if name in LINKS else ""
        raise UsageError(f"{_WHOSE.get(place.kind, _JOINED)} has no interface {name!r}: give {here}, or {_ALL}{made}")


def _described(place: Place, end: str, device: str) -> str:
    if place.kind == "new":
        return f"{device} at the {end} end of a private world"
    whose = "of this machine's own network" if place.kind == "host" else f"of the network of process {place.kind}"
    return f"{device} {whose}"


def _opener(place: Place, end: str) -> SocketAt:
    opened = partial(place.socket, end=end)
    if place.kind != "host":
        return opened

    def allowed(family: int, kind: int, proto: int) -> socket.socket:
        try:
            return opened(family, kind, proto)
        except Unavailable as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            what = "no right to capture on this machine's own network"
            raise Unavailable(what, errno=error.errno, fix=rights_fix(_INSTEAD)) from error

    return allowed
