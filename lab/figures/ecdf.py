"""ECDF: which fraction of the round trips took no longer than x. Log x: medians and tails on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab import stats
from lab.figures.grid import distribution_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["ecdf"]


def ecdf(samples: Samples, highlight: str | None = None) -> Figure:
    """A panel for each probe kind and family, a line a link."""
    note = "The axes end at the greatest p99: ccdf shows the tails"
    return distribution_grid(samples, highlight, stats.ecdf, ylabel="fraction ≤ x", end=_p99, finish=_finish, note=note)


def _p99(delays: np.ndarray[Any, Any]) -> float:
    return float(np.quantile(delays, 0.99))


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, 1.01)
