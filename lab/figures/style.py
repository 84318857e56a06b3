"""How figures look: colours that the colour-blind and a grey printer can tell apart, one style a link everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Line", "context", "line_of", "log_microseconds"]

#: Okabe and Ito (2008), dark to light.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Line:
    """How one link is drawn."""

    color: str
    linestyle: Any


def line_of(index: int) -> Line:
    """The style of the link that is `index`-th in the study; lo comes first and is a solid black line."""
    return Line(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Matplotlib's settings for every figure of this package, whatever the user's own are."""
    import matplotlib as mpl

    ours: Any = {
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "figure.dpi": 110,
        "savefig.dpi": 150,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        with mpl.rc_context(ours):
            yield


def log_microseconds(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from low to high with plain numbers: 5, 10, 20, 50 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    narrow = MaxNLocator(6, steps=[1, 2, 5, 10])  # within a few multiples, even steps are easier to read
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(narrow if high / low < 6 else LogLocator(subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
