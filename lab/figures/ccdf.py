"""CCDF: which fraction of the round trips took longer than x. Log–log, so that the tail can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab import stats
from lab.figures.grid import distribution_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["ccdf"]


def ccdf(samples: Samples, highlight: str | None = None) -> Figure:
    """A panel for each probe kind and family, a line a link. The slowest probe ends the line: nothing lies beyond."""
    return distribution_grid(samples, highlight, _curve, ylabel="fraction > x", end=_last_drawn, finish=_finish)


def _curve(delays: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x, y = stats.ecdf(delays)
    return x[:-1], 1 - y[:-1]


def _last_drawn(delays: np.ndarray[Any, Any]) -> float:
    return float(np.sort(delays)[-2:][0])


def _finish(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.set_ylim(top=1)
    axes.yaxis.minorticks_off()
