"""What ECDF and CCDF share: a grid with a row a probe kind and a column a family, a line a link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.conditions import FAMILIES, LINKS, PROBES
from lab.errors import StudyError
from lab.figures.style import context, line_of, log_microseconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lab.studies import Study

__all__ = ["Curve", "distribution_grid"]

#: (x, y) of the line that shows (n,) round-trip delays in µs.
Curve = Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
Samples = dict[tuple[str, int, str], dict[int, np.ndarray[Any, Any]]]
#: The same, all rounds together.
Pooled = dict[tuple[str, int, str], np.ndarray[Any, Any]]


def distribution_grid(
    study: Study, curve: Curve, *, ylabel: str, upto: float, finish: Callable[[Axes], None], note: str = ""
) -> Figure:
    """Draws `curve` of every condition: bold for all rounds together, faint for each round alone.

    ylabel: of every row. upto: the x axis of a row ends at this quantile of its slowest line. finish: sets the y axis
    of one panel. note: ends the caption. Raises StudyError if nothing was received.
    """
    samples = _samples(study)
    if not samples:
        raise StudyError(f"{study.path} has nothing to draw: no probe came back")
    pooled = {key: np.concatenate(list(rounds.values())) for key, rounds in samples.items()}
    probes = [probe for probe in PROBES if any(key[0] == probe for key in samples)]
    families = [family for family in FAMILIES if any(key[1] == family for key in samples)]
    with context():
        from lab.figures.shown import ShownFigure

        figure = ShownFigure(figsize=(3.9 * len(families) + 0.6, 2.5 * len(probes) + 1.1), layout="constrained")
        panels = figure.subplots(len(probes), len(families), sharex="row", sharey=True, squeeze=False)
        for row, probe in zip(panels, probes, strict=True):
            lines = [line for key, line in pooled.items() if key[0] == probe]
            low, high = min(line.min() for line in lines), max(np.quantile(line, upto) for line in lines)
            for axes, family in zip(row, families, strict=True):
                _panel(axes, samples, pooled, probe, family, curve)
                log_microseconds(axes, low / 1.05, max(high, low * 1.05) * 1.1)
                finish(axes)
            row[0].set_ylabel(ylabel)
        for axes in panels[-1]:
            axes.set_xlabel("round-trip delay (µs)")
        _legend(figure, panels)
        _caption(figure, study, samples, note)
    return figure


def _samples(study: Study) -> Samples:
    """Delays in µs, by (probe, family, link) and then by round."""
    samples: Samples = {}
    rtts = study.rtts()
    for run in study.runs:
        delays = rtts[run["run"]]
        if len(delays):
            samples.setdefault((run["probe"], run["family"], run["link"]), {})[run["round"]] = delays / 1000
    return samples


def _panel(axes: Axes, samples: Samples, pooled: Pooled, probe: str, family: int, curve: Curve) -> None:
    axes.set_title(f"{probe}, IPv{family}", loc="left")
    for index, link in enumerate(LINKS):
        rounds = samples.get((probe, family, link))
        if not rounds:
            continue
        line = line_of(index)
        for delays in rounds.values():
            axes.plot(*curve(delays), color=line.color, linewidth=0.6, alpha=0.18)
        x, y = curve(pooled[probe, family, link])
        axes.plot(x, y, color=line.color, linestyle=line.linestyle, linewidth=1.8, label=link)


def _legend(figure: Figure, panels: Any) -> None:
    """One legend for all panels: what is drawn for a link is the same everywhere."""
    found: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), loc="outside upper right", ncols=len(found))


def _caption(figure: Figure, study: Study, samples: Samples, note: str) -> None:
    counts = [sum(map(len, rounds.values())) for rounds in samples.values()]
    rounds = sorted({len(rounds) for rounds in samples.values()})
    each = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    modes = sorted({f"{run['wait']}, {run['placement']}" for run in study.runs})
    sizes = sorted({run["size"] for run in study.runs})
    span = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"{rounds[0]}"
    payloads = ", ".join(map(str, sizes))
    text = f"{each} replies a line, {span} rounds (faint: each alone); {payloads} bytes; {'; '.join(modes)}"
    text += note if study.complete else f"; partial{note}"
    figure.supxlabel(text, fontsize=8, color="#444444")
