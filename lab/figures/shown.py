"""A matplotlib Figure that a notebook shows by itself, with or without pyplot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from lab.figures.style import context

__all__ = ["ShownFigure"]


class ShownFigure(Figure):
    """Displays as PNG. Everything else is matplotlib's."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with context():
            self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()
