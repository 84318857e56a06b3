"""A matplotlib Figure that a notebook shows by itself, with or without pyplot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure
from PIL import Image  # which matplotlib itself rests on

from lab.figures.style import context

__all__ = ["ShownFigure"]

_COLORS = 256


class ShownFigure(Figure):
    """Displays as PNG. Everything else is matplotlib's."""

    def _repr_png_(self) -> bytes:
        """With a palette: notebooks keep their pictures, and so they take a third of the bytes, and look the same."""
        drawn, packed = io.BytesIO(), io.BytesIO()
        with context():
            self.savefig(drawn, format="png", dpi="figure")
        picture = Image.open(drawn).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
        picture.save(packed, format="png", optimize=True)
        return packed.getvalue()
