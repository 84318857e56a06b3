"""Puts claims to the test, each in a world of its own."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import Unavailable, UsageError, errno_name
from lab.interrupts import noted
from lab.sayings.catalogue import find
from lab.sayings.claim import NOT_TESTED, Claim, decide
from lab.sayings.report import Claims, Verdict
from lab.sayings.scene import Scene
from lab.single import World
from lab.taps.drops import Drop, watch_drops

if TYPE_CHECKING:
    from lab.taps.live import LiveCapture

__all__ = ["claims", "put_to_test"]

#: What a server at ::1 comes to on a machine without IPv6.
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_IPV6_FIX = "Switch IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6=0; or start Linux without ipv6.disable=1)"
#: Memory of a capture's rings, for each interface: experiments send little.
_BUFFER = "8MiB"
#: Drops that lose nothing: see lab.taps.drops.
_NO_LOSS = ("SOCKET_FILTER", "PACKET_SOCK_ERROR", "QUEUE_PURGE")
_ANSWERED_PING = ("NO_SOCKET", "ping_rcv")


def claims(
    *ids: str,
    refuted: bool = False,
    exhaustive: bool = False,
    evidence: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    done: Callable[[Verdict], None] | None = None,
) -> Claims:
    """Puts what is said of loopback to the test, with packets as evidence, and returns what came of it.

    ids: of claims, or how they begin ("range"); none: all. Each is tried in a private world of its own, so nothing that
    it does can hurt this machine's network. refuted: in worlds that are changed so that each comes out otherwise.
    exhaustive: where a sample is asked, ask all there is (16,777,216 addresses: a minute or two). evidence: a folder to
    keep the captures in, as ID.pcapng. say: is told what is going on, a line at a time; done: of each verdict.

    Raises UsageError for an id that no claim has. A claim that can't be tried here is "not-tested", with the reason.
    After Ctrl-C the result has those that were finished.
    """
    chosen = find(ids)
    folder = None if evidence is None else _folder(evidence)
    verdicts: list[Verdict] = []
    with noted() as interrupted, contextlib.suppress(KeyboardInterrupt):
        for number, claim in enumerate(chosen, 1):
            if interrupted.is_set():
                break
            if say:
                say(f"{number} of {len(chosen)}, {claim.id}: {claim.says}")
            file = folder / f"{claim.id}.pcapng" if folder else None
            verdict = put_to_test(claim, refuted=refuted, exhaustive=exhaustive, file=file)
            verdicts.append(verdict)
            if done:
                done(verdict)
    return Claims(tuple(verdicts), interrupted=interrupted.is_set())


def put_to_test(claim: Claim, *, refuted: bool = False, exhaustive: bool = False, file: Path | None = None) -> Verdict:
    """What a claim comes to in a world of its own. refuted: in that which turns it round."""
    try:
        with _scene(claim, exhaustive=exhaustive) as scene, _captured(claim, scene, file) as capture:
            if refuted:
                claim.refuted_by.make(scene)
            with _drops_told() as drops:
                outcomes = tuple(claim.experiment(scene))
    except Unavailable as error:
        return Verdict(claim, NOT_TESTED, refuted=refuted, reason=error.reason, fix=error.fix)
    except OSError as error:
        reason, fix = f"the experiment could not be made: {errno_name(error.errno or 0)}", "See lab doctor"
        if error.errno in _NO_SUCH_ADDRESS:
            reason, fix = f"a server could not be started: {errno_name(error.errno)}", _IPV6_FIX
        return Verdict(claim, NOT_TESTED, refuted=refuted, reason=reason, fix=fix)
    return Verdict(
        claim,
        decide(outcomes, claim.mixed),
        outcomes=outcomes,
        notes=tuple(scene.notes),
        capture=capture,
        drops=drops,
        refuted=refuted,
    )


@contextlib.contextmanager
def _scene(claim: Claim, *, exhaustive: bool) -> Iterator[Scene]:
    """A fresh world with the links that the claim is about. Raises Unavailable."""
    with World(claim.links, impair=claim.impair) as world:
        for skip in world.skipped:
            raise Unavailable(f"there is no {skip.link}: {skip.reason}", errno=None, fix=skip.fix)
        scene = Scene(world, exhaustive=exhaustive)
        with scene.opened:
            yield scene


@contextlib.contextmanager
def _captured(claim: Claim, scene: Scene, file: Path | None) -> Iterator[LiveCapture | None]:
    """All that passes the world's interfaces, if the claim wants it kept."""
    if not claim.captured:
        yield None
        return
    # It begins before a change is made: an interface that is down already could not be tapped.
    with scene.world.capture("all", file=file, buffer=_BUFFER) as capture:
        yield capture


@contextlib.contextmanager
def _drops_told() -> Iterator[dict[str, int] | None]:
    """Why the kernel dropped packets meanwhile, and how many; filled at the end. None where it does not tell us."""
    try:
        watching = watch_drops()
    except Unavailable:  # which takes rights on this machine, unlike all else here
        yield None
        return
    told: dict[str, int] = {}
    with watching as drops:
        yield told
        told |= Counter(str(drop) for drop in drops.seen if not _is_no_loss(drop))


def _is_no_loss(drop: Drop) -> bool:
    """Whether it was a copy, or what was left in a queue: a tap's, a closed socket's, that of a reply to a ping."""
    return drop.reason in _NO_LOSS or (drop.reason, drop.function) == _ANSWERED_PING


def _folder(path: str | Path) -> Path:
    """A folder for files, made if need be. Raises UsageError, Unavailable."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is a file: name a folder for the captures") from None
    except OSError as error:
        number = error.errno or errno.EIO
        raise Unavailable(f"cannot make {folder}", errno=number, fix="Name another folder") from error
    return folder
