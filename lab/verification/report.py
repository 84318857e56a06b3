"""All checks, one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from lab.interrupts import noted
from lab.probes import send_stream
from lab.verification import causality, comparison, known_delay, stall, witness
from lab.verification.findings import Item, Report
from lab.verification.subject import Check, Send, Subject
from lab.world import Place, visit

__all__ = ["CHECKS", "verify"]

CHECKS = (
    causality.CHECK,
    known_delay.CHECK,
    stall.CHECK,
    witness.CHECK,
    comparison.ALIKE,
    comparison.SENSITIVITY,
)


def verify(
    *,
    world: str | int | Place | None = None,
    send: Send = send_stream,
    seed: int = 0,
    checks: Sequence[Check] = CHECKS,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Puts the timing loop to the test, in less than a minute.

    world: "new", "host", the number of a process, an open ``World``, or None (a private world, or else the host's lo).
    send: the loop. seed: of the orders in which runs are interleaved. say: is told what is going on, a line at a time.
    Raises Unavailable for a world that can't be had. After Ctrl-C the report has the checks that were finished.
    """
    say = say or (lambda _text: None)
    items = []
    with visit(world, ("lo", "veth")) as (place, warnings):
        for text in warnings:
            say(text)
        subject = Subject(place, send, seed)
        with noted() as interrupted, contextlib.suppress(KeyboardInterrupt):
            for number, check in enumerate(checks, 1):
                say(f"{number} of {len(checks)}, {check.id}: {check.claim}")
                items.append(Item(check.id, check.claim, tuple(check.findings(subject)), check.fix))
    return Report(tuple(items), interrupted=interrupted.is_set())
