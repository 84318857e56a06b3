"""Names beside lines, wherever there is room for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["label_lines"]

#: Where on a line to try, as a fraction of the panel's height, in this order.
_HEIGHTS = (0.5, 0.62, 0.38, 0.74, 0.26, 0.86, 0.14)
#: Pixels between a name and any line.
_GAP = 2.5
_SIZE = 7.5

Box = tuple[float, float, float, float]


def label_lines(figure: Figure, panels: Iterable[Axes], names: Collection[str]) -> None:
    """Writes the name of each line labelled with one of `names` to its right, if it touches no other there.

    The lines must be monotonic. A line without room stays without a name. The figure is laid out for good, so this
    comes last.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    for axes in panels:
        lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        curves = [_pixels(axes, line) for line in lines]
        taken: list[Box] = []
        for i, line in enumerate(lines):
            if line.get_label() in names:
                _place(axes, str(line.get_label()), curves[i], [*curves[:i], *curves[i + 1 :]], taken)


def _pixels(axes: Axes, line: Line2D) -> np.ndarray[Any, Any]:
    """(2, n): x and y on the screen, y ascending, as far as the panel shows it."""
    points: np.ndarray[Any, Any] = axes.transData.transform(np.asarray(line.get_xydata(), float)).T
    return points if not points.size or points[1, 0] <= points[1, -1] else points[:, ::-1]


def _place(
    axes: Axes, name: str, curve: np.ndarray[Any, Any], others: list[np.ndarray[Any, Any]], taken: list[Box]
) -> None:
    text = axes.text(0, 0, name, fontsize=_SIZE, color="#6e6e6e", va="center_baseline", transform=None)
    text.set_in_layout(False)
    size = text.get_window_extent()
    for fraction in _HEIGHTS:
        middle = axes.bbox.y0 + fraction * axes.bbox.height
        y0, y1 = middle - size.height / 2, middle + size.height / 2
        own = _span(curve, y0, y1)
        if own is None or y0 < curve[1, 0] or y1 > curve[1, -1]:
            continue
        x0 = own[1] + _GAP
        box = (x0, y0, x0 + size.width, y1)
        if box[2] <= axes.bbox.x1 and not _touches(box, others, taken):
            taken.append(box)
            text.set_transform(axes.transData)
            x, y = axes.transData.inverted().transform((x0, middle))
            text.set_position((x, y))
            return
    text.remove()


def _span(curve: np.ndarray[Any, Any], y0: float, y1: float) -> tuple[float, float] | None:
    """The least and greatest x of the curve between two heights; None if none of it is there."""
    if not curve.size or y1 < curve[1, 0] or y0 > curve[1, -1]:
        return None
    ends = np.interp((y0, y1), curve[1], curve[0])
    return float(ends.min()), float(ends.max())


def _touches(box: Box, others: list[np.ndarray[Any, Any]], taken: list[Box]) -> bool:
    spans = [span for curve in others if (span := _span(curve, box[1], box[3]))]
    boxes = [(other[0], other[2]) for other in taken if other[1] < box[3] and box[1] < other[3]]
    return any(low < box[2] + _GAP and box[0] - _GAP < high for low, high in (*spans, *boxes))
