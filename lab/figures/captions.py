"""The small print below a figure: what was measured, under which conditions, and what is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from typing import TYPE_CHECKING

from lab.impairments import Impairment
from lab.summaries import pace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lab.figures.samples import Samples

__all__ = ["caption", "measured", "modes"]

#: Points; at a page's usual 830 pixels still ten of them high.
_SIZE = 8
#: Characters of that size to an inch.
_PER_INCH = 15.5


def caption(figure: Figure, samples: Samples, *sentences: str) -> None:
    """Writes the sentences below the figure, and what every figure must say: impaired, partial, skipped."""
    text = ". ".join([*(sentence for sentence in sentences if sentence), *_conditions(samples)]) + "."
    lines = textwrap.wrap(text, int(figure.get_figwidth() * _PER_INCH), break_on_hyphens=False)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_SIZE, color="#444444", linespacing=1.3)


def measured(samples: Samples) -> str:
    """How many replies a line stands for, of which size; wait modes and placements stand in the panels' titles."""
    counts = [len(delays) for delays in samples.pooled.values()]
    rounds = [len(by_round) for by_round in samples.rounds.values()]
    sizes = sorted({row["size"] for row in samples.summary.rows})
    over = "1 round" if set(rounds) == {1} else f"{_span(rounds)} rounds"
    return f"{_span(counts)} replies a line, {over}, {', '.join(map(str, sizes))} bytes"


def modes(samples: Samples, probes: Collection[str]) -> str:
    """How the ends of these probe kinds waited and where they ran: ``"block, inline; shm: spin, cross-cpu"``.

    What only some of several have is named.
    """
    found: dict[str, list[str]] = {}
    for row in samples.summary.rows:
        if row["probe"] in probes:
            found.setdefault(f"{row['wait']}, {row['placement']}{pace(row)}", []).append(row["probe"])
    common = max(found, key=lambda mode: len(found[mode]), default="")
    named = [f"{'/'.join(dict.fromkeys(found[mode]))}: {mode}" for mode in found if mode != common]
    return "; ".join(filter(None, [common, *named]))


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _conditions(samples: Samples) -> list[str]:
    document = samples.study.document
    impair = document["experiment"].get("impair")
    return [
        *([f"Impaired, each direction: {Impairment.from_json(impair)}"] if impair else []),
        *([] if samples.study.complete else ["Partial: the study was stopped"]),
        *([f"Skipped: {', '.join(_skipped(samples))}"] if document["skipped"] else []),
    ]


def _skipped(samples: Samples) -> list[str]:
    """A link's name if there is nothing of it, else which part is missing: ``"ipip IPv6 icmp/udp"``."""
    measured = {row["link"] for row in samples.summary.rows}
    parts: dict[str, list[str]] = {}
    for skip in samples.summary.skipped:
        if skip["link"] not in measured or skip.get("family") is None:
            parts[skip["link"]] = []
        else:
            parts.setdefault(f"{skip['link']} IPv{skip['family']}", []).append(skip["probe"])
    return [f"{name} {'/'.join(probes)}".rstrip() for name, probes in parts.items()]
