"""What overview and ridge share around their data: a row a link, a panel a probe kind, titles, names and notes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lab.conditions import BASELINES, FAMILIES, PROBES
from lab.figures.captions import modes
from lab.figures.style import mark_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = [
    "NO_NETWORK", "WIDTHS", "absences", "bands", "families", "key", "label_rows", "legend", "note", "probes_of",
    "shape", "shift", "sorting", "title", "x_label",
]  # fmt: skip

#: Inches, by the number of panels beside each other: a page's 830 pixels show the smallest text ten of them high.
WIDTHS = {1: 6.2, 2: 7.8, 3: 9.0}
#: What baselines are called together.
NO_NETWORK = "no network"
#: Characters of a title to an inch of the figure's width, names of rows included.
_PER_INCH = 12.5
#: Points of what is said within and beside the panels.
_SIZE = 8.5
_BAND = "#f4f4f4"


def probes_of(samples: Samples) -> list[str]:
    """The probe kinds that have a panel each; a study of baselines has none."""
    return [probe for probe in PROBES if any(row["probe"] == probe for row in samples.summary.rows)]


def shape(panels: int) -> tuple[int, int]:
    """Rows and columns for so many panels: as many as are readable beside each other, the rest below."""
    rows = math.ceil(panels / max(WIDTHS))
    return rows, math.ceil(panels / rows)


def title(axes: Axes, samples: Samples, name: str, probes: Collection[str], *, above: float = 6.0) -> None:
    """A panel's name, and how the ends waited: that decides as much as the link does. Wrapped to its column.

    above: points between it and the panel.
    """
    figure: Any = axes.figure
    place: Any = axes.get_subplotspec()
    share = len(place.colspan) / place.get_gridspec().ncols
    width = int(figure.get_figwidth() * share * _PER_INCH)
    axes.set_title(textwrap.fill(f"{name}: {modes(samples, probes)}", width), loc="left", fontsize=10, pad=above)


def x_label(axes: Axes) -> None:
    """What the x axis is, in the size of the rest."""
    axes.set_xlabel("round-trip delay (µs)", fontsize=9)
    axes.tick_params(axis="x", labelsize=_SIZE, labelbottom=True)


def shift(samples: Samples, family: int | None) -> float:
    """How far the marks of a family stand below the middle of their row: in it, if there is one family only."""
    return mark_of("", family).shift if len(families(samples)) > 1 else 0.0


def label_rows(axes: Axes, ways: Sequence[str]) -> None:
    """Names the rows from top to bottom, by link or by link and IP version: lo in bold, what is no network in grey."""
    axes.set_yticks(range(len(ways)), ways, fontsize=_SIZE + 0.5)
    axes.tick_params(axis="y", length=0)
    for text, way in zip(axes.get_yticklabels(), ways, strict=True):
        text.set_fontweight("bold" if way.split()[0] == "lo" else "normal")
        text.set_color("#6e6e6e" if way in BASELINES else "#000000")


def key(family: int | None, text: str, *, filled: bool = True) -> Any:
    """A mark for the legend."""
    from matplotlib.lines import Line2D

    mark = mark_of("", family)
    face = mark.color if filled else "white"
    return Line2D([], [], linestyle="", marker=mark.marker, color=mark.color, mfc=face, markersize=4.5, label=text)


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend above all panels."""
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=_SIZE, handletextpad=0.5)


def bands(axes: Axes, count: int) -> None:
    """Every other row a little darker, to be followed across panels."""
    for y in range(0, count, 2):
        axes.axhspan(y - 0.5, y + 0.5, color=_BAND, linewidth=0, zorder=0)


def note(axes: Axes, row: int, text: str, *, below: float = 0.0, banded: bool = True) -> None:
    """Says in a row, at its left, what has no mark, `below` its middle; on the row's own ground, so that it is read."""
    ground = _BAND if banded and row % 2 == 0 else "white"
    axes.text(
        0.015,
        row + below,
        text,
        transform=axes.get_yaxis_transform(),
        fontsize=8,
        color="#6e6e6e",
        va="center_baseline",
        bbox={"facecolor": ground, "linewidth": 0, "pad": 0.5},
        zorder=3,
    )


def absences(samples: Samples, probe: str, links: Sequence[str]) -> Iterator[tuple[str, float, str]]:
    """The links that this probe kind does not have, or not over both IP versions: each, how far below, and why."""
    for link in links:
        rows = [row for row in samples.summary.rows if row["link"] == link and row["probe"] == probe]
        silent = [row["family"] for row in rows if row["p50_ns"] is None]
        if not rows:
            yield link, 0.0, "not measured"
        elif len(silent) == len(rows):
            yield link, 0.0, "no reply"
        elif silent:
            yield link, shift(samples, silent[0]), f"IPv{silent[0]}: no reply"


def sorting(samples: Samples) -> str:
    """What the rows are sorted by, for the caption; nothing if there is one row of links or none."""
    links, _, by = samples.sorted_ways()
    return f"Links sorted by p50 ({by})" if len(links) > 1 else ""


def families(samples: Samples) -> list[int]:
    """The IP versions that were measured."""
    return [family for family in FAMILIES if any(row["family"] == family for row in samples.summary.rows)]
