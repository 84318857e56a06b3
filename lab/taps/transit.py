"""How long packets take through lo: from where they go out to where they come in, seen in one capture.

On lo a tap sees each packet twice, and a capture with both copies links them: the same packet_id on one interface. Both
stamps are the kernel's and of one clock, so the time between is a true one-way delay (RFC 7679), of the kernel alone.

The columns, a row a linked pair, in the order in which they went out (times int64 ns of CLOCK_REALTIME):

==================  ==========================================================
packet_id           what links the two
interface           its name, or its number where it has none
out_frame, in_frame their numbers in the file, from 1, as Wireshark counts
length              bytes on the wire
out_ns              when it went out
transit_ns          from there to when it came in
==================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import stats
from lab.display import histogram
from lab.errors import UsageError
from lab.taps.conversations import IN, OUT, loopbacks
from lab.taps.findings import DOUBTED, Columns, Findings, Frames, doubts, interface_names, named
from lab.units import format_ns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["COLUMNS", "Transit", "find_transit", "transit_table"]

#: What ``transit_table`` reads.
COLUMNS = ("time_ns", "interface", "direction", "packet_id", "length")


@dataclass(frozen=True, repr=False)
class Transit(Findings):
    """The linked pairs of a capture, a row each; the columns are described at the top of ``lab.taps.transit``.

    unlinked: frames without their other copy, "in" and "out", on the interfaces where others have theirs.
    """

    unlinked: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab read --transit --json``, format 1."""
        return {
            "format": 1,
            "linked": len(self.table),
            "unlinked": self.unlinked,
            "transit_ns": stats.summary(self.table["transit_ns"].to_numpy()),
            "transits": self.table.to_dicts(),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Quantiles and a histogram."""
        transit_ns = self.table["transit_ns"].to_numpy()
        told = stats.summary(transit_ns)
        quantiles = "  ".join(f"{name} {format_ns(ns)}" for name, ns in told.items() if ns is not None)
        without = ", ".join(f"{count:,} {way}" for way, count in self.unlinked.items())
        return [
            f"packets seen going out and coming in: {len(self.table):,}; unlinked: {without}",
            quantiles,
            *histogram(transit_ns),
        ]


def find_transit(frames: Frames) -> Transit:
    """The transit times of a capture file. Raises UsageError if none of its frames is linked."""
    columns = frames.columns(*{*COLUMNS, *DOUBTED})
    table = transit_table(columns, interface_names(frames))
    if not len(table):
        raise UsageError("no frame of this capture is linked to its other copy: capture lo with --both-copies")
    on = np.isin(columns["interface"], loopbacks(columns))
    unlinked = {
        name: int(np.count_nonzero(on & (columns["direction"] == way))) - len(table)
        for name, way in (("in", IN), ("out", OUT))
    }
    warnings = doubts(frames, columns)
    if backward := int((table["transit_ns"] <= 0).sum()):
        warnings.append(f"packets came in before they went out ({backward:,}): the clock was set meanwhile")
    return Transit(table, tuple(warnings), unlinked)


def transit_table(columns: Columns, interfaces: Sequence[str]) -> pl.DataFrame:
    """A row a linked pair. columns: with ``COLUMNS``. interfaces: the name of each."""
    import polars as pl

    linked = np.flatnonzero(columns["packet_id"])
    frames = pl.DataFrame({name: columns[name][linked] for name in COLUMNS} | {"frame": linked + 1})
    key = ["interface", "packet_id"]
    out, in_ = (
        frames.filter(pl.col("direction") == way).unique(key, keep="first", maintain_order=True) for way in (OUT, IN)
    )
    pairs = out.join(in_, key, suffix="_in", maintain_order="left")
    return pairs.select(
        "packet_id",
        named(pairs["interface"].to_numpy(), interfaces).alias("interface"),
        pl.col("frame").alias("out_frame"),
        pl.col("frame_in").alias("in_frame"),
        "length",
        pl.col("time_ns").alias("out_ns"),
        (pl.col("time_ns_in") - pl.col("time_ns")).alias("transit_ns"),
    )
