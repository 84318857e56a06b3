"""A capture as it goes on: waiting for frames and for the end, and the line in the terminal."""

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

from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.taps.capturer import Capturer

__all__ = ["Ending", "LiveLine", "ended_by_signals", "looks"]

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


class LiveLine:
    """Frames, their rate and their loss, in one line of standard error that is written over. Silent elsewhere."""

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
        self._write(
            f"{totals.frames:,} frames, {rate:,.0f}/s, {format_bytes(totals.bytes)}, {totals.dropped:,} dropped"
        )

    def clear(self) -> None:
        """Takes it away."""
        if sys.stderr.isatty():
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
