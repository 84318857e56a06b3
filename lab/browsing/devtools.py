"""Chromium's DevTools protocol over two pipes: JSON messages, each ended by a zero byte.

One call at a time; what the browser tells meanwhile is kept as events. By pipes no packet is sent, which a capture of
``lo`` would have, as it has those of ``--remote-debugging-port``. https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import errno
import json
import os
import select
import time
from collections.abc import Callable
from typing import Any

from lab.errors import LabError

__all__ = ["DevTools", "Ended", "Refused", "TooLate"]

Message = dict[str, Any]

_CHUNK_BYTES = 1 << 16
#: A message that is longer than this is not about the visit of a page.
_MOST_BYTES = 1 << 26


class Refused(LabError, ValueError):  # noqa: N818 - an answer, not a fault
    """What the browser refused to do, in its words."""


class TooLate(LabError, TimeoutError):  # noqa: N818 - a state of the browser
    """It did not answer in time."""


class Ended(LabError, EOFError):  # noqa: N818 - a state of the browser
    """It is not there any more."""


class DevTools:
    """Asks the browser. read, write: descriptors of the pipes; they are the caller's to close.

    events: what it told besides answers, in order; a caller may clear it.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._number = 0
        self.events: list[Message] = []

    def call(self, method: str, *, deadline_s: float, session: str | None = None, **parameters: Any) -> Message:
        """The result of a method. deadline_s: by time.monotonic(). Raises Refused, TooLate, Ended."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise Ended("the browser has ended") from None
        while True:
            answer = self._next(deadline_s)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise Refused(str(answer["error"].get("message", answer["error"])))
                return dict(answer["result"])
            if "method" in answer:  # and not a late answer to what was given up
                self.events.append(answer)

    def wait_for(self, wanted: Callable[[Message], bool], *, deadline_s: float) -> Message:
        """The first event of that kind, among those that have come or will. Raises TooLate, Ended."""
        at = 0
        while True:
            for event in self.events[at:]:
                if wanted(event):
                    return event
            at = len(self.events)
            message = self._next(deadline_s)
            if "method" in message:
                self.events.append(message)

    def _next(self, deadline_s: float) -> Message:
        while b"\0" not in self._buffer:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._read], [], [], left_s)[0]:
                raise TooLate("the browser did not answer in time")
            chunk = os.read(self._read, _CHUNK_BYTES)
            if not chunk:
                raise Ended("the browser has ended")
            self._buffer += chunk
            if len(self._buffer) > _MOST_BYTES:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE), "a message of the browser")
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: Message = json.loads(text)
        return message
