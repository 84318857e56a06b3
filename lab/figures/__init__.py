"""Figures: a file a kind; each takes a Study's samples and returns a matplotlib Figure. Nothing here shows a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.checks import pick
from lab.errors import StudyError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples
    from lab.studies import Study

__all__ = ["KINDS", "draw", "draw_all", "save"]

KINDS = ("overview", "ecdf", "ccdf", "ridge", "stages")


def draw(study: Study, kind: str, highlight: str | None = None) -> Figure:
    """The figure of that kind. highlight: the link that ecdf and ccdf colour beside lo where links are many.

    Raises UsageError for an unknown kind or link, StudyError for a study of which nothing came back, or no stages.
    """
    pick("figure", kind, KINDS)
    if highlight is not None and kind not in ("ecdf", "ccdf"):
        raise UsageError(f"{kind} shows each link in a row of its own: highlight is for ecdf and ccdf")
    from lab.figures.samples import read

    return _draw(read(study), kind, highlight)


def draw_all(study: Study) -> dict[str, Figure]:
    """Every kind of figure, stages only of a study that has them; the delays are read once."""
    from lab.figures.samples import read

    samples = read(study)
    return {kind: _draw(samples, kind, None) for kind in KINDS if kind != "stages" or samples.stages}


def _draw(samples: Samples, kind: str, highlight: str | None) -> Figure:
    if kind == "overview":
        from lab.figures.overview import overview

        return overview(samples)
    if kind == "ridge":
        from lab.figures.ridge import ridge

        return ridge(samples)
    if kind == "stages":
        from lab.figures.stages import stages

        return stages(samples)
    if kind == "ecdf":
        from lab.figures.ecdf import ecdf as distribution
    else:
        from lab.figures.ccdf import ccdf as distribution
    return distribution(samples, highlight)


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
