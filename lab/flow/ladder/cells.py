"""Lines of a terminal as cells: wide letters take two, and no line is wider than what it was made for."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

__all__ = ["Line", "plain", "shorten", "wrap"]

_WIDE = ""  # the second cell of a wide letter


def plain(text: str) -> str:
    """The text with letters of one or two cells: a sign for what is not printable, nothing for what has no width."""
    flat = "".join(" " if each.isspace() else each if each.isprintable() else "�" for each in text)
    return "".join(each for each in unicodedata.normalize("NFC", flat) if cell_len(each))


def shorten(text: str, width: int) -> str:
    """As much of it as so many cells hold, with an ellipsis if that is not all."""
    if cell_len(text) <= width:
        return text
    kept, room = [], width - 1
    for each in text:
        room -= cell_len(each)
        if room < 0:
            break
        kept.append(each)
    return "".join(kept).rstrip() + "…" if width > 0 else ""


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Its words in lines of at most so many cells, each after the first indented; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if not lines or cell_len(longer) > width:
            lines.append(shorten(indent + word if lines else word, width))
        else:
            lines[-1] = longer
    return lines


class Line:
    """A line of so many cells, written on from anywhere."""

    def __init__(self, width: int) -> None:
        self._cells = [" "] * width

    def put(self, x: int, text: str) -> Line:
        """Writes from cell `x` on what there is room for."""
        for each in shorten(text, len(self._cells) - x):
            self._cells[x : x + cell_len(each)] = [each] + [_WIDE] * (cell_len(each) - 1)
            x += cell_len(each)
        return self

    def __str__(self) -> str:
        return "".join(self._cells).rstrip()
