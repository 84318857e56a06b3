"""Capture files, pcap and pcapng, as columns: a row a frame, whatever wrote them, even while it is still writing."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.errors import CaptureError, UsageError
from lab.managed import Managed
from lab.native.files import CHECKSUMS, FRAME, HAS, Program, Reader
from lab.taps.filters import NOTHING, compile_filter
from lab.taps.mapped import MappedFile

__all__ = ["CHECKSUMS", "FRAME", "HAS", "FrameFile", "Source"]

Arrays = dict[str, npt.NDArray[Any]]

#: Bytes that tell what a file is.
_BEGINNING = 64
#: Frames from one mark to the next, from which any of them can be found again.
_STRETCH = 16384


@dataclass(frozen=True)
class Source:
    """An interface that the file describes; counts are None where it doesn't tell them.

    link_type: LINKTYPE_*. snaplen: the most bytes of a frame that are kept; 0: all. section: the index of its section.
    received, dropped: by the interface. accepted: by the filter. os_dropped: for want of room. delivered: to whoever
    wrote the file.
    """

    name: str
    description: str
    filter: str | None
    link_type: int
    snaplen: int
    section: int
    received: int | None
    dropped: int | None
    accepted: int | None
    os_dropped: int | None
    delivered: int | None


class FrameFile(Managed):
    """The frames of a capture file that match a filter, numbered from 0.

    The file is mapped, not loaded: what is kept in memory is a mark every 16,384 frames, and the arrays that are asked
    for. ``growing``: somebody is still writing it, so that its end within a block is no fault.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | int,
        *,
        filter: str | None = None,  # noqa: A002 - as everywhere
        growing: bool = False,
    ) -> None:
        """path: also a descriptor, or "-" for standard input. filter: as libpcap reads it (pcap-filter(7)).

        Raises UsageError if the filter does not compile, CaptureError if there is no such file or it is no capture.
        """
        self.filter, self.growing = filter, growing
        self._reader = Reader(None if filter is None else self._program_for)
        self._marks: list[bytes] = []
        self._count = 0
        self._nearby: tuple[int, Arrays] = (-1, {})
        self._described: tuple[int, tuple[Source, ...]] = (-1, ())  # up to that place in the file
        self._file = MappedFile(path, _check_beginning)
        self.path = self._file.name
        try:
            _check_beginning(self.path, self._file.copy(0, min(len(self._file), _BEGINNING)))
            self._reader.read(self._file.contents, {}, 0, 0)
            if self.format is None and not growing:
                raise CaptureError(f"{self.path} is no capture, of {len(self._file)} bytes; give a whole one")
            if filter is not None and not len(self._reader.sources):
                compile_filter(filter)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def refresh(self, *, shorter: bool = False) -> None:
        """Takes in what was appended since it was opened or refreshed. Raises CaptureError if the file has been cut.

        shorter: it may have been, behind its last whole block.
        """
        self._file.refresh(shorter=shorter)
        self._nearby = (-1, {})

    # ---- frames ----

    def __len__(self) -> int:
        self._index(None)
        return self._count

    def columns(self, *names: str, start: int = 0, stop: int | None = None) -> Arrays:
        """Fields of ``FRAME`` for the frames from `start` to `stop`, as a slice has it; shape (n,), or (n, …) for
        addresses and SACK blocks.

        Of the file, no more is read than up to `stop`.
        """
        if not self._count and (start, stop) == (0, None):
            return self._read_all(names)
        from_end = start < 0 or stop is None or stop < 0
        self._index(None if from_end else stop)
        start, stop, _step = slice(start, stop).indices(self._count)
        arrays = _arrays(names, max(0, stop - start))
        if start < stop:
            reader = self._reader.at(self._marks[start // _STRETCH])
            reader.read(self._file.contents, {}, 0, start % _STRETCH)
            reader.read(self._file.contents, arrays, 0, stop - start)
        return arrays

    def batches(self, *names: str, rows: int = 65536) -> Iterator[Arrays]:
        """The same of all frames, at most `rows` at a time. The arrays are used again for the next batch."""
        arrays = _arrays(names, rows)
        reader = Reader(self._reader.program_for)
        got = rows
        while got == rows:
            got = reader.read(self._file.contents, arrays, 0, rows)
            if got:
                yield {name: array[:got] for name, array in arrays.items()}

    def contents(self) -> mmap.mmap | bytes:
        """All bytes of the file, as they lie in memory; ``offset`` of a frame is a place in them."""
        return self._file.contents()

    def frame_bytes(self, number: int) -> memoryview:
        """What was captured of a frame. Raises IndexError if there is no such frame."""
        offset, captured = self._of_frame(number, "offset", "captured")
        return memoryview(self._file.copy(offset, captured))

    def comment(self, number: int) -> str | None:
        """The first comment on a frame, if there is one. Raises IndexError if there is no such frame."""
        offset, length = self._of_frame(number, "comment_offset", "comment_length")
        return self._text(offset, length) if offset else None

    # ---- the rest of the file ----

    @property
    def format(self) -> str | None:
        """Either "pcap" or "pcapng"; None for a file that is growing, and has not begun."""
        return self._reader.format

    @property
    def application(self) -> str | None:
        """What wrote the file, as its first section says."""
        state = self._reader.state
        return self._text(state.application_offset, state.application_length) if state.application_offset else None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The interfaces, by the number that ``interface`` of a frame has."""
        self._index(None)
        if self._described[0] != self._reader.state.offset:
            self._described = self._reader.state.offset, tuple(self._source(row) for row in self._reader.sources)
        return self._described[1]

    @property
    def comments(self) -> tuple[str, ...]:
        """Those on sections, interfaces and statistics, in the file's order."""
        self._index(None)
        return tuple(self._text(row["offset"], row["length"]) for row in self._reader.notes)

    @property
    def clamped(self) -> bool:
        """Whether a frame's time lies beyond what int64 nanoseconds hold, and was moved to the nearest that they do."""
        self._index(None)
        return bool(self._reader.state.late_time)

    @property
    def fault(self) -> str | None:
        """Why the file can't be read to its end, and how many frames could be; None if it can."""
        self._index(None)
        why = self._why()
        return why and f"{self._count:,} frames read, then: {why}"

    @property
    def whole_bytes(self) -> int:
        """Where its last whole block ends."""
        self._index(None)
        return int(self._reader.state.offset)

    # ---- how ----

    def _program_for(self, link_type: int) -> Program:
        """Frames of a link type that the filter can't be about don't match; but it must be about the first one's."""
        assert self.filter is not None  # noqa: S101 - else nobody asks
        try:
            return compile_filter(self.filter, link_type)
        except UsageError:
            if len(self._reader.sources):
                return NOTHING
            raise

    def _index(self, until: int | None) -> None:
        """Reads on until so many frames are known, or to the end."""
        while until is None or self._count < until:
            if self._count == len(self._marks) * _STRETCH:
                self._marks.append(self._reader.mark())
            limit = len(self._marks) * _STRETCH - self._count
            got = self._reader.read(self._file.contents, {}, 0, limit)
            self._count += got
            if got < limit:
                return

    def _read_all(self, names: tuple[str, ...]) -> Arrays:
        """The columns of a file of which nothing is indexed yet, in one pass with that."""
        room, got = _STRETCH, _STRETCH
        arrays = _arrays(names, room)
        while got == _STRETCH:
            if self._count + _STRETCH > room:
                room = self._rows_to_come()
                more = _arrays(names, room)
                for name, array in arrays.items():
                    more[name][: self._count] = array[: self._count]
                arrays = more
            self._marks.append(self._reader.mark())
            got = self._reader.read(self._file.contents, arrays, self._count, _STRETCH)
            self._count += got
        return {name: array[: self._count] for name, array in arrays.items()}

    def _rows_to_come(self) -> int:
        """Rows for all of the file, by the bytes that a frame took so far, and a little more; a stretch at least."""
        read = int(self._reader.state.offset)
        left = (len(self._file) - read) * self._count // read
        return self._count + _STRETCH + left + left // 32

    def _of_frame(self, number: int, *names: str) -> list[int]:
        stretch = number // _STRETCH
        if number < 0 or (stretch != self._nearby[0] and not self._load(stretch)):
            raise IndexError(f"no frame {number} among {len(self):,}")
        arrays = self._nearby[1]
        try:
            return [int(arrays[name][number % _STRETCH]) for name in names]
        except IndexError:
            raise IndexError(f"no frame {number} among {len(self):,}") from None

    def _load(self, stretch: int) -> bool:
        """Finds the places of a stretch of frames. Whether there are any."""
        first = stretch * _STRETCH
        names = ("offset", "captured", "comment_offset", "comment_length")
        arrays = self.columns(*names, start=first, stop=first + _STRETCH)
        self._nearby = (stretch, arrays)
        return len(arrays["offset"]) > 0

    def _text(self, offset: int, length: int) -> str:
        """UTF-8, as all text of pcapng; writers exist that end it with a zero byte."""
        return self._file.copy(int(offset), int(length)).decode(errors="replace").rstrip("\0")

    def _source(self, row: np.void) -> Source:
        counts = ("received", "dropped", "accepted", "os_dropped", "delivered")
        return Source(
            name=self._text(row["name_offset"], row["name_length"]),
            description=self._text(row["description_offset"], row["description_length"]),
            filter=self._text(row["filter_offset"], row["filter_length"]) or None,
            link_type=int(row["link_type"]),
            snaplen=int(row["snaplen"]),
            section=int(row["section"]),
            **{name: None if row[name] < 0 else int(row[name]) for name in counts},
        )

    def _why(self) -> str | None:
        status, at = self._reader.status, self._reader.state.fault_offset
        if status == "end" or (status == "cut" and self.growing):
            return None
        if status == "length":
            order = "<" if (sys.byteorder == "little") != bool(self._reader.state.swapped) else ">"
            (length,) = struct.unpack(order + "I", self._file.copy(at + 4, 4))
            impossible = length < 12 or length % 4
            return f"the block at byte {at:,} " + (
                f"says it has {length:,} bytes" if impossible else "contradicts itself about what is how long"
            )
        return {
            "cut": f"the file ends within what begins at byte {at:,}: it was cut short, or is still being written",
            "no_capture": f"the section at byte {at:,} does not say what byte order it has",
            "version": f"the section at byte {at:,} is of a version that is not 1.x",
            "interface": f"the frame at byte {at:,} is of an interface that the file does not describe",
            "sources": f"the interface at byte {at:,} is one too many: {len(self._reader.sources):,} are enough",
            "option": f"the block at byte {at:,} has an option that is longer than the block",
            "resolution": f"the interface at byte {at:,} has times of a resolution beyond 64 bits",
        }[status]


def _arrays(names: tuple[str, ...], rows: int) -> Arrays:
    unknown = [name for name in names if name not in (FRAME.names or ())]
    if unknown:
        raise UsageError(f"no column {unknown[0]!r}: give some of {', '.join(FRAME.names or ())}")
    return {name: np.empty(rows, FRAME[name]) for name in names}


_PACKED = {b"\x1f\x8b": "gunzip", b"\x28\xb5\x2f\xfd": "unzstd", b"\xfd7zXZ": "unxz", b"BZh": "bunzip2"}


def _check_beginning(name: str, first: bytes) -> None:
    """Raises CaptureError if a file that begins so is no capture."""
    reader = Reader()
    reader.read(lambda: first, {}, 0, 0)
    if reader.status == "version":
        raise CaptureError(f"{name} is of a version that is neither pcap 2.4 nor pcapng 1.x; convert it with editcap")
    if reader.status == "no_capture":
        tool = next((tool for magic, tool in _PACKED.items() if first.startswith(magic)), None)
        remedy = f"{tool} it first" if tool else "give a file that lab capture, tcpdump or Wireshark wrote"
        raise CaptureError(f"{name} is neither pcap nor pcapng; {remedy}")
