"""The reader of capture files of ``native/reader.c``: frames of a file that is in memory into NumPy columns."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lab._native import ffi, lib
from lab.errors import UsageError

__all__ = ["CHECKSUMS", "FRAME", "HAS", "Columns", "Program", "Reader"]

#: Instructions of a filter, each (code, if_true, if_false, k).
Program = Sequence[tuple[int, int, int, int]]
#: Arrays by the names of fields of ``FRAME``, a row a frame.
Columns = Mapping[str, npt.NDArray[Any]]


def _numbers(prefix: str) -> dict[str, int]:
    """Constants of ``native/taps.h``, by their names in small letters without what all have in common."""
    found = {name.removeprefix(prefix).lower(): int(getattr(lib, name)) for name in dir(lib) if name.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda item: item[1]))


#: Bits of ``has``: the layers that a frame has.
HAS = _numbers("LAB_HAS_")
#: What ``checksum`` stands for, by number.
CHECKSUMS = tuple(_numbers("LAB_CHECKSUM_"))

_FORMATS = {int(lib.LAB_PCAP): "pcap", int(lib.LAB_PCAPNG): "pcapng"}
_STATUSES = {number: name for name, number in _numbers("LAB_READ_").items() if name != "bad"}
_FEW = 16  # rows of sources and of notes to begin with


def _layout(struct: str) -> np.dtype[np.void]:
    """A structure of ``native/taps.h``, as NumPy knows it."""
    fields = ffi.typeof(struct).fields
    layout = {
        "names": [name for name, _field in fields],
        "formats": [_format(field.type) for _name, field in fields],
        "offsets": [field.offset for _name, field in fields],
        "itemsize": ffi.sizeof(struct),
    }
    return np.dtype(layout)  # type: ignore[call-overload, no-any-return]


def _format(kind: Any) -> Any:
    if kind.kind == "array":
        return (_format(kind.item), (kind.length,))
    return np.dtype(kind.cname.removesuffix("_t").replace("unsigned char", "uint8"))


#: What can be known of a frame.
FRAME = _layout("struct lab_frame")
_SOURCE, _NOTE = _layout("struct lab_source"), _layout("struct lab_note")


class Reader:
    """Stands at a place in a file, and knows what came before it: ``struct lab_reader`` and its tables."""

    def __init__(self, program_for: Callable[[int], Program] | None = None) -> None:
        """program_for: gives the filter for a link type (LINKTYPE_*) that the file has; None: there is no filter."""
        self._state = ffi.new("struct lab_reader *")
        self._sources, self._notes = np.zeros(_FEW, _SOURCE), np.zeros(_FEW, _NOTE)
        self.program_for = program_for
        self._programs: dict[int, Any] = {}

    def read(self, contents: Callable[[], mmap.mmap | bytes], columns: Columns, first: int, limit: int) -> int:
        """Reads up to `limit` frames into the columns, from row `first` on, and what else comes before the next frame.

        contents: gives the whole file; it is asked again every few milliseconds. Returns how many frames were read;
        if fewer than `limit`, ``status`` says why. Raises UsageError for a filter that can't be run.
        """
        self._state.checksums = "checksum" in columns
        done = 0
        while True:
            done += self._read(contents(), columns, first + done, limit - done)
            if self.status == "link_type":
                self._add_program(int(self._sources["link_type"][self._state.source_count]))
            elif self.status == "room":
                self._sources, self._notes = (
                    np.resize(table, 2 * len(table)) for table in (self._sources, self._notes)
                )
            elif self.status != "more" or done == limit:
                return done

    @property
    def status(self) -> str:
        """Why it stopped: ``enum lab_read_status`` in words, "more", "end", "no_capture", …"""
        return _STATUSES[self._state.status]

    @property
    def format(self) -> str | None:
        """What it is that is read: "pcap", "pcapng", or None if it has not begun."""
        return _FORMATS.get(self._state.format)

    @property
    def state(self) -> Any:
        """The numbers of ``struct lab_reader``, to be read."""
        return self._state

    @property
    def sources(self) -> npt.NDArray[np.void]:
        """Rows of ``struct lab_source`` so far."""
        return self._sources[: self._state.source_count]

    @property
    def notes(self) -> npt.NDArray[np.void]:
        """Rows of ``struct lab_note`` so far."""
        return self._notes[: self._state.note_count]

    def mark(self) -> bytes:
        """Where it stands."""
        return bytes(ffi.buffer(self._state))

    def at(self, mark: bytes) -> Reader:
        """Another one, which stands where this one stood when it gave the mark."""
        other = Reader(self.program_for)
        ffi.buffer(other._state)[:] = mark
        other._sources, other._notes = self._sources.copy(), self._notes.copy()
        other._programs = dict(self._programs)
        return other

    def _read(self, contents: mmap.mmap | bytes, columns: Columns, first: int, limit: int) -> int:
        places = ffi.new("struct lab_column[]", len(columns))
        for place, (name, array) in zip(places, columns.items(), strict=True):
            kind, offset = FRAME.fields[name][:2]  # type: ignore[index]
            place.to, place.offset, place.bytes = ffi.from_buffer(array, require_writable=True), offset, kind.itemsize
        filters = ffi.NULL
        if self.program_for is not None:
            filters = ffi.new("struct lab_filter[]", max(1, len(self._programs)))
            for each, (link_type, program) in zip(filters, self._programs.items(), strict=False):
                each.program, each.link_type = program, link_type
        return int(
            lib.lab_read(
                self._state,
                ffi.from_buffer("unsigned char[]", contents),
                len(contents),
                ffi.from_buffer("struct lab_source[]", self._sources, require_writable=True),
                len(self._sources),
                ffi.from_buffer("struct lab_note[]", self._notes, require_writable=True),
                len(self._notes),
                places,
                len(columns),
                first,
                limit,
                filters,
                len(self._programs),
            )
        )

    def _add_program(self, link_type: int) -> None:
        assert self.program_for is not None  # noqa: S101 - else it is not asked for
        program = ffi.new("struct lab_instruction[]", [tuple(each) for each in self.program_for(link_type)])
        if lib.lab_filter_check(program, len(program)) < 0:
            # All else that the check refuses, libpcap doesn't write for files.
            raise UsageError(
                "a filter with a loop, as of 'protochain', could run for ever: say 'ip proto', 'ip6 proto'"
            )
        self._programs[link_type] = program
