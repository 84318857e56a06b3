"""Overview: p50 and p99 of every link, a row a link and a panel a probe kind (a dot plot, Cleveland 1985)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.conditions import BASELINES
from lab.figures import layout
from lab.figures.captions import caption, measured, modes
from lab.figures.style import context, log_microseconds, mark_of
from lab.stats import MIN_ROUNDS_INTERVAL
from lab.summaries import Row
from lab.units import micros

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["overview"]

#: A baseline left of this fraction of the fastest link is told by an arrow and its number: it would squeeze the rest.
_NEAR = 1 / 4
_FLOOR = mark_of("", None).color
_DOTS: Any = (0, (1, 2))


def overview(samples: Samples) -> Figure:
    """Filled: p50, open: p99, with their intervals. A dotted line falls from each baseline's p50 through all links."""
    links, baselines, _ = samples.sorted_ways()
    ways = baselines + links
    probes = layout.probes_of(samples)
    received = [row for row in samples.summary.rows if row["p50_ns"] is not None]
    floors = [row for row in received if row["link"] in BASELINES]
    fastest = min((row["p50_ns"] for row in received if row not in floors), default=0)
    shown = [row for row in received if row["p50_ns"] >= fastest * _NEAR]
    with context():
        from lab.figures.shown import ShownFigure

        names = probes or [layout.NO_NETWORK]
        rows_of_panels, columns = layout.shape(len(names))
        height = (0.27 * len(ways) + 0.75) * rows_of_panels + 0.85
        figure = ShownFigure(figsize=(layout.WIDTHS[columns], height), layout="constrained")
        panels = figure.subplots(rows_of_panels, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(names) :]:
            axes.remove()
        for axes, probe in zip(panels, names, strict=False):
            layout.title(axes, samples, probe, [probe] if probes else BASELINES)
            log_microseconds(axes, *_limits(shown))
            axes.set_ylim(len(ways) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            layout.bands(axes, len(ways))
            if links:
                _floors(axes, [row for row in floors if row in shown], ways)
            for row in floors:
                if row not in shown:
                    text = f"◂ p50 {micros(row['p50_ns'])}, p99 {micros(row['p99_ns'])}"
                    layout.note(axes, ways.index(row["link"]), text)
            for link, below, why in layout.absences(samples, probe, links):
                layout.note(axes, ways.index(link), why, below=below)
            for family in (*layout.families(samples), None):
                rows = [row for row in shown if row["family"] == family and row["probe"] in (probe, row["link"])]
                _marks(axes, rows, [ways.index(row["link"]) + layout.shift(samples, family) for row in rows])
            layout.x_label(axes)
        for axes in panels[::columns]:
            layout.label_rows(axes, ways)
        intervals = any(row[f"{quantile}_ci_ns"] for row in shown for quantile in ("p50", "p99"))
        layout.legend(figure, _keys(samples, baselines, intervals=intervals))
        caption(
            figure,
            samples,
            layout.sorting(samples),
            f"Medians over rounds; {measured(samples)}",
            "" if intervals else f"No intervals below {MIN_ROUNDS_INTERVAL} rounds",
            f"No network: {modes(samples, BASELINES)}" if links and baselines else "",
        )
    return figure


def _limits(shown: list[Row]) -> tuple[float, float]:
    """The x axis in µs: all marks and intervals."""
    ends = [end for row in shown for name in ("p50", "p99") for end in (row[f"{name}_ci_ns"] or [row[f"{name}_ns"]])]
    return min(ends) / 1000 / 1.15, max(ends) / 1000 * 1.15


def _marks(axes: Axes, rows: list[Row], heights: list[float]) -> None:
    """p50 and p99 of one family, their intervals, and a hairline from one to the other."""
    if not rows:
        return
    marks = [mark_of(row["link"], row["family"]) for row in rows]
    colors = [mark.color for mark in marks]
    name = f"IPv{rows[0]['family']}" if rows[0]["family"] else layout.NO_NETWORK
    p50, p99 = ([row[f"{quantile}_ns"] / 1000 for row in rows] for quantile in ("p50", "p99"))
    axes.hlines(heights, p50, p99, colors=colors, linewidth=0.6)
    for quantile, x, width in (("p50", p50, 3.6), ("p99", p99, 1.6)):
        known = [i for i, row in enumerate(rows) if row[f"{quantile}_ci_ns"] is not None]
        low, high = ([rows[i][f"{quantile}_ci_ns"][end] / 1000 for i in known] for end in (0, 1))
        axes.hlines(
            [heights[i] for i in known],
            low,
            high,
            colors=[colors[i] for i in known],
            linewidth=width,
            alpha=0.5,
            label=f"_{name} {quantile} interval",
        )
        axes.scatter(
            x,
            heights,
            s=13,
            marker=marks[0].marker,
            facecolors=colors if quantile == "p50" else "white",
            edgecolors=colors,
            linewidths=0.9,
            zorder=3,
            label=f"_{name} {quantile}",
        )


def _floors(axes: Axes, rows: list[Row], ways: list[str]) -> None:
    """A dotted line from each baseline's p50 down through all links."""
    x, top = [row["p50_ns"] / 1000 for row in rows], [ways.index(row["link"]) for row in rows]
    axes.vlines(x, top, len(ways) - 0.4, colors=_FLOOR, linestyles=_DOTS, linewidth=0.9, label="_floor")


def _keys(samples: Samples, baselines: list[str], *, intervals: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    found = layout.families(samples)
    names: list[tuple[int | None, str]] = [(family, f"IPv{family}") for family in found] or [(None, layout.NO_NETWORK)]
    keys = [
        layout.key(family, f"{name} {quantile}", filled=quantile == "p50")
        for family, name in names
        for quantile in ("p50", "p99")
    ]
    if found and baselines:
        keys.append(layout.key(None, layout.NO_NETWORK))
        keys.append(Line2D([], [], color=_FLOOR, linestyle=_DOTS, linewidth=0.9, label="its p50"))
    if intervals:
        color = keys[0].get_color()
        keys.append(Line2D([], [], color=color, alpha=0.5, linewidth=3.6, label="95 % interval"))
    return keys
