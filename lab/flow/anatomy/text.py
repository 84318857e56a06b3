"""An anatomy as text of 80 columns: diagrams like those of RFCs, the bytes beside them, and what the fields say."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, pairwise, repeat, zip_longest

from lab.flow.anatomy.anatomies import PAYLOADS, Anatomy, Comparison, Field, Pair
from lab.flow.anatomy.boxes import BITS, Box, Diagram, Part, diagram
from lab.flow.anatomy.words import LAYERS, explained, left_out

__all__ = ["anatomy_lines", "comparison_lines"]

_COLUMNS = 80
_RULER = (
    "".join(f" {bit // 10 if bit % 10 == 0 else ' '}" for bit in range(BITS)).rstrip(),
    "".join(f" {bit % 10}" for bit in range(BITS)),
)
#: What stands for names that are too long.
_KEYS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBER = re.compile(r".* \(([^()]+)\)")
_MOST_NAME, _MOST_VALUE = 24, 26
_COMPARED = (1, 15, 28, 30)  # columns of a comparison


def anatomy_lines(anatomy: Anatomy) -> list[str]:
    """The packet, layer by layer, and what could not be told of it."""
    lines = textwrap.wrap(anatomy.title, _COLUMNS)
    for layer in anatomy.layers[:LAYERS]:
        drawn = diagram(layer)
        keys = _keys(drawn)
        lines += ["", *_diagram(drawn, keys), "", *_table(drawn, keys)]
    more = left_out(anatomy)
    return lines + (["", more] if more else []) + _warnings(anatomy)


def comparison_lines(comparison: Comparison) -> list[str]:
    """Both packets as diagrams, one below the other, and then their fields side by side."""
    lines: list[str] = []
    for anatomy in comparison.both:
        lines += textwrap.wrap(anatomy.title, _COLUMNS)
        for drawn in map(diagram, anatomy.layers[:LAYERS]):
            lines += ["", *_diagram(drawn, _keys(drawn))]
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


def _width(part: Part) -> int:
    """Letters that fit into it."""
    return 2 * (part.end - part.start) - 1


def _widest(box: Box, drawn: Diagram) -> Part:
    """The part of a box that has most room, of those that are not folded: the first of them."""
    return max((part for part in box.parts if not drawn.rows[part.row].folded), key=_width)


def _keys(drawn: Diagram) -> dict[str, str]:
    """What stands in the boxes that are too narrow for the names of their fields, by name."""
    fields = ((box.field, _width(_widest(box, drawn))) for box in drawn.boxes if box.field)
    narrow = [field.name for field, width in fields if len(field.name) > width]
    return dict(zip(narrow, chain(_KEYS, repeat("·")), strict=False))


def _diagram(drawn: Diagram, keys: dict[str, str]) -> list[str]:
    """A layer as RFCs show it: a row has 32 bits; beside it, its bytes."""
    layer, labels = drawn.layer, {}
    parts: list[list[tuple[int, Part]]] = [[] for _row in drawn.rows]
    for number, box in enumerate(drawn.boxes):
        widest = _widest(box, drawn)
        labels[number, widest.row] = _label(box, _width(widest), keys)
        for part in box.parts:
            parts[part.row].append((number, part))
    heading = f"{layer.title}: bytes {layer.offset:,} to {layer.offset + len(layer.data) - 1:,}"
    lines = [*textwrap.wrap(heading, _COLUMNS), *_RULER]
    for at, (above, below) in enumerate(pairwise([[], *parts, []])):
        rule = _rule(_owners(above), _owners(below))
        lines += [rule] if "+" in rule else []
        if at == len(parts):
            break
        row = drawn.rows[at]
        if row.folded:
            boxes, beside = [f"{f'… {row.folded:,} bytes':^{2 * BITS - 1}}"], ["…"]
        else:
            boxes = [f"{labels.get((number, at), ''):^{_width(part)}}" for number, part in below]
            beside = [drawn.digits[index] for index in drawn.indices(row)]
        lines.append(f"{'|'.join(['', *boxes, '']):<{2 * BITS + 1}}  {' '.join(beside)}")
    return lines


def _owners(parts: Sequence[tuple[int, Part]]) -> list[int | None]:
    """Of each bit of a row, whose box it is in; of one more on each side, nobody's."""
    owners: list[int | None] = [None] * (BITS + 2)
    for number, part in parts:
        owners[1 + part.start : 1 + part.end] = [number] * (part.end - part.start)
    return owners


def _rule(upper: Sequence[int | None], lower: Sequence[int | None]) -> str:
    """The line between two rows, as ``_owners`` has them: open where both have the same box."""
    edges = [one != other for one, other in zip(upper, lower, strict=True)]
    line = ""
    for bit in range(1, BITS + 2):
        corner = "+" if edges[bit - 1] or edges[bit] else "|" if upper[bit - 1] != upper[bit] else " "
        line += corner + ("-" if edges[bit] else " ")
    return line.rstrip()


def _label(box: Box, width: int, keys: dict[str, str]) -> str:
    """Name and value, as far as they fit; the value as its number only; the name alone; or what it is explained by."""
    field = box.field
    if field is None:
        label = f"{sum(part.end - part.start for part in box.parts) // 8:,} bytes"
        return label if len(label) <= width else ""
    text = _value(field)
    whole = f"{field.name} {text}"
    if field.name in PAYLOADS and len(whole) > width > len(field.name):
        return whole[: width - 1] + "…"
    number = _NUMBER.fullmatch(text)
    forms = [whole, f"{field.name} {number[1]}" if number else field.name, field.name]
    return next((each for each in forms if len(each) <= width), keys.get(field.name, ""))


def _value(field: Field) -> str:
    return "?" if field.blank else field.text


def _table(drawn: Diagram, keys: dict[str, str]) -> list[str]:
    """What the fields say: key, name, value, meaning."""
    told, more = drawn.layer.fields[: drawn.told], len(drawn.layer.fields) - drawn.told
    rows = [(keys.get(each.name, ""), each.name, _value(each), explained(each)) for each in told]
    name = min(max((len(row[1]) for row in rows), default=1), _MOST_NAME)
    value = min(max((len(row[2]) for row in rows), default=1), _MOST_VALUE)
    widths = (1, name, max(value, 1), _COLUMNS - name - value - 7)
    lines = [line for row in rows for line in _columns(row, widths)]
    return [*lines, f"   and {more:,} more fields"] if more else lines


def _columns(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A row of a table, each cell wrapped to its width."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        yield "  ".join(f"{part:<{width}}" for part, width in zip(parts, widths, strict=True)).rstrip()
