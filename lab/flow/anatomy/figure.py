"""Draws an anatomy as a figure: a diagram for each layer, as RFCs have them, its bytes, and what its fields say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.flow.anatomy.anatomies import Anatomy, Comparison, Field, Layer
from lab.flow.anatomy.boxes import Diagram, diagram
from lab.flow.anatomy.diagram import INK, QUIET, WARM, Fill, Look, draw_diagram, keys
from lab.flow.anatomy.words import LAYERS, color_of, compared, explained, left_out, short, size_of, table
from lab.flow.sheets import Font, Sheet, readable

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure

__all__ = ["draw_anatomy", "draw_comparison"]

#: Inches.
_WIDTH = 11.0
_MARGIN = 0.15
_GAP = 0.25
#: What fonts are multiplied by on a projector.
_LARGE = 1.6
_NOTEBOOK = Look(bit=0.15, row=0.37)
_PROJECTOR = Look(bit=0.27, row=0.58, letters=_LARGE)
#: Side by side.
_HALF = Look(bit=0.124, row=0.37)
#: The least width of a column: a value can be written by hand there.
_BLANK = 0.7
#: Lines of one text in the list, at most.
_LINES = 4
#: Fill of a box whose value differs, and of one that only one packet has.
_DIFFERS, _ALONE, _SAME = "#ffd9a8", "#f6e3ef", "#f2f2f2"

Cell = tuple[str, Font]


def draw_anatomy(anatomy: Anatomy) -> ShownFigure:
    """The figure: each layer's diagram with what its fields say beside it, or below it with letters for a projector."""
    look = _PROJECTOR if anatomy.large else _NOTEBOOK
    sheet = Sheet(_WIDTH)
    y = _title(sheet, _MARGIN, _WIDTH - 2 * _MARGIN, anatomy, look)
    x = _MARGIN + _offsets(look)
    right = x + look.width + _bytes(look)
    for number, layer in enumerate(anatomy.layers[:LAYERS]):
        drawn = diagram(layer)
        rows = _list(drawn, look)
        y = _layer_title(sheet, _MARGIN, y, _WIDTH - 2 * _MARGIN, layer, number, look)
        draw_diagram(sheet, x, y, drawn, look, number)
        below = y + look.height(drawn)
        if anatomy.large:
            y = _rows(sheet, x, below + 0.1, rows, _widths(rows, _WIDTH - x - _MARGIN)) + _GAP
        else:
            left = right + _GAP
            end = _rows(sheet, left, y + look.ruler.line, rows, _widths(rows, _WIDTH - left - _MARGIN))
            y = max(below, end) + _GAP
    return sheet.figure(_notes(sheet, y, anatomy.warnings, left_out(anatomy), look) + _MARGIN)


def draw_comparison(comparison: Comparison) -> ShownFigure:
    """The figure: both diagrams side by side, one above the other with letters for a projector; and the table of pairs.

    What differs is marked by a colour and "≠", what only one of them has by another and "+".
    """
    look = _PROJECTOR if comparison.large else _HALF
    columns = 1 if comparison.large else 2
    sheet = Sheet(_WIDTH)
    share = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
    signs = compared(comparison)

    def fill(field: Field) -> tuple[str, str]:
        sign = signs.get(id(field), "")
        return {"≠": _DIFFERS, "+": _ALONE}.get(sign, _SAME), sign

    y = _MARGIN
    for together in (comparison.both,) if columns == 2 else ((anatomy,) for anatomy in comparison.both):
        lefts = [_MARGIN + i * (share + _GAP) for i in range(len(together))]
        y = max(_title(sheet, x, share, each, look, y) for x, each in zip(lefts, together, strict=True))
        for number in range(min(LAYERS, max(len(each.layers) for each in together))):
            here = [
                (x, each.layers[number]) for x, each in zip(lefts, together, strict=True) if number < len(each.layers)
            ]
            y = max(_block(sheet, x, y, share, layer, number, look, fill) for x, layer in here) + _GAP
    rows = _pairs(comparison, look)
    y = _rows(sheet, _MARGIN, y, rows, _shares(rows, _WIDTH - 2 * _MARGIN)) + _GAP
    warnings = [text for anatomy in comparison.both for text in anatomy.warnings]
    omitted = next(filter(None, map(left_out, comparison.both)), "")
    return sheet.figure(_notes(sheet, y, warnings, omitted, look) + _MARGIN)


def _offsets(look: Look) -> float:
    """Room left of a diagram."""
    return look.offsets.width("00000") + 0.06


def _bytes(look: Look) -> float:
    """Room right of a diagram."""
    return 0.1 + look.bytes.width("00 00 00 00")


def _title(sheet: Sheet, x: float, width: float, anatomy: Anatomy, look: Look, y: float = _MARGIN) -> float:
    font, small = look.font(11, bold=True), look.font(8, color=QUIET)
    y = sheet.column(x, y, font.wrap(readable(anatomy.title), width, 3), font)
    return sheet.column(x, y, [f"{anatomy.length:,} bytes"], small) + 0.12


def _layer_title(sheet: Sheet, x: float, y: float, width: float, layer: Layer, number: int, look: Look) -> float:
    """A bar in the layer's colour, and its title. Returns where its diagram begins."""
    font, small = look.font(9.5, bold=True), look.font(8, color=QUIET)
    bar = 0.07 * look.letters
    corners = [(x, y), (x + bar, y), (x + bar, y + font.line), (x, y + font.line)]
    sheet.shape(corners, facecolor=color_of(number), linewidth=0)
    size = size_of(layer)
    left = x + 2 * bar
    title = font.shorten(readable(layer.title), width - 2 * bar - small.width(size) - 0.1)
    sheet.text(left, y, title, font)
    sheet.text(left + font.width(title) + 0.1, y + (font.size - small.size) / 72, readable(size), small)
    return y + font.line + 0.06


def _list(drawn: Diagram, look: Look) -> list[list[Cell]]:
    """Name, value and meaning of each field; a name that is not in its box has the sign that is."""
    plain, bold, quiet = look.font(8), look.font(8, bold=True), look.font(8, color=QUIET)
    signs = keys(drawn, look)
    rows: list[list[Cell]] = [
        [
            (_unbroken(signs.get(id(field), ""), readable(field.name)), bold),
            ("?" if field.blank else readable(field.text), plain),
            (readable(explained(field)), plain),
        ]
        for field in drawn.layer.fields[: drawn.told]
    ]
    more = len(drawn.layer.fields) - drawn.told
    return [*rows, [(f"… {more:,} more", quiet)]] if more else rows


def _unbroken(sign: str, name: str) -> str:
    return f"{sign}\N{NO-BREAK SPACE}{name}" if sign else name


def _pairs(comparison: Comparison, look: Look) -> list[list[Cell]]:
    """The table: field, left, right, and whether they differ."""
    plain, bold, quiet = look.font(8), look.font(8, bold=True), look.font(8, color=QUIET)
    rows: list[list[Cell]] = [[("field", quiet), ("left", quiet), ("right", quiet), ("", quiet)]]
    for name, left, right, sign, word in table(comparison):
        font = look.font(8, color=WARM) if sign else quiet
        rows.append(
            [(readable(name), bold), (readable(left), plain), (readable(right), plain), (f"{sign} {word}", font)]
        )
    return rows


def _block(sheet: Sheet, x: float, y: float, width: float, layer: Layer, number: int, look: Look, fill: Fill) -> float:
    """A layer with its title, and which names the signs in its boxes stand for. Returns where it ends."""
    drawn = diagram(layer)
    y = _layer_title(sheet, x, y, width, layer, number, look)
    left = x + _offsets(look)
    draw_diagram(sheet, left, y, drawn, look, number, fill)
    font = look.font(7.5, color=QUIET)
    signs = keys(drawn, look)
    keyed = (f"{signs[id(each)]} {readable(short(each))}" for each in layer.fields if id(each) in signs)
    key = ", ".join(dict.fromkeys(keyed))
    return sheet.column(left, y + look.height(drawn) + 0.04, font.wrap(key, width - _offsets(look), _LINES), font)


def _widths(rows: Sequence[Sequence[Cell]], room: float) -> list[float]:
    """Of the list's columns: names and values as wide as they are, up to a part of the room; meanings have the rest."""
    limits = (0.35 * room, 0.3 * room if any(len(row) > 2 and row[2][0] for row in rows) else 0.65 * room)
    first = [
        min(limit, max([_BLANK, *(row[i][1].width(row[i][0]) + 0.12 for row in rows if len(row) > i)]))
        for i, limit in enumerate(limits)
    ]
    return [*first, room - sum(first)]


def _shares(rows: Sequence[Sequence[Cell]], room: float) -> list[float]:
    """Of the table's columns: names and verdicts as wide as they are, values have the rest."""
    name, word = (max(row[i][1].width(row[i][0]) for row in rows) + 0.12 for i in (0, 3))
    name = min(name, 0.4 * room)
    return [name, (room - name - word) / 2, (room - name - word) / 2, word]


def _rows(sheet: Sheet, x: float, y: float, rows: Sequence[Sequence[Cell]], widths: Sequence[float]) -> float:
    """Writes a table, each cell wrapped to its column. Returns where it ends."""
    for row in rows:
        end, at = y, x
        for (text, font), width in zip(row, widths, strict=False):
            lines = font.wrap(text, width - 0.08, _LINES)
            end = max(end, sheet.column(at, y, lines, font))
            if text == "?":  # to be written on
                sheet.line((at, y + font.line), (at + width - 0.08, y + font.line), color=INK, linewidth=0.8, ls=":")
            at += width
        y = end + 0.03
    return y


def _notes(sheet: Sheet, y: float, warnings: Sequence[str], omitted: str, look: Look) -> float:
    """What is not shown, and what gives to doubt. Returns where it ends."""
    font = look.font(8, color=WARM)
    for text in [*filter(None, [omitted]), *warnings]:
        y = sheet.column(_MARGIN, y, font.wrap(readable(f"⚠ {text}"), _WIDTH - 2 * _MARGIN, _LINES), font)
    return y
