"""Ridge: the distributions of all links under one another, sorted as in the overview."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.conditions import BASELINES
from lab.figures import layout
from lab.figures.captions import caption, measured
from lab.figures.samples import Cell
from lab.figures.style import context, log_microseconds, mark_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["density", "ridge"]

Array = np.ndarray[Any, Any]

#: Standard deviation of the kernel in decades: 2.3 % of the delay, below the spread of the steadiest link.
BANDWIDTH = 0.01
#: The kernel is never wider than this, however few the samples.
_WIDEST = 0.1
#: Rows that the highest point of a ridge stands above its own.
_HEIGHT = 1.05
#: Lower than this fraction of its peak, a density is the line of its row.
_VISIBLE = 0.004


def ridge(samples: Samples) -> Figure:
    """A panel a probe kind, IPv6 light behind the line of IPv4, and the baselines in a panel of their own below."""
    links, baselines, _ = samples.sorted_ways()
    probes = layout.probes_of(samples)
    rows_of_panels, columns = layout.shape(max(len(probes), 1))
    heights = [len(ways) + _HEIGHT for ways in (*[links] * rows_of_panels, baselines) if ways]
    with context():
        from lab.figures.shown import ShownFigure

        height = 0.27 * sum(heights) + 0.75 * len(heights) + 0.9
        figure = ShownFigure(figsize=(layout.WIDTHS[columns], height), layout="constrained")
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        first: Any = None
        for place, probe in enumerate(probes):
            row, column = divmod(place, columns)
            axes = figure.add_subplot(grid[row, column], sharex=first, sharey=first)
            cells = [Cell(probe, family, link) for link in links for family in (6, 4)]
            _panel(axes, samples, cells, links)
            for link, below, why in layout.absences(samples, probe, links):
                layout.note(axes, links.index(link), why, below=below - 0.3, banded=False)
            layout.title(axes, samples, probe, [probe])
            if column > 0:
                axes.tick_params(labelleft=False)
            first = first or axes
        if links:
            log_microseconds(first, *_limits(samples, [cell for cell in samples.pooled if cell.link in links]))
        if baselines:
            axes = figure.add_subplot(grid[-1, :])
            cells = [Cell(way, None, way) for way in baselines]
            _panel(axes, samples, cells, baselines)
            layout.title(axes, samples, layout.NO_NETWORK, BASELINES)
            log_microseconds(axes, *_limits(samples, [cell for cell in cells if cell in samples.pooled]), ticks=12)
        marks = [layout.key(family, f"IPv{family} p50") for family in layout.families(samples)]
        layout.legend(figure, [*marks, *([layout.key(None, f"{layout.NO_NETWORK} p50")] if baselines else [])])
        caption(
            figure,
            samples,
            layout.sorting(samples),
            f"Each density has the same height: all rounds, Gaussian kernel on the logarithm, {_percent(BANDWIDTH)} "
            "wide (standard deviation), or one step of the measured values where those are coarser",
            "The axes end at the greatest p99",
            measured(samples),
        )
    return figure


def _percent(decades: float) -> str:
    return f"{10**decades - 1:.1%}".replace("%", " %")


def _limits(samples: Samples, cells: Sequence[Cell]) -> tuple[float, float]:
    lines = [samples.pooled[cell] for cell in cells]
    return min(np.quantile(line, 0.001) for line in lines) / 1.08, max(np.quantile(line, 0.99) for line in lines) * 1.05


def _panel(axes: Axes, samples: Samples, cells: Sequence[Cell], ways: list[str]) -> None:
    """The ridges of `cells`, in rows named `ways`; those of a row in the order given."""
    p50 = {Cell(row["probe"], row["family"], row["link"]): row["p50_ns"] for row in samples.summary.rows}
    for cell in cells:
        y = ways.index(cell.link)
        if cell not in samples.pooled:
            continue
        mark = mark_of(cell.link, cell.family)
        x, curve = density(samples.pooled[cell])
        x, curve = x[curve > _VISIBLE], curve[curve > _VISIBLE]
        line = y - _HEIGHT * curve
        behind = cell.family == 6
        axes.fill_between(x, line, y, color=mark.color if behind else "white", alpha=0.6, linewidth=0, zorder=y + 2)
        axes.plot(x, line, color=mark.color, linewidth=1.1, zorder=y + 2, label=f"_{cell}")
        height = y - 0.1 + layout.shift(samples, cell.family) / 2
        axes.plot(p50[cell] / 1000, height, mark.marker, color=mark.color, markersize=3.5, zorder=len(ways) + 3)
    axes.set_ylim(len(ways) - 0.4, -_HEIGHT - 0.1)
    axes.grid(visible=False, axis="y")
    axes.hlines(range(len(ways)), 0, 1, colors="#d0d0d0", linewidth=0.6, transform=axes.get_yaxis_transform(), zorder=1)
    layout.label_rows(axes, ways)
    layout.x_label(axes)


def density(delays: Array) -> tuple[Array, Array]:
    """The density of (n,) delays over their logarithm, by a Gaussian kernel, its peak 1; as (x in µs, y).

    A clock that counts in steps of 10 or 40 ns would make a comb of a short delay: the kernel is never narrower than
    the step between neighbouring values in the middle half of what was measured.
    """
    low, middle, high = np.quantile(delays, (0.25, 0.5, 0.75))
    values = np.unique(delays[(delays >= low) & (delays <= high)])
    step = float(np.median(np.diff(values))) if len(values) > 1 else 0.0
    width = min(max(BANDWIDTH, step / middle / math.log(10)), _WIDEST)
    bins_per_width = 6
    logs = np.log10(delays)
    size = width / bins_per_width
    bins = math.ceil((logs.max() - logs.min()) / size) + 8 * bins_per_width + 1  # at least as many as the kernel has
    counts, edges = np.histogram(logs, bins, range=(logs.min() - 4 * width, logs.min() - 4 * width + bins * size))
    kernel = np.exp(-0.5 * (np.arange(-4 * bins_per_width, 4 * bins_per_width + 1) / bins_per_width) ** 2)
    smooth = np.convolve(counts, kernel, mode="same")
    return 10 ** ((edges[1:] + edges[:-1]) / 2), smooth / smooth.max()
