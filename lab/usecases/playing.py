"""Plays use cases, each in a world of its own."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lab.checks import pick
from lab.errors import Unavailable, UsageError
from lab.single import World
from lab.usecases.catalogue import find, missing
from lab.usecases.report import Case
from lab.usecases.stage import Stage
from lab.usecases.usecase import AS_EXPLAINED, NOT_TESTED, OTHERWISE, UseCase

__all__ = ["case", "folder_for_captures"]

#: Memory of a capture's rings, for each interface: a use case sends little.
_BUFFER = "8MiB"


def case(name: str, *, family: int = 4, changed: bool = False, file: str | os.PathLike[str] | None = None) -> Case:
    """Does one of the things that loopback is used for, with real programs, and tells what its packets say.

    ::

        print(lab.case("redis"))

    name: "web", "rest", "postgresql", "mariadb", "redis", "smtp", "dns", "port-test" or "admin-panel". Servers and
    clients run in a private world, on scratch data, so nothing here is touched. family: 4 (127.0.0.1) or 6 (::1).
    changed: so that it comes out otherwise, as ``changed_if`` says. file: where its capture is kept (pcapng).

    Where a program is missing, or no world can be made, it is "not-tested", with the reason. Raises UsageError.
    """
    chosen = find(name)
    pick("family", family, (4, 6))
    try:
        for lacking in missing(chosen):
            raise lacking
        return _play(chosen, family, changed, file)
    except Unavailable as error:
        return Case(chosen, NOT_TESTED, family, changed=changed, reason=error.reason, fix=error.fix)


def _play(chosen: UseCase, family: int, changed: bool, file: str | os.PathLike[str] | None) -> Case:
    with (
        _world(chosen, family) as world,
        world.capture(chosen.captured, file=file, buffer=_BUFFER) as capture,
    ):
        stage = Stage(world, capture, family=family, changed=changed)
        try:
            findings = tuple(chosen.play(stage))
        finally:
            stage.close()
    status = AS_EXPLAINED if all(finding.holds for finding in findings) else OTHERWISE
    steps = tuple(stage.steps)
    return Case(chosen, status, family, steps, findings, capture, stage.shown, changed=changed)


@contextlib.contextmanager
def _world(chosen: UseCase, family: int) -> Iterator[World]:
    """A world with the links that it needs."""
    with World(chosen.links) as world:
        for skip in world.skipped:
            raise Unavailable(f"there is no {skip.link}: {skip.reason}", errno=skip.errno, fix=skip.fix)
        for link in world.links.values():
            if family not in link.near:
                fix = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0), or take IPv4"
                raise Unavailable(f"{link.name} has no IPv{family} address here", errno=None, fix=fix)
        yield world


def folder_for_captures(path: Path) -> Path:
    """A folder, made if need be. Raises UsageError, Unavailable."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is no folder: name one for the captures") from None
    except OSError as error:
        number = error.errno or errno.EIO
        raise Unavailable(f"cannot make {path}", errno=number, fix="Name another folder") from error
    return path
