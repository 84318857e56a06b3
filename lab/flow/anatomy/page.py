"""Writes an anatomy as an HTML page that needs nothing else: point at a field to see its bytes and what it means.

A field has one name on the page, such as "f3". Everything of it (its outline, its label, its bytes, its line in the
list, its panel) is of that class, and a rule for each lets all of it show when some of it is pointed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from lab.flow.anatomy.anatomies import Anatomy, Comparison, Field, Layer
from lab.flow.anatomy.boxes import BITS, Box, Diagram, Part, diagram
from lab.flow.anatomy.words import (
    LAYERS,
    color_of,
    compared,
    explained,
    is_exercise,
    key_signs,
    left_out,
    short,
    size_of,
    table,
    told,
)  # fmt: skip
from lab.flow.pages import page, shown, warnings

__all__ = ["anatomy_page", "comparison_page"]

#: Bytes of a packet that the dump shows; the rest of a huge one would only make the page slow.
_DUMP = 2048
_DUMP_LINE = 8
#: Letters of a name that have room in the width of a bit; beside another packet it is less wide.
_LETTERS, _LETTERS_BESIDE = 2.4, 1.75
#: Bytes of an answer that the solution shows.
_ANSWER = 16
_POINTED = "--ground: #ffe98a; --frame: 1px solid; --stroke: 2.5px; --panel: block"
_CLASSES = {"≠": "differs", "+": "alone"}

#: A field's name on the page, by its id.
Names = dict[int, str]


def anatomy_page(anatomy: Anatomy) -> str:
    """The page. What is to be found stands in its folded solution only."""
    layers = [diagram(layer) for layer in anatomy.layers[:LAYERS]]
    fields = [field for drawn in layers for field in drawn.layer.fields[: drawn.told]]
    names = {id(field): f"f{number}" for number, field in enumerate(fields)}
    sections = "".join(
        _section(drawn.layer, number, _diagram(drawn, names, {}, _LETTERS) + _list(drawn, names))
        for number, drawn in enumerate(layers)
    )
    panels = "".join(
        f'<dl class="{names[id(field)]}"><dt>{shown(f"{drawn.layer.name}.{field.name}")}</dt>'
        f"<dd>{shown('?' if field.blank else field.text)}</dd><dd>{shown(explained(field))}</dd></dl>"
        for drawn in layers
        for field in drawn.layer.fields[: drawn.told]
    )
    body = (
        f'<p class="soft">{anatomy.length:,} bytes</p>{_warnings([anatomy])}'
        f'<div class="anatomy"><div>{sections}{_solution(anatomy)}</div><aside class="screen">'
        f'<div class="dump">{_dump(layers, names)}</div><div class="panels">'
        f'<div class="soft">Point at a field or at a byte, or go on with the Tab key.</div>{panels}</div></aside></div>'
    )
    return page(anatomy.title, body, "anatomy/anatomy.css", rules=_rules(names.values()), large=anatomy.large)


def comparison_page(comparison: Comparison) -> str:
    """The page: both diagrams, what differs marked "≠", what only one of them has "+"; and the table of all fields."""
    signs = compared(comparison)
    names = {
        id(field): f"p{number}"
        for number, pair in enumerate(comparison.shown)
        for field in pair.fields
        if field is not None
    }
    sides = "".join(
        f'<div><h2 class="packet">{shown(anatomy.title)}</h2><p class="soft">{anatomy.length:,} bytes</p>'
        + "".join(
            _section(layer, number, _diagram(diagram(layer), names, signs, _LETTERS_BESIDE), same=True)
            for number, layer in enumerate(anatomy.layers[:LAYERS])
        )
        + "</div>"
        for anatomy in comparison.both
    )
    rows = "".join(
        f'<tr class="p{number}"><th scope="row">{shown(name)}</th><td>{shown(left)}</td><td>{shown(right)}</td>'
        f'<td class="{"warm" if sign else "soft"}">{sign} {word}</td></tr>'
        for number, (name, left, right, sign, word) in enumerate(table(comparison))
    )
    body = (
        f'{_warnings(comparison.both)}<div class="anatomy two">{sides}</div>'
        f'<div class="anatomy"><table class="pairs"><tr><th>field</th><th>left</th><th>right</th><th></th></tr>{rows}'
        "</table></div>"
    )
    title = " beside ".join("/".join(layer.name for layer in anatomy.layers) for anatomy in comparison.both)
    rules = _rules(dict.fromkeys(names.values()))
    return page(title, body, "anatomy/anatomy.css", rules=rules, large=comparison.large)


def _rules(names: Iterable[str]) -> Iterator[str]:
    """Lets all of a field know when some of it is pointed at, or reached by the Tab key; anatomy.css says what then."""
    return (f"body:has(.{name}:hover, .{name}:focus) .{name} {{{_POINTED}}}" for name in names)


def _warnings(anatomies: Iterable[Anatomy]) -> str:
    return warnings(text for anatomy in anatomies for text in (left_out(anatomy), *anatomy.warnings) if text)


def _section(layer: Layer, number: int, content: str, *, same: bool = False) -> str:
    """A layer with its title. same: whether boxes are grey, but for those that say otherwise."""
    tint = "var(--shade)" if same else color_of(number, 0.22)
    return (
        f'<section class="layer" style="--color:{color_of(number)};--tint:{tint}">'
        f"<h2>{shown(layer.title)} <small>{shown(size_of(layer))}</small></h2>{content}</section>"
    )


def _diagram(drawn: Diagram, names: Names, signs: dict[int, str], letters: float) -> str:
    """A grid: the ruler is its first row, offsets are its first column, bytes its last; outlines lie behind labels."""
    if not drawn.rows:
        return ""
    keys = _keys(drawn, letters)
    cells = [f'<div class="bit" style="grid-area:1/{bit + 2}">{bit}</div>' for bit in range(BITS)]
    cells.append(
        f'<svg style="grid-row:2/{len(drawn.rows) + 2}" viewBox="0 0 {BITS} {len(drawn.rows)}"'
        ' preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(_outline(box, names, signs) for box in drawn.boxes)}</svg>"
    )
    for number, row in enumerate(drawn.rows, 2):
        if row.folded:
            cells.append(f'<div class="folded" style="grid-row:{number}">… {row.folded:,} bytes</div>')
        else:
            cells.append(f'<div class="at" style="grid-area:{number}/1">{drawn.layer.offset + row.start // 8}</div>')
            cells.append(
                f'<div class="hex" style="grid-area:{number}/34">{_bytes(drawn, drawn.indices(row), names)}</div>'
            )
    cells += [_label(box, drawn, names, signs, keys, letters) for box in drawn.boxes if box.field]
    keyed = (f"{keys[id(each)]} {shown(short(each))}" for each in drawn.layer.fields if id(each) in keys)
    legend = ", ".join(dict.fromkeys(keyed))
    return f'<div class="diagram">{"".join(cells)}</div>' + (f'<p class="legend">{legend}</p>' if legend else "")


def _keys(drawn: Diagram, letters: float) -> Names:
    """A sign for each field whose name is too long for its box, by the field's id."""
    return key_signs(
        box.field for box in drawn.boxes if box.field and not _fits(short(box.field), drawn.place(box), letters)
    )


def _fits(text: str, parts: Sequence[Part], letters: float) -> bool:
    return len(text) <= letters * (parts[0].end - parts[0].start)


def _outline(box: Box, names: Names, signs: dict[int, str]) -> str:
    field = box.field
    look = "bare" if field is None else "blank" if field.blank else _CLASSES.get(signs.get(id(field), ""), "")
    return "".join(
        f'<polygon class="{look} {names.get(id(field), "")}" points="'
        f'{" ".join(f"{bit},{row}" for bit, row in outline)}"/>'
        for outline in box.outlines
    )


def _label(box: Box, drawn: Diagram, names: Names, signs: dict[int, str], keys: Names, letters: float) -> str:
    """A field's name and value, and the sign of a comparison before whichever has room."""
    field, parts = box.field, drawn.place(box)
    assert field is not None  # noqa: S101 - the caller's
    sign = signs.get(id(field), "")
    name = keys.get(id(field)) or (field.name if _fits(f"{sign} {field.name}", parts, letters) else short(field))
    value = told(field)
    if _fits(f"{sign} {name}", parts, letters):
        name = f"{sign} {name}".strip()
    elif sign:  # of a single bit there is room for no more: the table has its value
        value = f"{sign}{value}" if _fits(f"{sign}{value}", parts, letters) else sign
    area = f"{parts[0].row + 2}/{parts[0].start + 2}/{parts[-1].row + 3}/{parts[0].end + 2}"
    return (
        f'<div class="name {"blank" * field.blank} {names.get(id(field), "")}" tabindex="0" style="grid-area:{area}">'
        f'<b>{shown(name)}</b><span class="{_verdict(field)}">{shown(value)}</span></div>'
    )


def _verdict(field: Field) -> str:
    return "" if field.blank else field.verdict


def _list(drawn: Diagram, names: Names) -> str:
    """Name, value and meaning of each field; a line to write on for each that is to be found."""
    rows = []
    for field in drawn.layer.fields[: drawn.told]:
        label = shown(f"{drawn.layer.name}.{field.name}")
        value = f'<input placeholder="?" aria-label="{label}">' if field.blank else shown(field.text)
        rows.append(
            f'<tr class="{names[id(field)]}"><th scope="row">{shown(field.name)}</th><td>{value}</td>'
            f'<td class="{_verdict(field)}">{shown(explained(field))}</td></tr>'
        )
    more = len(drawn.layer.fields) - drawn.told
    return f"<table>{''.join(rows)}</table>" + (f'<p class="soft">… {more:,} more</p>' if more else "")


def _dump(layers: Sequence[Diagram], names: Names) -> str:
    """The packet's bytes, eight a line, without those of blank fields."""
    places = [(drawn, index) for drawn in layers for index in range(len(drawn.layer.data))]
    lines = []
    for start in range(0, min(len(places), _DUMP), _DUMP_LINE):
        groups = groupby(places[start : start + _DUMP_LINE], key=lambda place: place[0])
        line = " ".join(_bytes(drawn, [index for _, index in group], names) for drawn, group in groups)
        lines.append(f'<span class="soft">{start:4d}</span>  {line}')
    if len(places) > _DUMP:
        lines.append(f"      … {len(places) - _DUMP:,} bytes")
    return "\n".join(lines)


def _bytes(drawn: Diagram, indices: Iterable[int], names: Names) -> str:
    """Bytes in hexadecimal; those that the same fields have are one element."""
    groups = groupby(indices, key=lambda index: " ".join(names[id(each)] for each in drawn.fields_of(index)))
    return " ".join(
        f'<span class="{fields}">{" ".join(drawn.digits[index] for index in group)}</span>' for fields, group in groups
    )


def _solution(anatomy: Anatomy) -> str:
    if not is_exercise(anatomy):
        return ""
    rows = "".join(
        f'<tr><th scope="row">{shown(f"{layer.name}.{field.name}")}</th><td>{shown(field.text)}</td>'
        f"<td>{shown(explained(field))}</td><td><code>{_answer(layer, field)}</code></td></tr>"
        for layer, whole in zip(anatomy.layers, anatomy.solution.layers, strict=True)
        for asked, field in zip(layer.fields, whole.fields, strict=True)
        if asked.blank
    )
    return f"<details><summary>Solution</summary><table>{rows}</table></details>"


def _answer(layer: Layer, field: Field) -> str:
    """The bytes in which a field lies."""
    data = layer.data[field.offset // 8 : -(-(field.offset + field.bits) // 8)]
    return data[:_ANSWER].hex(" ") + " …" * (len(data) > _ANSWER)
