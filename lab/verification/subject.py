"""What is verified, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lab.conditions import Condition
from lab.errors import StreamError, Unavailable
from lab.probes import send_stream
from lab.streams import Stream
from lab.verification.findings import FAIL, SKIPPED, Finding
from lab.world import Endpoints, Link, Place, open_endpoints

__all__ = ["Check", "Send", "Subject", "attempted"]


#: What sends a stream: ``lab.probes.send_stream``, or one that errs on purpose.
Send = Callable[..., Stream]


@dataclass(frozen=True)
class Subject:
    """The loop that is verified, and the place where it sends. seed: of every order that is drawn."""

    place: Place
    send: Send = send_stream
    seed: int = 0

    def link(self, name: str) -> Link:
        """A link of this place. Raises Unavailable if it lacks it."""
        for skip in self.place.skipped:
            if skip.link == name:
                raise Unavailable(skip.reason, errno=skip.errno, fix=skip.fix)
        return self.place.links[name]

    def open(self, condition: Condition) -> Endpoints:
        """Sockets for a condition. Raises Unavailable, also for a link that this place lacks."""
        self.link(condition.link)
        return open_endpoints(self.place, condition)

    def stream(self, condition: Condition, ends: Endpoints, *, count: int, **options: Any) -> Stream:
        """One stream. Raises KeyboardInterrupt if it was interrupted, StreamError if it gave up."""
        stream = self.send(condition, ends, count=count, **options)
        if stream.interrupted:
            raise KeyboardInterrupt
        if stream.gave_up:
            raise StreamError("; ".join(stream.warnings), errno=0, done=len(stream.records))
        return stream


@dataclass(frozen=True)
class Check:
    """One thing that must hold. findings: measures and judges, one finding a condition. fix: what to do if it fails."""

    id: str
    claim: str
    findings: Callable[[Subject], Iterator[Finding]]
    fix: str


def attempted(where: str, attempt: Callable[[], Finding]) -> Finding:
    """What came of an attempt; what this machine can't do is skipped, and a stream that breaks off is a failure."""
    try:
        return attempt()
    except Unavailable as error:
        return Finding(where, SKIPPED, str(error))
    except StreamError as error:
        return Finding(where, FAIL, str(error))
