"""Ctrl-C, or a stopped notebook cell, taken note of rather than thrown into whatever is running."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["noted"]


#: The events of the blocks that the main thread is in, the innermost last.
_entered: list[threading.Event] = []


@contextlib.contextmanager
def noted(action: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """While entered, Ctrl-C sets the event and calls `action`; a second one raises KeyboardInterrupt as usual.

    An exception at an arbitrary point could tear a file that is being written, and some libraries raise it twice.
    Blocks nest: what an outer one has noted interrupts an inner one at once, and the other way round. Only the main
    thread is ever interrupted: in others, and where Ctrl-C is ignored, this changes nothing.
    """
    event = threading.Event()

    def note() -> None:
        event.set()
        if action is not None:
            action()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        note()

    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
        yield event
        return
    before = signal.signal(signal.SIGINT, handle)
    outer = _entered[-1] if _entered else None
    _entered.append(event)
    try:
        if outer is not None and outer.is_set():
            note()
        yield event
    finally:
        _entered.pop()
        signal.signal(signal.SIGINT, before)
        if outer is not None and event.is_set():
            outer.set()
