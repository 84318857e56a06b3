"""Where the fields of a layer lie in a diagram of 32 bits a row, and which rows are left out. Pure numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from lab.flow.anatomy.anatomies import Field, Layer

__all__ = ["BITS", "Box", "Diagram", "Part", "Row", "diagram"]

#: Bits of a row, as in the diagrams of RFCs.
BITS = 32
#: A field is folded if at least so many of its rows go: an IPv6 address, four rows, is always whole.
_FOLDED = 3
#: Rows of a field that are shown before those that are folded.
_HEAD = 2
#: Rows of a layer that are told apart into fields; what comes then (hundreds of answers of DNS) is one box.
_ROWS = 32


@dataclass(frozen=True)
class Part:
    """What lies of a box in one row: the bits from `start` up to, not including, `end`."""

    row: int
    start: int
    end: int


@dataclass(frozen=True)
class Box:
    """A field and its parts, from top to bottom. field: None for bytes of which no field is known."""

    field: Field | None
    parts: tuple[Part, ...]

    @property
    def connected(self) -> bool:
        """Whether it is one polygon: not so of what ends a row and begins the next without touching itself."""
        first, last = self.parts[0], self.parts[-1]
        return len(self.parts) != 2 or first.start < last.end

    @property
    def outlines(self) -> list[list[tuple[int, int]]]:
        """The corners of the polygon that it is, or of its two rectangles, as (bit, row)."""
        if not self.connected:
            return [Box(self.field, (part,)).outlines[0] for part in self.parts]
        first, last = self.parts[0], self.parts[-1]
        if first is last:
            top, bottom = first.row, first.row + 1
            return [[(first.start, top), (first.end, top), (first.end, bottom), (first.start, bottom)]]
        return [[
            (first.start, first.row), (BITS, first.row), (BITS, last.row), (last.end, last.row),
            (last.end, last.row + 1), (0, last.row + 1), (0, first.row + 1), (first.start, first.row + 1),
        ]]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The bits of a layer from `start` up to, not including, `end`; folded: how many bytes stand in it unseen, or 0."""

    start: int
    end: int
    folded: int = 0


@dataclass(frozen=True)
class Diagram:
    """The rows of a layer, and the boxes in them. told: how many of its fields come before the rest in one box."""

    layer: Layer
    rows: tuple[Row, ...]
    boxes: tuple[Box, ...]
    told: int

    @cached_property
    def digits(self) -> list[str]:
        """The bytes of the layer in hexadecimal, without those of blank fields."""
        return self.layer.hex()

    def indices(self, row: Row) -> range:
        """The bytes of the layer that a row has."""
        return range(row.start // 8, min(-(-row.end // 8), len(self.layer.data)))

    def place(self, box: Box) -> list[Part]:
        """The parts of a box where its name has most room: one below the other, with the same ends, none folded."""
        seen = [part for part in box.parts if not self.rows[part.row].folded]
        groups = [list(group) for _, group in groupby(seen, key=lambda part: (part.start, part.end))]
        return max(groups, key=lambda group: len(group) * (group[0].end - group[0].start))

    def fields_of(self, index: int) -> list[Field]:
        """The fields that have bits in a byte of the layer."""
        return [
            each
            for each in self.layer.fields[: self.told]
            if each.offset < 8 * index + 8 and 8 * index < each.offset + each.bits
        ]


def diagram(layer: Layer) -> Diagram:
    """The diagram of a layer, from bit 0 on, without its empty fields."""
    layer = replace(layer, fields=layer.shown)
    spans, told = _spans(layer)
    end = max((end for _, end, _ in spans), default=0)
    folded = {row for span in spans for row in _folded(span, end)}
    rows: list[Row] = []
    for number in range(-(-end // BITS)):
        start, stop = number * BITS, min((number + 1) * BITS, end)
        if number in folded and number - 1 in folded:
            start = rows.pop().start
        rows.append(Row(start, stop, (stop - start) // 8 if number in folded else 0))
    boxes = tuple(Box(field, tuple(_parts(rows, start, stop))) for start, stop, field in spans)
    return Diagram(layer, tuple(rows), boxes, told)


Span = tuple[int, int, Field | None]


def _spans(layer: Layer) -> tuple[list[Span], int]:
    """All bits of the layer, each once: by field, or by what lies between fields. And how many fields are told."""
    end = len(layer.data) * 8
    spans: list[Span] = []
    at = told = 0
    for field in layer.fields:
        if at >= _ROWS * BITS:
            break
        told += 1
        if field.bits <= 0 or field.offset < at:
            continue
        if at < field.offset:
            spans.append((at, field.offset, None))
        at = field.offset + field.bits
        spans.append((field.offset, at, field))
    if at < end:
        spans.append((at, end, None))
    return spans, told


def _folded(span: Span, end: int) -> range:
    """The rows of it that are left out: those that it shares with another field never are."""
    start, stop, _ = span
    first, last = start // BITS + _HEAD, (stop - 1) // BITS
    whole = range(first, last + 1 if stop % BITS == 0 or stop == end else last)
    return whole if len(whole) >= _FOLDED else range(0)


def _parts(rows: list[Row], start: int, end: int) -> Iterator[Part]:
    for number, row in enumerate(rows):
        if row.start < end and start < row.end:
            if row.folded:
                yield Part(number, 0, BITS)
            else:
                yield Part(number, max(start - row.start, 0), min(end, row.end) - row.start)
