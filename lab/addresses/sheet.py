"""A title, rows of a label and lines, and notes: as text of 80 columns, and as a table for a notebook."""

from __future__ import annotations

import html
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable

from lab.texts import printable

__all__ = ["Row", "Sheet", "Shown"]

#: A label and its lines.
Row = tuple[str, list[str]]
#: A title, rows, and notes.
Sheet = tuple[str, list[Row], tuple[str, ...]]

_WIDTH, _LABEL = 80, 13


class Shown(ABC):
    """What prints as text of 80 columns and shows itself as a table in a notebook."""

    @abstractmethod
    def _sheet(self) -> Sheet:
        """What there is to show."""

    def __str__(self) -> str:
        title, rows, notes = self._sheet()
        lines = [printable(title)]
        for label, texts in rows:
            if not label and not texts:
                lines.append("")
            if len(label) > _LABEL - 3:  # too long to stand beside its lines
                lines.append(printable(f"  {label}"))
                label = ""
            for text in texts:
                lines += _wrapped(f"  {label}".ljust(_LABEL), text)
                label = ""
        if notes:
            lines.append("")
        for note in notes:
            lines += _wrapped("note: ", note, indent=6)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title, rows, notes = self._sheet()
        left = 'style="text-align: left; vertical-align: top"'
        body = "".join(
            f"<tr><th {left}>{_escaped([label])}</th><td {left}>{_escaped(texts)}</td></tr>"
            for label, texts in rows
            if texts
        )
        told = "".join(f"<p>{_escaped([note])}</p>" for note in notes)
        return f"<table><caption>{_escaped([title])}</caption>{body}</table>{told}"


def _wrapped(head: str, text: str, indent: int = _LABEL) -> list[str]:
    """Lines of 80 columns; no word is broken, as it may be an address."""
    if len(text) > _WIDTH - indent and " " not in text:  # the name that DNS has of an IPv6 address, for one
        return [head.rstrip(), " " * max(2, _WIDTH - len(text)) + printable(text)]
    return textwrap.wrap(
        printable(text), _WIDTH, initial_indent=head, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [head.rstrip()]  # fmt: skip


def _escaped(texts: Iterable[str]) -> str:
    return "<br>".join(html.escape(printable(text.strip())) for text in texts)
