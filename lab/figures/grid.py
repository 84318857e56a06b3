"""What ECDF and CCDF share: a grid with a row a probe kind and a column a family, a line a link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.checks import pick
from lab.conditions import BASELINES, FAMILIES, PROBES
from lab.figures.captions import caption, measured, modes
from lab.figures.labels import label_lines
from lab.figures.layout import NO_NETWORK
from lab.figures.samples import Cell
from lab.figures.style import REST, Line, context, line_of, log_microseconds
from lab.summaries import position

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["Curve", "distribution_grid"]

#: (x, y) of the line that shows (n,) round-trip delays in µs.
Curve = Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]

#: Links that can be told apart by colour and dash, one on the other; beyond, two are shown in colour, the rest in grey.
_TOLD_APART = 3


def distribution_grid(
    samples: Samples,
    highlight: str | None,
    curve: Curve,
    *,
    ylabel: str,
    end: Callable[[np.ndarray[Any, Any]], float],
    finish: Callable[[Axes], None],
    note: str = "",
) -> Figure:
    """Draws `curve` of every condition: all rounds together, and each round alone faintly where links are few.

    highlight: the link in colour beside lo where links are many. ylabel: of every row. end: how far the x axis must go
    for (n,) delays in µs. finish: sets the y axis of one panel. note: a sentence for the caption. Baselines are
    drawn only where there is nothing else. Raises UsageError if `highlight` is not in the study.
    """
    rows, ways = _panels(samples)
    coloured = _coloured(samples, ways, highlight)
    others = [way for way in ways if way not in coloured]
    with context():
        from lab.figures.shown import ShownFigure

        size = (8.4 if len(rows[0]) > 1 else 7.5, 2.5 * len(rows) + 1.1)
        figure = ShownFigure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(rows[0]), sharex="row", sharey=True, squeeze=False)
        for axes_row, row in zip(grid, rows, strict=True):
            lines = [samples.pooled[cell] for cells in row.values() for cell in cells]
            low, high = min(line.min() for line in lines), max(end(line) for line in lines)
            for axes, (title, cells) in zip(axes_row, row.items(), strict=True):
                axes.set_title(title, loc="left")
                for cell in cells:
                    _draw(axes, samples, cell, curve, coloured.get(cell.link), rounds=not others)
                log_microseconds(axes, low / 1.05, max(high, low * 1.05) * 1.1)
                finish(axes)
            axes_row[0].set_ylabel(ylabel)
        for axes in grid[-1]:
            axes.set_xlabel("round-trip delay (µs)")
        _legend(figure, coloured, len(others))
        _caption(figure, samples, ways, others, note)
        if others:
            label_lines(figure, grid.flat, others)
    return figure


def _panels(samples: Samples) -> tuple[list[dict[str, list[Cell]]], list[str]]:
    """Rows of panels, each a title and the lines in it; and what is drawn, in the order of tables."""
    ways = samples.links()
    if not ways:
        cells = sorted(samples.pooled, key=lambda cell: position(cell.link))
        return [{NO_NETWORK: cells}], [cell.link for cell in cells]
    probes = [probe for probe in PROBES if any(cell.probe == probe for cell in samples.pooled)]
    families = [family for family in FAMILIES if any(cell.family == family for cell in samples.pooled)]
    return [
        {
            f"{probe}, IPv{family}": [cell for way in ways if (cell := Cell(probe, family, way)) in samples.pooled]
            for family in families
        }
        for probe in probes
    ], ways


def _coloured(samples: Samples, ways: list[str], highlight: str | None) -> dict[str, Line]:
    """What is drawn in colour, and how: up to three links, or else lo and the one to look at."""
    if highlight is not None:
        pick("link to highlight", highlight, ways)
    elif len(ways) <= _TOLD_APART or ways[0] in BASELINES:
        return {way: line_of(way, ways) for way in ways}
    elif "veth" in ways:
        highlight = "veth"
    else:
        links, _, _ = samples.sorted_ways()
        highlight = [link for link in links if link in ways][-1]
    chosen = [way for way in ways if way in ("lo", highlight)]
    return {way: line_of(way, chosen) for way in chosen}


def _draw(axes: Axes, samples: Samples, cell: Cell, curve: Curve, line: Line | None, *, rounds: bool) -> None:
    """One line; grey without a style of its own. rounds: and each round of it."""
    if line is None:
        axes.plot(*curve(samples.pooled[cell]), color=REST, linewidth=0.9, label=cell.link, zorder=1.5)
        return
    for delays in samples.rounds[cell].values() if rounds else ():
        axes.plot(*curve(delays), color=line.color, linewidth=0.6, alpha=0.18)
    x, y = curve(samples.pooled[cell])
    axes.plot(x, y, color=line.color, linestyle=line.linestyle, linewidth=1.8, label=cell.link, zorder=2.5)


def _legend(figure: Figure, coloured: dict[str, Line], others: int) -> None:
    """One legend for all panels: what is drawn for a link is the same everywhere."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=line.color, linestyle=line.linestyle, linewidth=1.8, label=way)
        for way, line in coloured.items()
    ]
    if others:
        handles.append(Line2D([], [], color=REST, linewidth=0.9, label=f"others ({others})"))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _caption(figure: Figure, samples: Samples, ways: list[str], others: list[str], note: str) -> None:
    probes = {cell.probe for cell in samples.pooled if cell.link in ways}
    left_out = sorted({cell.link for cell in samples.pooled if cell.link not in ways}, key=position)
    links, _, by = samples.sorted_ways()
    grey = ", ".join(link for link in links if link in others)
    caption(
        figure,
        samples,
        f"{measured(samples)}; {modes(samples, probes)}",
        f"Grey, from fast to slow by p50 ({by}): {grey}" if others else "Faint: each round alone",
        note,
        f"In overview and ridge only: {', '.join(left_out)}" if left_out else "",
    )
