"""The capturer of ``lab exec``: a process that has what the taps see written, until dismissed or its starter dies.

The taps are there before anything is sent. It is forked rather than executed, so that it empties their rings within
milliseconds: what a program sends in the time in which Python starts would fill them. It needs no rights.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict

from lab.errors import Unavailable
from lab.processes import Attendant
from lab.taps.capturer import Capturer, Taps, Totals
from lab.taps.speakers import Speakers
from lab.taps.targets import Target

__all__ = ["Recorder"]


class Recorder:
    """Has what `taps` see from now on written to `target`; both stay the caller's, which must have one thread."""

    def __init__(self, taps: Taps, target: Target) -> None:
        self._told, tell = os.pipe()

        def work(stop: int) -> None:
            said = _attempt(taps, target, stop)
            with contextlib.suppress(BrokenPipeError):  # whom we would tell is gone
                os.write(tell, json.dumps(said).encode())

        sockets = [each.fileno() for each in taps.sockets()]
        self._process = Attendant(work, keep=(*sockets, *target.descriptors(), tell))
        os.close(tell)

    def finish(self) -> Totals:
        """Has what was seen so far written, and the process ended. Raises Unavailable if it could not even begin."""
        self._process.dismiss()
        with os.fdopen(self._told) as told:
            text = told.read()
        if not text:
            fix = "Look in the kernel's log for what ended it (dmesg)"
            raise Unavailable("the capturer ended before its time", errno=None, fix=fix)
        said = json.loads(text)
        if "refused" in said:
            raise Unavailable(**said["refused"])
        return Totals(**said)


def _attempt(taps: Taps, target: Target, stop: int) -> dict[str, object]:
    try:
        with Capturer(taps, target) as capturer, Speakers() as speakers:  # in this order: the rings are filling
            os.read(stop, 1)
            capturer.stop([speakers])
            return asdict(capturer.totals())
    except Unavailable as error:
        return {"refused": {"what": error.what, "errno": error.errno, "fix": error.fix}}
