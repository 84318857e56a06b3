"""Draws the diagram of one layer: a ruler of bits, a box for each field with name and value, the bytes at the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lab.flow.anatomy.anatomies import Field
from lab.flow.anatomy.boxes import BITS, Box, Diagram, Part
from lab.flow.anatomy.words import color_of, key_signs, short, told
from lab.flow.sheets import Font, Sheet, readable

__all__ = ["INK", "QUIET", "WARM", "Fill", "Look", "draw_diagram", "keys"]

INK, QUIET, WARM = "#000000", "#5c5c5c", "#a63c00"
#: Of a verdict, for the eye that sees colours; the sign says it too.
_VERDICTS = {"good": "#00664b", "bad": WARM, "left": "#00507d", "unknown": QUIET}
#: From a field to the colour of its box, and a sign to be written in it, or "".
Fill = Callable[[Field], tuple[str, str]]
#: Inches between a box's edge and what is written in it.
_INSET = 0.01
#: Letters of a value that are worth showing where not all of it fits.
_LEAST = 4
_BARE = "#f0f0f0"


@dataclass(frozen=True)
class Look:
    """Sizes of a diagram, in inches. bit, row: width and height. letters: what fonts are multiplied by."""

    bit: float
    row: float
    letters: float = 1.0

    def font(self, size: float, *, bold: bool = False, mono: bool = False, color: str = INK) -> Font:
        """A font of so many points, enlarged."""
        return Font(size * self.letters, bold=bold, mono=mono, color=color)

    @property
    def width(self) -> float:
        """Of a row."""
        return BITS * self.bit

    @property
    def ruler(self) -> Font:
        return self.font(5.5, color=QUIET)

    @property
    def bytes(self) -> Font:
        return self.font(8, mono=True)

    @property
    def offsets(self) -> Font:
        """Of the first byte of each row in the packet, at the left."""
        return self.font(6.5, mono=True, color=QUIET)

    @property
    def labels(self) -> list[tuple[Font, Font]]:
        """Fonts for name and value, from the one to be used where there is room."""
        bold = [(self.font(size, bold=True), self.font(size)) for size in (8, 7.2, 6.5)]
        return [*bold, (self.font(6), self.font(6))]

    def height(self, diagram: Diagram) -> float:
        """Of the diagram with its ruler."""
        return self.ruler.line + len(diagram.rows) * self.row if diagram.rows else 0.0


def keys(diagram: Diagram, look: Look) -> dict[int, str]:
    """A sign for each field whose name does not fit into its box, by the field's id."""
    names, _ = look.labels[-1]
    return key_signs(
        box.field
        for box in diagram.boxes
        if box.field and not names.fits(readable(short(box.field)), _room(diagram.place(box), look))
    )


def draw_diagram(
    sheet: Sheet,
    x: float,
    y: float,
    diagram: Diagram,
    look: Look,
    number: int,
    fill: Fill | None = None,
) -> None:
    """Draws it with the upper left corner of its ruler at (x, y): offsets left of it, bytes right of it.

    number: of the layer, for its colour, unless `fill` says otherwise.
    """
    if not diagram.rows:
        return
    tight = not look.ruler.fits("00 ", look.bit)
    for bit in (*range(0, BITS, 4), BITS - 1) if tight else range(BITS):
        sheet.text(x + (bit + 0.5) * look.bit, y, str(bit), look.ruler, "center")
    top = y + look.ruler.line
    signs = keys(diagram, look)
    for box in diagram.boxes:
        color, sign = fill(box.field) if fill and box.field else (color_of(number, 0.22) if box.field else _BARE, "")
        color = "#ffffff" if box.field and box.field.blank else color
        for outline in box.outlines:
            corners = [(x + bit * look.bit, top + row * look.row) for bit, row in outline]
            sheet.shape(corners, facecolor=color, edgecolor="#333333", linewidth=0.8, joinstyle="miter")
        if box.field:
            name = readable(box.field.name)
            if not look.labels[0][0].fits(name, _room(diagram.place(box), look)):
                name = signs.get(id(box.field), readable(short(box.field)))
            _label(sheet, x, top, box, diagram, look, name, sign)
    for i, row in enumerate(diagram.rows):
        middle = top + (i + 0.5) * look.row
        beside = "…"
        if row.folded:
            unseen = f"… {row.folded:,} bytes"
            sheet.text(x + look.width / 2, middle - look.labels[0][1].line / 2, unseen, look.labels[0][1], "center")
        else:
            offset = f"{diagram.layer.offset + row.start // 8}"
            beside = " ".join(diagram.digits[index] for index in diagram.indices(row))
            sheet.text(x - 0.06, middle - look.offsets.line / 2, offset, look.offsets, "right")
        sheet.text(x + look.width + 0.1, middle - look.bytes.line / 2, beside, look.bytes)


def _room(group: Sequence[Part], look: Look) -> float:
    return (group[0].end - group[0].start) * look.bit - 2 * _INSET


def _label(sheet: Sheet, x: float, top: float, box: Box, diagram: Diagram, look: Look, name: str, sign: str) -> None:
    """Writes name and value into the box, the sign before whichever has room; the name into its other half too."""
    field, group = box.field, diagram.place(box)
    assert field is not None  # noqa: S101 - the caller's
    width, height = _room(group, look), len(group) * look.row - 2 * _INSET
    text = readable(told(field))
    if look.labels[-1][0].fits(f"{sign} {name}", width):
        name = f"{sign} {name}".strip()
    else:
        text = f"{sign}{text}"
    names, values = next((fonts for fonts in look.labels if fonts[0].fits(name, width)), look.labels[-1])
    lines = _value(text, look, values, width, int((height - names.line) / values.line)) or [sign]
    lines = [line for line in lines if line]
    if lines:
        values = next(fonts[1] for fonts in look.labels if all(fonts[1].fits(line, width) for line in lines))
    values = replace(values, color=INK if field.blank else _VERDICTS.get(field.verdict, INK))
    middle = x + (group[0].start + group[0].end) / 2 * look.bit
    upper = top + group[0].row * look.row + _INSET
    y = upper + (height - names.line - len(lines) * values.line) / 2
    sheet.text(middle, y, name, names, "center")
    for i, line in enumerate(lines):
        sheet.text(middle, y + names.line + i * values.line, line, values, "center")
    if field.blank:
        half, under = min(width - 2 * _INSET, 20 * look.bit) / 2, y + names.line + values.line
        sheet.line((middle - half, under), (middle + half, under), color=INK, linewidth=0.8, linestyle=":")
    if not box.connected:
        (other,) = (part for part in box.parts if part not in group)
        again = f"{name} …" if other is box.parts[0] else f"… {name}"
        if names.fits(again, _room([other], look)):
            at = top + (other.row + 0.5) * look.row - names.line / 2
            sheet.text(x + (other.start + other.end) / 2 * look.bit, at, again, replace(names, color=QUIET), "center")


def _value(text: str, look: Look, font: Font, width: float, lines: int) -> list[str]:
    """The lines of a value for its box; none if too little of it would be seen."""
    for _, values in look.labels:
        if values.size <= font.size and values.fits(text, width):
            return [text]
    wrapped = font.wrap(text, width, max(lines, 1))
    return wrapped if wrapped and len(wrapped[0]) > _LEAST else []
