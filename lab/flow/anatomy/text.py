"""An anatomy as text of 80 columns: diagrams like those of RFCs, the bytes beside them, and what the fields say."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, pairwise, repeat, zip_longest
from typing import NamedTuple

from lab.flow.anatomy.anatomies import PAYLOADS, Anatomy, Comparison, Field, Layer, Pair
from lab.flow.anatomy.words import explained

__all__ = ["anatomy_lines", "comparison_lines"]

_COLUMNS = 80
_ROW = 32  # bits
_MOST_ROWS, _SHOWN = 4, 3  # of a box that has whole rows; and so many if it has more
_RULER = (
    "".join(f" {bit // 10 if bit % 10 == 0 else ' '}" for bit in range(_ROW)).rstrip(),
    "".join(f" {bit % 10}" for bit in range(_ROW)),
)
#: What stands for names that are too long.
_KEYS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBER = re.compile(r".* \(([^()]+)\)")
_MOST_NAME, _MOST_VALUE = 24, 26
_COMPARED = (1, 15, 28, 30)  # columns of a comparison


class _Piece(NamedTuple):
    """What a box has of a row. box: which one. first, end: its bits in the row."""

    box: int
    first: int
    end: int

    @property
    def width(self) -> int:
        """Letters that fit."""
        return 2 * (self.end - self.first) - 1


class _Row(NamedTuple):
    """A row. first: of its bytes. folded: how many bytes are left out in its place; 0: it is shown."""

    pieces: list[_Piece]
    first: int
    folded: int = 0


def anatomy_lines(anatomy: Anatomy) -> list[str]:
    """The packet, layer by layer, and what could not be told of it."""
    lines = textwrap.wrap(anatomy.title, _COLUMNS)
    for layer in anatomy.layers:
        keys = _keys(layer)
        lines += ["", *_diagram(layer, keys), "", *_table(layer, keys)]
    return lines + _warnings(anatomy)


def comparison_lines(comparison: Comparison) -> list[str]:
    """Both packets as diagrams, one below the other, and then their fields side by side."""
    lines: list[str] = []
    for anatomy in comparison.both:
        lines += textwrap.wrap(anatomy.title, _COLUMNS)
        for layer in anatomy.layers:
            lines += ["", *_diagram(layer, _keys(layer))]
        lines += [*_warnings(anatomy), ""]
    for layers, pairs in groupby(comparison.shown, lambda pair: pair.layers):
        lines += _columns(["", "", *(name or "—" for name in layers)], _COMPARED)
        lines += [line for pair in pairs for line in _compared(pair)] + [""]
    return [*lines, "= the same  ≠ another value  < > in one of them only  ? left out"]


def _compared(pair: Pair) -> Iterator[str]:
    """A row of two fields that mean the same, and a sign whether they have the same value."""
    names = " / ".join(dict.fromkeys(each.name for each in pair.fields if each))
    left, right = pair.fields
    if any(each and each.blank for each in pair.fields):
        sign = "?"
    elif left and right:
        sign = "=" if pair.same else "≠"
    else:
        sign = "<" if left else ">"
    values = (_value(each) if each else "—" for each in pair.fields)
    return _columns([sign, names, *values], _COMPARED)


def _warnings(anatomy: Anatomy) -> list[str]:
    told = [textwrap.wrap(f"note: {warning}", _COLUMNS, subsequent_indent="      ") for warning in anatomy.warnings]
    return ["", *(line for lines in told for line in lines)] if told else []


def _drawn(layer: Layer) -> list[Field]:
    """The fields that have a place."""
    return [field for field in layer.fields if field.bits]


def _rows(layer: Layer) -> list[_Row]:
    """The rows of a diagram: a box a field; one for all bytes if the places of fields are not known."""
    places = [(field.offset, field.offset + field.bits) for field in _drawn(layer)] or [(0, 8 * len(layer.data))]
    rows = [_Row([], 4 * number) for number in range(-(-len(layer.data) // 4))]
    for box, (begin, end) in enumerate(places):
        for number in range(begin // _ROW, -(-end // _ROW)):
            first = number * _ROW
            rows[number].pieces.append(_Piece(box, max(begin - first, 0), min(end - first, _ROW)))
    return list(_folded(rows, len(layer.data)))


def _folded(rows: Sequence[_Row], size: int) -> Iterator[_Row]:
    """Of many rows that one box fills alone, the first ones, and one in place of the others."""
    numbered = groupby(
        enumerate(rows), lambda each: each[1].pieces[0].box if len(each[1].pieces) == 1 else -1 - each[0]
    )
    for _box, group in numbered:
        same = [row for _number, row in group]
        if len(same) <= _MOST_ROWS:
            yield from same
        else:
            yield from same[:_SHOWN]
            end = min(same[-1].first + 4, size)
            yield same[_SHOWN]._replace(folded=end - same[_SHOWN].first)


def _widest(rows: Sequence[_Row]) -> dict[int, tuple[int, int]]:
    """Of each box the letters that fit into its widest piece, and the first byte of the row where that is."""
    widest: dict[int, tuple[int, int]] = {}
    for row in rows:
        for piece in row.pieces:
            if piece.width > widest.get(piece.box, (0, 0))[0]:
                widest[piece.box] = piece.width, row.first
    return widest


def _keys(layer: Layer) -> dict[str, str]:
    """What stands in the boxes that are too narrow for the names of their fields, by name."""
    fields, widest = _drawn(layer), _widest(_rows(layer))
    narrow = [field.name for box, field in enumerate(fields) if len(field.name) > widest[box][0]]
    return dict(zip(narrow, chain(_KEYS, repeat("·")), strict=False))


def _diagram(layer: Layer, keys: dict[str, str]) -> list[str]:
    """A layer as RFCs show it: a row has 32 bits; beside it, its bytes."""
    rows, digits, fields = _rows(layer), layer.hex(), _drawn(layer)
    labels = {
        (box, first): _label(fields[box], width, keys) if fields else f"{len(layer.data):,} bytes"
        for box, (width, first) in _widest(rows).items()
    }
    heading = f"{layer.title}: bytes {layer.offset:,} to {layer.offset + len(layer.data) - 1:,}"
    lines = [*textwrap.wrap(heading, _COLUMNS), *_RULER]
    for above, below in pairwise([None, *rows, None]):
        rule = _rule(_boxes(above), _boxes(below))
        lines += [rule] if "+" in rule else []
        if below is None:
            break
        if below.folded:
            boxes = [f"{f'… {below.folded:,} bytes':^{2 * _ROW - 1}}"]
        else:
            boxes = [f"{labels.get((each.box, below.first), ''):^{each.width}}" for each in below.pieces]
        beside = ["…"] if below.folded else digits[below.first : below.first + 4]
        lines.append(f"{'|'.join(['', *boxes, '']):<{2 * _ROW + 1}}  {' '.join(beside)}")
    return lines


def _boxes(row: _Row | None) -> list[int | None]:
    """Of each bit of a row, whose box it is in; of one more on each side, nobody's."""
    boxes: list[int | None] = [None] * (_ROW + 2)
    for piece in row.pieces if row else ():
        boxes[1 + piece.first : 1 + piece.end] = [piece.box] * (piece.end - piece.first)
    return boxes


def _rule(upper: Sequence[int | None], lower: Sequence[int | None]) -> str:
    """The line between two rows, as ``_boxes`` has them: open where both have the same box."""
    edges = [one != other for one, other in zip(upper, lower, strict=True)]
    line = ""
    for bit in range(1, _ROW + 2):
        corner = "+" if edges[bit - 1] or edges[bit] else "|" if upper[bit - 1] != upper[bit] else " "
        line += corner + ("-" if edges[bit] else " ")
    return line.rstrip()


def _label(field: Field, width: int, keys: dict[str, str]) -> str:
    """Name and value, as far as they fit; the value as its number only; the name alone; or what it is explained by."""
    text = _value(field)
    whole = f"{field.name} {text}"
    if field.name in PAYLOADS and len(whole) > width > len(field.name):
        return whole[: width - 1] + "…"
    number = _NUMBER.fullmatch(text)
    forms = [whole, f"{field.name} {number[1]}" if number else field.name, field.name]
    return next((each for each in forms if len(each) <= width), keys.get(field.name, ""))


def _value(field: Field) -> str:
    return "?" if field.blank else field.text


def _table(layer: Layer, keys: dict[str, str]) -> list[str]:
    """What the fields say: key, name, value, meaning."""
    rows = [(keys.get(each.name, ""), each.name, _value(each), explained(each)) for each in layer.shown]
    name = min(max((len(row[1]) for row in rows), default=1), _MOST_NAME)
    value = min(max((len(row[2]) for row in rows), default=1), _MOST_VALUE)
    widths = (1, name, max(value, 1), _COLUMNS - name - value - 7)
    return [line for row in rows for line in _columns(row, widths)]


def _columns(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A row of a table, each cell wrapped to its width."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        yield "  ".join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True)).rstrip()
