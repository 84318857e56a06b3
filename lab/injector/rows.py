"""Some frames of a source at a time, as columns: what decides how they leave, and whether they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.injector.source import Source
from lab.native.files import HAS
from lab.native.injection import Field

__all__ = ["LINK_ETHERNET", "LINK_IP", "Rows", "rows_of"]

LINK_ETHERNET = 1
#: LINKTYPE_* of frames that are IP packets, with nothing in front of them.
LINK_IP = (12, 14, 101, 228, 229)
_ADDRESSES = {4: (12, 16, 4), 6: (8, 24, 16)}  # from the IP header on: of source and of destination, and their length

_Booleans = npt.NDArray[np.bool_]
_COLUMNS = (
    "offset", "length", "captured", "interface", "has", "family", "protocol", "ttl", "vlan", "network_offset", "source",
    "destination", "source_port", "destination_port", "icmp_type", "icmp_id", "fragment_id",
)  # fmt: skip


class Rows:
    """A row a frame, shape (n,).

    columns: of ``lab.taps.frames.FRAME``. link: LINKTYPE_*. memory: the bytes of the file. source: its fields may vary
    its only frame.
    """

    def __init__(
        self,
        columns: dict[str, npt.NDArray[Any]],
        link: npt.NDArray[np.int64],
        memory: npt.NDArray[np.uint8],
        source: Source,
    ) -> None:
        self.columns, self.link, self._memory, self._source = columns, link, memory, source

    def __len__(self) -> int:
        return len(self.link)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    def has(self, layer: str) -> _Booleans:
        """Which frames have a layer, or a property, of ``lab.native.files.HAS``."""
        found: _Booleans = self["has"] & HAS[layer] != 0
        return found

    def family(self, family: int) -> _Booleans:
        """Which are IP packets of this family."""
        found: _Booleans = self["family"] == family
        return found

    @cached_property
    def ethernet(self) -> _Booleans:
        """Which are Ethernet frames, with all of the header."""
        found: _Booleans = (self.link == LINK_ETHERNET) & (self["captured"] >= 14)
        return found

    @cached_property
    def ip_length(self) -> npt.NDArray[np.int64]:
        """Bytes of the IP packet by its own header; 0: it doesn't tell (segmentation is left to a device)."""
        found = np.zeros(len(self), np.int64)
        for family, at, more in ((4, 2, 0), (6, 4, 40)):
            which = self.which(self.family(family))
            told = self.numbers(self.network_at[which] + at, ">u2").astype(np.int64)
            found[which] = np.where(told, told + more, 0)
        return found

    @cached_property
    def network_at(self) -> npt.NDArray[np.int64]:
        """Where in the file the IP header is."""
        found: npt.NDArray[np.int64] = self["offset"] + self["network_offset"]
        return found

    @staticmethod
    def which(rows: _Booleans) -> npt.NDArray[np.intp] | slice:
        """The numbers of some rows; all of them: as a slice, which copies nothing."""
        return slice(None) if rows.all() else np.flatnonzero(rows)

    def numbers(self, at: npt.NDArray[np.int64], kind: str) -> npt.NDArray[Any]:
        """Numbers of a NumPy type that begin at any bytes of the file. They must be there: nothing is checked."""
        places = len(self._memory) - np.dtype(kind).itemsize + 1
        return np.ndarray((places,), kind, self._memory, strides=(1,))[at]

    def group(self) -> _Booleans:
        """Which go to a multicast or the broadcast MAC address, or may do so."""
        found = self.ethernet.copy()
        which = self.which(found)
        found[which] = self._memory[self["offset"][which]] & 1 != 0
        if self.varies(0, 1):
            low, high = self._corners(0, 1)
            found |= (low != high) | bool(low[0] & 1)
        return found

    def varies(self, at: int, length: int) -> bool:
        """Whether some field changes these bytes, counted from the frame's first one."""
        return any(each.offset < at + length and at < each.offset + each.bytes for each in self._source.fields)

    def varies_address(self, which: int) -> bool:
        """Whether some field changes the source (0) or the destination (1) of the IP packet."""
        at, length = self._place(which)
        return self.varies(at, length)

    def addresses(self, which: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The least and the greatest source (0) or destination (1) that each frame may have, shape (n, 16) each."""
        address = self["destination" if which else "source"]
        if not self._source.fields or not self.varies_address(which):
            return address, address
        at, length = self._place(which)
        low, high = (np.frombuffer(each.ljust(16, b"\0"), np.uint8)[None] for each in self._corners(at, length))
        return low, high

    def _place(self, which: int) -> tuple[int, int]:
        """Of the only frame: where its source (0) or destination (1) is, and its length; (0, 0) without IP."""
        if not self["family"][0]:
            return 0, 0
        first, second, length = _ADDRESSES[int(self["family"][0])]
        return int(self["network_offset"][0]) + (second if which else first), length

    def _corners(self, at: int, length: int) -> tuple[bytes, bytes]:
        """The least and the greatest that these bytes of the only frame can become, each field on its own."""
        begin = int(self["offset"][0])
        frame = self._memory[begin : begin + int(self["captured"][0])].tobytes()
        low, high = bytearray(frame), bytearray(frame)
        for field in self._source.fields:
            span = slice(field.offset, field.offset + field.bytes)
            values = _bounds(field)
            for corner, value in zip((low, high), values, strict=True):
                number = int.from_bytes(corner[span]) & ~(field.mask << field.shift) | value << field.shift
                corner[span] = number.to_bytes(field.bytes)
        return bytes(low[at : at + length]), bytes(high[at : at + length])


def _bounds(field: Field) -> tuple[int, int]:
    """The least and the greatest value of a field; all that fit if it can wrap, or the clock sets it."""
    if field.kind == "listed":
        values = [value & field.mask for value in field.values]
        return min(values), max(values)
    count = field.count or 1 << 64
    last = field.first + (field.step if field.kind == "counting" else 1) * (count - 1)
    low, high = sorted((field.first, last))
    return (0, field.mask) if field.kind == "clock" or low < 0 or high > field.mask else (low, high)


def rows_of(source: Source) -> Iterator[Rows]:
    """The frames of a source, in order."""
    memory = np.frombuffer(source.frames.contents(), np.uint8)
    links = np.array([each.link_type for each in source.frames.sources], np.int64)
    for columns in source.frames.batches(*_COLUMNS):
        yield Rows(columns, links[columns["interface"]], memory, source)
