"""A capture that goes on: frames of some taps on their way to a file, which can be looked at meanwhile and after."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Sequence
from types import TracebackType

from lab.accounts import softnet_dropped
from lab.checks import check_count
from lab.errors import Unavailable, UsageError
from lab.native.captures import LONGEST_NS, Counts
from lab.taps.capturer import Capturer, Taps, Totals
from lab.taps.captures import Capture
from lab.taps.frames import FrameFile
from lab.taps.places import SocketAt, TapAt
from lab.taps.speakers import Speakers
from lab.taps.targets import Target
from lab.units import byte_count
from lab.units import duration as in_ns

__all__ = ["LiveCapture"]

_MOST_FRAMES = 2**63 - 1


class LiveCapture(Capture):
    """Captures from now on, until stopped, or to the end of its ``with`` block. Its frames stay at hand.

    places: what is tapped. file: where frames are written; None: a file without a name in the temporary folder, which
    goes with this object; a descriptor, of a pipe say, is written to, and nothing can be read here. filter: as libpcap
    reads it. direction: "in", "out" or "inout"; on lo the last keeps one copy of each packet, that which comes in,
    unless both_copies, which keeps and links them. count: ends after so many frames; duration: after so long ("2s").
    buffer: memory of the rings of one interface ("256MiB"). rings: of each interface; by default one for each CPU,
    which the linking of copies rests on. While it goes on, the sockets of those networks are watched, so that flows can
    name the processes at both ends; the file keeps those whose ports occur in it.

    Raises UsageError for what can't be asked, Unavailable where it can't be done.
    """

    def __init__(
        self,
        places: Sequence[TapAt],
        *,
        file: str | os.PathLike[str] | int | None = None,
        filter: str | None = None,  # noqa: A002 - as everywhere
        direction: str = "inout",
        both_copies: bool = False,
        count: int | None = None,
        duration: str | None = None,
        buffer: str | None = None,
        rings: int | None = None,
    ) -> None:
        limit_ns = 0 if duration is None else _lasting(duration)
        if count is not None:
            check_count("count", count, high=_MOST_FRAMES)
        with contextlib.ExitStack() as opened:
            speakers = [opened.enter_context(Speakers(socket_at)) for socket_at in _networks(places)]
            taps = opened.enter_context(
                Taps(
                    places,
                    filter=filter or "",
                    direction=direction,
                    both_copies=both_copies,
                    buffer_bytes=None if buffer is None else byte_count(buffer),
                    rings=rings,
                )
            )
            target = opened.enter_context(Target(file))
            self.capturer = opened.enter_context(Capturer(taps, target, limit=count or 0, limit_ns=limit_ns))
            opened.pop_all()
        self._end = weakref.finalize(self, _stop, self.capturer, speakers, os.getpid())
        self._speakers, self._backlog_before, self._backlog_lost = speakers, softnet_dropped() or 0, 0
        self._readable = target.seekable
        super().__init__(self._open_file())

    def _open_file(self) -> FrameFile:
        """What is written; where that goes down a pipe, nothing."""
        target = self.capturer.target
        if target.path and self._readable:
            return FrameFile(target.path, growing=True)
        with os.fdopen(os.memfd_create("nothing", os.MFD_CLOEXEC), "rb") as nothing:
            file = FrameFile(target.fd if self._readable else nothing.fileno(), growing=True)
        file.path = target.path or f"capture of {', '.join(place.name for place in self.capturer.taps.places)}"
        return file

    @property
    def counts(self) -> Counts:
        """What came of it so far, by interface."""
        return self.capturer.counts()

    @property
    def totals(self) -> Totals:
        """What came of it so far, or in the end."""
        return self.capturer.totals()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about it, with remedies."""
        told = [text for each in self._speakers for text in each.warnings]
        if dropped := self.totals.dropped + self.totals.missing:
            seen = self.totals.frames + dropped
            told.append(f"{dropped:,} of {seen:,} frames are missing, as they came too fast; give a larger buffer")
        if self.totals.down:
            told.append("an interface went down: what passed before it came up again, if it did, is not there")
        if disordered := self.totals.disordered:
            told.append(f"{disordered:,} frames stand behind younger ones; sort by time_ns, or use reordercap")
        if self.totals.linked and self._backlog_lost:
            told.append(
                f"the kernel dropped {self._backlog_lost:,} packets on their way in, maybe on lo: where these had "
                "equal bytes, a copy may be linked to the wrong one; raise net.core.netdev_max_backlog"
            )
        return tuple(told)

    @property
    def running(self) -> bool:
        """Whether it goes on: it was not stopped, and did not end by itself."""
        return self.capturer.running

    @property
    def dropped(self) -> int:
        """Frames that the kernel dropped, as they came too fast."""
        return self.totals.dropped

    @property
    def truncated(self) -> int:
        """Frames of which a part is missing."""
        return self.totals.truncated

    @property
    def lossless(self) -> bool:
        """Whether nothing was lost on the way from the taps to the file; known for sure when it has ended."""
        return self.totals.lossless

    @property
    def numbers(self) -> range:
        self.refresh()
        return super().numbers

    def fileno(self) -> int:
        """An eventfd for ``select`` and its like: readable when there is more in the file, and at the end."""
        return self.capturer.ready

    def refresh(self) -> None:
        """Takes in all that has passed the taps by now. So does whatever looks at the frames."""
        if self._end.alive and self._readable:
            self.capturer.flush()
            self.frames.refresh()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it has ended by itself, by its count or duration. Whether it has, within the time in seconds."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self.running:
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            self.capturer.wait(left_s)
        return True

    def stop(self) -> None:
        """Ends it: all that has passed by now is kept. What could not be is told by ``totals``."""
        if not self._end.alive:
            return
        self._end()
        self._backlog_lost = (softnet_dropped() or 0) - self._backlog_before
        if not self._readable:
            return
        self.frames.growing = False
        self.frames.refresh(shorter=self.totals.error is not None)

    def close(self) -> None:
        """Stops it, and lets go of the file. What was taken out of it stays."""
        self.stop()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it; raises Unavailable if what it took could not be kept, and nobody has asked before."""
        asked = not self._end.alive
        self.stop()
        if self.totals.error and not asked and error is None:
            what = f"{self.totals.error}; {self.totals.frames:,} frames can be read"
            raise Unavailable(what, errno=None, fix="Look at its totals")

    def _sentences(self) -> list[str]:
        error = self.totals.error
        running = ["it goes on"] if self.running else []
        return [*super()._sentences(), *running, *([error] if error else []), *self.warnings]


def _networks(places: Sequence[TapAt]) -> list[SocketAt]:
    """One way to open sockets for each network that is tapped: names tell the end."""
    return list({place.name.rpartition(":")[0]: place.socket_at for place in places}.values())


def _stop(capturer: Capturer, speakers: Sequence[Speakers], owner: int) -> None:
    if os.getpid() != owner:  # a forked child has a copy of the capture, but none of its threads
        return
    try:
        capturer.stop(speakers)
    finally:
        capturer.close()


def _lasting(text: str) -> int:
    ns = in_ns(text)
    if not 0 < ns <= LONGEST_NS:
        raise UsageError(f"a duration of {text}: give 1ns to a year (31536000s)")
    return ns
