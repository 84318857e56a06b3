"""What goes on until it is ended: waiting for frames and for the end, and the line in the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from lab.managed import Managed
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.taps.capturer import Capturer

__all__ = ["Ending", "LiveLine", "StatusLine", "ended_by_signals", "looks", "signals_as_ctrl_c"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_MS = 500


class Ending:
    """Whether we were told to end; ``fd`` becomes readable then."""

    def __init__(self) -> None:
        self.told = False
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def tell(self, number: int, _frame: FrameType | None) -> None:
        """The handler of signals. A second Ctrl-C raises KeyboardInterrupt."""
        if self.told and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.told = True
        os.eventfd_write(self.fd, 1)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """While entered, what would end us (Ctrl-C, SIGTERM, SIGHUP) is taken note of instead. What is ignored stays so."""
    ending = Ending()
    before = {number: signal.getsignal(number) for number in _ENDING}
    caught = {number: action for number, action in before.items() if action is not signal.SIG_IGN}
    for number in caught:
        signal.signal(number, ending.tell)
    try:
        yield ending
    finally:
        for number, action in caught.items():
            signal.signal(number, action)
        os.close(ending.fd)


@contextlib.contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP are Ctrl-C, which what runs takes note of. What is ignored stays so."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    caught = {number: action for number, action in before.items() if action is not signal.SIG_IGN}
    if caught.pop(signal.SIGINT, None) is None:
        caught = {}  # Ctrl-C would change nothing
    for number in caught:
        signal.signal(number, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, action in caught.items():
            signal.signal(number, action)


def looks(capturer: Capturer, ending: Ending) -> Iterator[None]:
    """A turn whenever frames have come, and at least twice a second; a last one when the capture ends, or shall."""
    ready = select.poll()
    ready.register(ending.fd, select.POLLIN)
    ready.register(capturer.ready, select.POLLIN)
    running = True
    while running:
        if capturer.ready in dict(ready.poll(_LOOK_MS)):
            os.eventfd_read(capturer.ready)
        running = capturer.running and not ending.told
        yield


class StatusLine(Managed):
    """One line of standard error that is written over, and taken away in the end. Silent but in a terminal."""

    def write(self, text: str) -> None:
        """Puts `text` in the place of what stands there."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        """Takes it away."""
        self.write("")


class LiveLine(StatusLine):
    """Frames of a capture, their rate and their loss."""

    def __init__(self, capturer: Capturer) -> None:
        self._capturer = capturer
        self._last = time.monotonic_ns(), 0

    def show(self) -> None:
        """Writes it anew, if half a second has passed."""
        now, (then, before) = time.monotonic_ns(), self._last
        if not sys.stderr.isatty() or now - then < _LOOK_MS * 1_000_000:
            return
        totals = self._capturer.totals()
        self._last = now, totals.frames
        rate = (totals.frames - before) * 1e9 / (now - then)
        self.write(f"{totals.frames:,} frames, {rate:,.0f}/s, {format_bytes(totals.bytes)}, {totals.dropped:,} dropped")
