"""Figures: a file a kind; each takes a Study and returns a matplotlib Figure. Nothing here shows a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.checks import pick
from lab.errors import StudyError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.studies import Study

__all__ = ["KINDS", "draw", "save"]

KINDS = ("ecdf", "ccdf")


def draw(study: Study, kind: str) -> Figure:
    """The figure of that kind. Raises UsageError for an unknown kind, StudyError for a study without runs."""
    pick("figure", kind, KINDS)
    if kind == "ecdf":
        from lab.figures.ecdf import ecdf as figure
    else:
        from lab.figures.ccdf import ccdf as figure
    return figure(study)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure in the format that the name ends in. Raises UsageError for one unknown, StudyError."""
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise UsageError(
            f"{path}: a figure's name must end in one of {', '.join(f'.{name}' for name in sorted(known))}"
        )
    from lab.figures.style import context

    try:
        with context():
            figure.savefig(path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}; name another file with -o") from None
    return path
