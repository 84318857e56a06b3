"""What is written on a figure, and whether all of it can be read, for tests of what draws ladders and anatomies."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def written(figure):
    """All that is written, in the order in which it was."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def placed(figure):
    """What is written, as matplotlib's Text, and where: (n, 4), left, lower, right and upper edge in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts]
    return texts, np.array([text.get_window_extent(renderer).extents for text in texts]).reshape(-1, 4)


def assert_legible(figure):
    """No text lies on another, nor outside. Returns what `placed` does."""
    texts, boxes = placed(figure)
    inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= figure.bbox.max).all(axis=1)
    assert [text.get_text() for text, whole in zip(texts, inside, strict=True) if not whole] == []
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    pairs = np.argwhere(np.triu((low < high).all(axis=2), k=1))
    assert [(texts[one].get_text(), texts[other].get_text()) for one, other in pairs] == []
    return texts, boxes
