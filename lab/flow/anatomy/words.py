"""What the anatomy's figure, its page and its text share: signs of verdicts, what a blank hides, colours of layers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count

from lab.flow.anatomy.anatomies import Anatomy, Comparison, Field, Layer, Pair

__all__ = [
    "LAYERS", "VERDICTS", "color_of", "compared", "explained", "is_exercise", "key_signs",
    "left_out", "short", "size_of", "table", "told",
]  # fmt: skip

_KEYS = "①②③④⑤⑥⑦⑧⑨⑩"  # and no more, in the font that matplotlib brings along
#: Layers of a packet that are drawn: frames made to confuse have hundreds.
LAYERS = 16
#: The sign for each verdict on a checksum, and the word where no meaning tells more.
VERDICTS = {
    "good": ("✓", "good"),
    "bad": ("✗", "bad"),
    "left": ("↓", "left to the device"),
    "unknown": ("?", "unknown"),
}
#: Okabe and Ito (2008), one for each layer in turn.
_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00")


def color_of(number: int, tint: float = 1.0) -> str:
    """The colour of a layer by its number, from 0; tint: how much of it there is in white, 0 to 1."""
    color = _COLOURS[number % len(_COLOURS)]
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - tint * (255 - part)):02x}" for part in parts)


def key_signs(narrow: Iterable[Field]) -> dict[int, str]:
    """What stands in boxes that are too narrow for their fields' names, by the field's id; one sign for one name."""
    narrow = list(narrow)
    signs = dict(zip(dict.fromkeys(map(short, narrow)), chain(_KEYS, map(str, count(len(_KEYS) + 1))), strict=False))
    return {id(field): signs[short(field)] for field in narrow}


def is_exercise(anatomy: Anatomy) -> bool:
    """Whether there is something to be found."""
    return any(field.blank for layer in anatomy.layers for field in layer.fields)


def short(field: Field) -> str:
    """Its name without what it is a part of: "MSS" for "options.MSS"."""
    return field.name.rpartition(".")[2]


def size_of(layer: Layer) -> str:
    """Its length in words, and what it is called by scapy."""
    count = len(layer.data)
    return f"{layer.name}, {count:,} byte{'s' * (count != 1)}"


def told(field: Field | None) -> str:
    """Its value, with the sign of the verdict; of a blank one a question mark, a dash if there is none."""
    if field is None:
        return "–"
    if field.blank:
        return "?"
    return f"{field.text} {VERDICTS[field.verdict][0]}" if field.verdict else field.text


def explained(field: Field) -> str:
    """Its meaning, after the sign of the verdict; nothing of a blank one."""
    if field.blank or not field.verdict:
        return "" if field.blank else field.meaning
    sign, word = VERDICTS[field.verdict]
    return f"{sign} {field.meaning or word}"


def left_out(anatomy: Anatomy) -> str:
    """Says how many layers are not drawn; "" if all are."""
    more = len(anatomy.layers) - LAYERS
    return f"{more:,} more layers are not shown" if more > 0 else ""


def compared(comparison: Comparison) -> dict[int, str]:
    """By a field's id: "≠" if the other packet's value is another, "+" if it has none, "" if it is the same."""
    return {id(field): _sign(pair) for pair in comparison.pairs for field in pair.fields if field is not None}


def table(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    """For each pair: the fields' names, the value left and right, sign and word for what there is between them."""
    rows = []
    for pair in comparison.shown:
        left, right = pair.fields
        names = [f"{layer}.{field.name}" for layer, field in zip(pair.layers, pair.fields, strict=True) if field]
        word = "left only" if right is None else "right only" if left is None else "same" if pair.same else "differs"
        if any(field is not None and field.blank for field in pair.fields):
            word = ""
        rows.append((" | ".join(dict.fromkeys(names)), told(left), told(right), _sign(pair), word))
    return rows


def _sign(pair: Pair) -> str:
    if any(field is not None and field.blank for field in pair.fields) or pair.same:
        return ""
    return "+" if None in pair.fields else "≠"
