"""Stages: where the time of a round trip goes, a bar for each link and IP version and a panel a probe kind."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from lab.conditions import BASELINES, PROBES
from lab.errors import StudyError
from lab.figures import layout
from lab.figures.captions import caption, measured
from lab.figures.samples import Cell
from lab.figures.style import context
from lab.summaries import Row
from lab.units import micros

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["LOOKS", "stages"]

_CALL, _QDISC, _LINK, _REPLY, _RECEIVE, _USER = "#0072B2", "#bfe0f5", "#1a1a1a", "#8e8e8e", "#E69F00", "#CC79A7"
_DARK = (_CALL, _LINK)
_BACK = "//////"
#: Colour and hatch of each stage, in the order of the legend: one colour for what the kernel does twice, hatched on
#: the way back. What touches in a bar differs in grey too.
LOOKS = {
    "user→qdisc": (_CALL, ""),
    "far user→qdisc": (_CALL, _BACK),
    "qdisc→device": (_QDISC, ""),
    "far qdisc→device": (_QDISC, _BACK),
    "device→far stack": (_LINK, ""),
    "device→near stack": (_LINK, _BACK),
    "device→reply": (_REPLY, ""),
    "far stack→far user": (_RECEIVE, ""),
    "near stack→user": (_RECEIVE, _BACK),
    "reply→user": (_RECEIVE, _BACK),
    "far user": (_USER, ""),
}
#: Columns of the legend, and points that a line of it is high.
_COLUMNS, _KEY = 5, 14
_WIDTH = 9.0
#: Inches that the panels are wide, and a digit of a number.
_PANEL, _DIGIT = 7.8, 0.075
#: Rows that a bar is high, and the line at its end.
_BAR, _LINE = 0.68, 0.84
#: Up to so many bars, the spread of each stage is drawn.
_FEW = 24
_SIZE = 8


def stages(samples: Samples) -> Figure:
    """The medians of the stages one after the other, and the p50 of all. Raises StudyError for a study without any."""
    if not samples.stages:
        raise StudyError(
            f"{samples.study.path} has no stages: measure with lab compare --stages, or lab rtt lo --stages -o STUDY"
        )
    links, _, _ = samples.sorted_ways()
    staged = sorted((row for row in samples.summary.rows if row["stages"]), key=lambda row: links.index(row["link"]))
    panels: dict[str, list[Row]] = {}
    for probe in layout.probes_of(samples):
        if rows := [row for row in staged if row["probe"] == probe]:
            panels[probe] = rows
    without = {cell.probe for cell in samples.pooled} - {*panels}
    few = len(staged) <= _FEW
    with context():
        from lab.figures.shown import ShownFigure

        figure = ShownFigure(figsize=(_WIDTH, 0.25 * len(staged) + 1.3 * len(panels) + 0.4), layout="constrained")
        heights = [len(rows) for rows in panels.values()]
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        grid[0].set_xlim(0, _end(samples, spread=few))
        for axes, (probe, rows) in zip(grid, panels.items(), strict=True):
            layout.bands(axes, len(rows))
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            layout.label_rows(axes, [f"{row['link']} IPv{row['family']}" for row in rows])
            for y, row in enumerate(rows):
                _bar(axes, samples, row, y, spread=few)
            lines = _legend(axes, {name for row in rows for name in samples.stages.get(_cell(row), ())})
            layout.title(axes, samples, probe, [probe], above=_KEY * lines + 6)
            layout.x_label(axes)
        caption(
            figure,
            samples,
            layout.sorting(samples),
            "Medians of the stages, one after the other: their sum need not be the p50 of the round trip",
            "Thin lines: from where a stage would end at its p10 to where at its p90" if few else "",
            f"Medians over rounds; {measured(samples)}",
            f"No stages: {', '.join(sorted(without, key=(*PROBES, *BASELINES).index))}" if without else "",
        )
    return figure


def _cell(row: Row) -> Cell:
    return Cell(row["probe"], row["family"], row["link"])


def _end(samples: Samples, *, spread: bool) -> float:
    """The end of the x axis in µs, with room for the number behind the longest bar."""
    wholes: list[float] = [row["p50_ns"] / 1000 for row in samples.summary.rows if _cell(row) in samples.stages]
    for by_name in samples.stages.values():
        ends = itertools.accumulate(p50 for _, p50, _ in by_name.values())
        wholes += [end + (p90 - p50) * spread for end, (_, p50, p90) in zip(ends, by_name.values(), strict=True)]
    return max(wholes) * 1.07


def _bar(axes: Axes, samples: Samples, row: Row, y: int, *, spread: bool) -> None:
    """One condition's stages, each with its number where it fits, and the p50 of the round trip."""
    by_name = samples.stages.get(_cell(row))
    if by_name is None:
        layout.note(axes, y, "no reply" if row["p50_ns"] is None else "no probe has every stamp")
        return
    digit = axes.get_xlim()[1] / _PANEL * _DIGIT
    begin = 0.0
    for place, (name, (p10, p50, p90)) in enumerate(by_name.items()):
        color, hatch = LOOKS[name]
        axes.barh(
            y, p50, _BAR, left=begin, color=color, hatch=hatch, edgecolor="white", linewidth=0.6, label=f"_{name}"
        )
        text = micros(p50 * 1000)
        if len(text) * digit < p50:
            axes.text(
                begin + p50 / 2,
                y,
                text,
                fontsize=_SIZE,
                color="white" if color in _DARK else "black",
                ha="center",
                va="center_baseline",
                bbox={"facecolor": color, "linewidth": 0, "pad": 0.8} if hatch else None,
            )
        if spread:
            beside = y + (0.42 if place % 2 else -0.42)
            axes.hlines(beside, begin + p10, begin + p90, colors="#6e6e6e", linewidth=0.9, label=f"_{name} spread")
        begin += p50
    whole = row["p50_ns"] / 1000
    axes.vlines(whole, y - _LINE / 2, y + _LINE / 2, colors="black", linewidth=1.6, zorder=3, label="_p50")
    axes.text(max(whole, begin) + digit / 2, y, micros(row["p50_ns"]), fontsize=_SIZE, va="center_baseline")


def _legend(axes: Axes, names: set[str]) -> int:
    """What is drawn in this panel, between it and its title: the way back below the way there. How many lines."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        for name, (color, hatch) in LOOKS.items()
        if name in names
    ]
    handles.append(
        Line2D([], [], linestyle="", marker="|", color="black", mew=1.6, ms=8, label="p50 of the round trip")
    )
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderpad=0,
        ncols=_COLUMNS,
        fontsize=8.5,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.4,
    )
    return math.ceil(len(handles) / _COLUMNS)
