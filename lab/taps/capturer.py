"""What captures: taps, a target, and the threads between them. Knows nothing of what is in the frames.

Imports nothing slow: the capturer of ``lab exec`` must be at work before its rings are full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.checks import pick
from lab.errors import Unavailable, UsageError
from lab.managed import Managed
from lab.native.captures import Counts, Interface, Recording
from lab.taps.filters import EVERYTHING, NOTHING, Instruction, compile_filter
from lab.taps.places import TapAt
from lab.taps.speakers import Speakers
from lab.taps.tapping import DIRECTIONS, blocks_for, open_tap, pieces_for, rings_of_all_cpus
from lab.taps.targets import Target

__all__ = ["Capturer", "Taps"]

_SLICE_NS = 50_000_000  # how long a wait goes on before Ctrl-C is noticed
#: A filter that is about VLAN tags can't be left to the kernel, which takes them out of frames before it filters.
_ABOUT_TAGS = re.compile(r"\bvlan\b")
_ETHERNET = 1
_HOSTS = Path("/etc/hosts")
_MOST_HOSTS = 1000


class Taps(Managed):
    """Taps on some interfaces: every frame that passes them from now on, and matches, will be captured.

    direction: "in", "out" or "inout"; on a loopback device the last keeps one copy of each packet, unless both_copies.
    buffer_bytes: of the rings of one interface, and as many for what waits to be written; None: up to 64 MiB a CPU.
    rings: of each interface; None: one for each CPU, which both_copies needs. Raises UsageError for what can't be
    asked, with libpcap's own message for a filter; Unavailable where an interface can't be tapped.
    """

    def __init__(
        self,
        places: Sequence[TapAt],
        *,
        filter: str = "",  # noqa: A002 - as scapy and tcpdump call it
        direction: str = "inout",
        both_copies: bool = False,
        buffer_bytes: int | None = None,
        rings: int | None = None,
    ) -> None:
        pick("direction", direction, DIRECTIONS)
        if both_copies and direction != "inout":
            raise UsageError(f"both copies of a packet go both ways: leave --direction {direction} out")
        if both_copies and rings is not None:
            raise UsageError("copies are linked by the CPU that they passed on: leave rings out")
        if not places:
            raise UsageError("no interface to capture on: name one, such as lo")
        self.places, self.filter, self.both_copies = tuple(places), filter, both_copies
        compiled = compile_filter(filter, _ETHERNET)
        #: The filter that is run here, not by the kernel; or None.
        self.program = compiled if _ABOUT_TAGS.search(filter) else None
        rings = rings or rings_of_all_cpus()
        blocks = blocks_for(len(places), rings, buffer_bytes)
        #: Of 4 MiB, that may wait to be written.
        self.pieces = pieces_for(blocks, rings)
        with contextlib.ExitStack() as opened:
            self.taps = tuple(
                opened.enter_context(
                    contextlib.closing(
                        open_tap(
                            place.interface,
                            program=self._program_for,
                            direction=direction,
                            both_copies=both_copies,
                            blocks=blocks,
                            rings=rings,
                            socket_at=place.socket_at,
                        )
                    )
                )
                for place in self.places
            )
            opened.pop_all()
        if both_copies and not any(tap.loopback for tap in self.taps):
            self.close()
            raise UsageError("only on lo does each packet pass twice: leave --both-copies out")

    def _program_for(self, link_type: int) -> Sequence[Instruction]:
        """What the kernel runs. Of several interfaces, one without a link layer may have nothing that would match."""
        try:
            program = compile_filter(self.filter, link_type)
        except UsageError:
            if len(self.places) == 1:
                raise
            return NOTHING
        return EVERYTHING if self.program else program

    def sockets(self) -> list[socket.socket]:
        """Those of all interfaces."""
        return [each for tap in self.taps for each in (*tap.sockets, tap.channel)]

    def described(self) -> list[Interface]:
        """The interfaces, as the file shall describe them."""
        return [
            Interface(
                name=place.name,
                description=place.description,
                filter=self.filter,
                link_type=tap.link_type,
                loopback=tap.loopback and self.both_copies,
            )
            for place, tap in zip(self.places, self.taps, strict=True)
        ]

    def close(self) -> None:
        """Lets go of all of them at once: the kernel takes tens of ms for each, but no longer for several together."""
        closing = [threading.Thread(target=each.close) for each in self.sockets()]
        with contextlib.suppress(RuntimeError):  # while Python exits, it starts no thread
            for each in closing:
                each.start()
        for each in closing:
            each.join() if each.ident else each.run()


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What came of a capture so far, or in the end.

    dropped: by the kernel, as a ring was full. freezes: how often one was. truncated: frames of which a part is not
    there. missing: frames that the taps had, and that never came out of their rings. unwritten: that are not in the
    file, which could not be written. linked: packets whose two copies are linked; unlinked: copies without their
    other one. disordered: frames that stand behind younger ones. down: how often interfaces went down. error: why it
    ended early, in words. lossless: no frame is missing, or lacks a part.
    """

    frames: int
    bytes: int
    dropped: int
    freezes: int
    truncated: int
    missing: int
    unwritten: int
    linked: int
    unlinked: int
    disordered: int
    down: int
    error: str | None

    @property
    def lossless(self) -> bool:
        return self.error is None and not (
            self.dropped or self.freezes or self.truncated or self.missing or self.unwritten
        )


class Capturer(Managed):
    """Writes what the taps see to the target, until stopped. Owns both.

    limit: ends after so many frames; limit_ns: after so long. Raises Unavailable.
    """

    def __init__(self, taps: Taps, target: Target, *, limit: int = 0, limit_ns: int = 0) -> None:
        self.taps, self.target = taps, target
        self.ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._error: OSError | None = None
        self._final: Counts | None = None
        self._unwritten = 0
        self._lock = threading.RLock()  # so that nobody asks what another thread closes
        try:
            self._recording = Recording(
                [ring for index, tap in enumerate(taps.taps) for ring in tap.rings(index)],
                taps.described(),
                file=target.fd,
                direct=target.direct,
                ready=self.ready,
                seekable=target.seekable,
                pieces=taps.pieces,
                limit=limit,
                limit_ns=limit_ns,
                program=taps.program,
                hosts=_loopback_names(),
                application=_application(),
            )
        except BaseException:
            os.close(self.ready)
            raise

    @property
    def running(self) -> bool:
        """Whether frames are still taken: it was not stopped, and did not end by itself."""
        return self._final is None and not self.counts().ended

    def counts(self) -> Counts:
        """At this moment, or as they were in the end."""
        with self._lock:
            return self._final or self._recording.counts()

    def totals(self) -> Totals:
        """The same of all interfaces together; complete once it was stopped."""
        counts = self.counts()
        sums = {
            name: sum(getattr(each, name) for each in counts.interfaces)
            for name in ("dropped", "freezes", "truncated", "linked", "unlinked", "down", "received", "refused")
        }
        seen = sums.pop("received") - sums.pop("refused") - sums["dropped"]
        return Totals(
            frames=counts.frames - self._unwritten,
            bytes=counts.bytes,
            missing=max(0, seen - counts.frames) if self._final and (counts.given_up or not counts.ended) else 0,
            unwritten=self._unwritten,
            disordered=counts.disordered,
            error=self._why(counts),
            **sums,
        )

    def _why(self, counts: Counts) -> str | None:
        if self._error:
            return f"cannot write {self.target.path or 'the capture'}: {self._error.strerror}"
        gone = [place.name for place, each in zip(self.taps.places, counts.interfaces, strict=True) if each.gone]
        return f"{', '.join(gone)} was deleted while it was captured" if gone else None

    def flush(self) -> None:
        """Has all written that passed the taps by now, and waits until it is."""
        with self._lock:
            ticket = None if self._final else self._recording.flush()
        if ticket is not None:
            self._wait(ticket)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Sleeps until there is more in the file, or it has ended by itself. Whether that was before the time."""
        ready = select.poll()
        ready.register(self.ready, select.POLLIN)
        if not ready.poll(None if timeout_s is None else timeout_s * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.ready)
        return True

    def stop(self, speakers: Sequence[Speakers] = ()) -> None:
        """Lets no further frame in, and completes the file with the statistics. Waits for it.

        speakers: are stopped, and the sockets that they saw, on ports that occur in the file, go into its comments.
        What fails is told by ``totals``. A second Ctrl-C leaves the file as it is.
        """
        with self._lock:
            if self._final is not None:
                return
        try:
            self.flush()
            for each in speakers:
                each.stop()
            seen = self._recording.ports()
            comments = [line for each in speakers for line in each.comments(seen)]
            self._wait(self._recording.stop(comments, [tap.drops() for tap in self.taps.taps]))
        finally:
            with self._lock:
                self._final = self._recording.counts()
                self._recording.close()
            if self._error and self.target.seekable:
                self._mend()

    def _wait(self, ticket: int) -> None:
        done = False
        while not done:
            with self._lock:
                try:
                    done = self._final is not None or self._recording.wait(ticket, _SLICE_NS)
                except OSError as error:
                    self._error, done = error, True

    def _mend(self) -> None:
        """Ends a file that could not be written to its end behind its last whole block, and counts what it lacks."""
        from lab.taps.frames import FrameFile

        with FrameFile(self.target.fd, growing=True) as frames:
            kept, end = len(frames), frames.whole_bytes
        os.ftruncate(self.target.fd, end)
        self._unwritten = self.counts().frames - kept

    def close(self) -> None:
        """Stops it, if that was not done, and lets go of taps and target."""
        with contextlib.ExitStack() as last:
            last.callback(os.close, self.ready)
            last.callback(self.target.close)
            last.callback(self.taps.close)
            self.stop()


def _application() -> str:
    from importlib.metadata import version  # slow to import

    return f"loopback-lab {version('loopback-lab')}"


def _loopback_names() -> list[str]:
    """The names of loopback addresses in /etc/hosts."""
    try:
        lines = _HOSTS.read_text(errors="replace").splitlines()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return []
        raise Unavailable(f"cannot read {_HOSTS}", errno=error.errno, fix="Look at it") from error
    words = [line.partition("#")[0].split() for line in lines]
    named = [(each[0], name) for each in words if each and _is_loopback(each[0]) for name in each[1:]]
    return [f"{address} {name}" for address, name in named[:_MOST_HOSTS]]


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
