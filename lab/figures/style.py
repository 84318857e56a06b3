"""How figures look: one language for all of them, for the colour-blind and a grey printer too.

lo is black, IPv4 a dark circle, IPv6 a light diamond, what is no network a grey square. Where links share a panel, each
has a colour and a dash of its own; where they are many, lo and one other have, and the rest is grey.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.conditions import BASELINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["REST", "Line", "Mark", "context", "line_of", "log_microseconds", "mark_of"]

#: Okabe and Ito (2008), dark to light; black is lo's alone.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES: tuple[Any, ...] = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
#: The numbers of a decade that an axis shows, for the most of them that there is room for.
_STEPS = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True)
class Line:
    """How one link is drawn among others in a panel."""

    color: str
    linestyle: Any = "-"


@dataclass(frozen=True)
class Mark:
    """How one link is drawn in a row of its own, over one IP version. shift: of its row, downwards."""

    color: str
    marker: str
    shift: float = 0.0


#: The colour of lines that are only there to compare with.
REST = "#b0b0b0"
_LO = Line("#000000")


def line_of(link: str, others: list[str]) -> Line:
    """The style of a link among `others`, those that are told apart by colour: lo is a solid black line."""
    if link == "lo":
        return _LO
    index = [other for other in others if other != "lo"].index(link)
    return Line(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])


def mark_of(link: str, family: int | None) -> Mark:
    """The mark of a row: dark for IPv4, light for IPv6, black and grey for lo."""
    if link in BASELINES or family is None:
        return Mark("#6e6e6e", "s")
    if family == 4:
        return Mark("#000000" if link == "lo" else "#0072B2", "o", -0.18)
    return Mark("#8c8c8c" if link == "lo" else "#56B4E9", "D", 0.18)


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
        "axes.axisbelow": True,
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


def log_microseconds(axes: Axes, low: float, high: float, ticks: int = 6) -> None:
    """A logarithmic x axis from low to high with plain numbers: 5, 10, 20, 50 rather than powers of ten.

    ticks: about how many numbers there is room for.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    if high / low < 3:  # within a few multiples, even steps are easier to read
        axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    else:
        decades = math.log10(high / low)
        steps = next((steps for steps in _STEPS if len(steps) * decades <= ticks), _STEPS[-1])
        axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x < 10_000 else f"{x:,.0f}"))
    axes.xaxis.minorticks_off()
