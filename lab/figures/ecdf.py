"""ECDF: which fraction of the round trips took no longer than x. Log x: medians and tails on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import stats
from lab.figures.grid import distribution_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.studies import Study

__all__ = ["ecdf"]


def ecdf(study: Study) -> Figure:
    """A panel for each probe kind and family, a line a link."""
    note = "; the axes end at p99, ccdf shows the tails"
    return distribution_grid(study, stats.ecdf, ylabel="fraction ≤ x", upto=0.99, finish=_finish, note=note)


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, 1.01)
