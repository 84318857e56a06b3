"""What ladders and anatomies have in common: they draw themselves, and can be saved."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import Unavailable, UsageError
from lab.figures.style import context

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure

__all__ = ["Drawn", "check_name"]

_KINDS = (".html", ".png", ".svg", ".pdf", ".txt")


def check_name(path: Path) -> str:
    """The kind of file that a name ends in. Raises UsageError for one that nothing can be saved as."""
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise UsageError(f"{path}: the name of what is drawn must end in one of {', '.join(_KINDS)}")
    return kind


class Drawn(ABC):
    """What shows itself in a notebook as a picture, prints as text of 80 columns, and can be saved."""

    @abstractmethod
    def lines(self) -> list[str]:
        """It as text, for 80 columns."""

    @abstractmethod
    def figure(self) -> ShownFigure:
        """It as a matplotlib figure."""

    @abstractmethod
    def page(self) -> str:
        """It as an HTML page that needs nothing else."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_png_(self) -> bytes:
        return self.figure()._repr_png_()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it as a page (.html), as text (.txt), or as a picture (.png, .svg, .pdf). Returns the path.

        Raises UsageError for another ending, Unavailable if it can't be written.
        """
        path = Path(path)
        kind = check_name(path)
        try:
            if kind == ".html":
                path.write_text(self.page(), encoding="utf-8")
            elif kind == ".txt":
                path.write_text(f"{self}\n", encoding="utf-8")
            else:
                with context():
                    self.figure().savefig(path)
        except OSError as error:
            raise Unavailable(f"cannot write {path}", errno=error.errno, fix="Name another file") from error
        return path
