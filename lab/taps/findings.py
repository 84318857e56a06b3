"""What was found in a capture, as a table: how it converts and shows itself, and what gives to doubt."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lab.tables import plain_columns
from lab.taps.frames import HAS

if TYPE_CHECKING:
    import pandas
    import polars as pl

__all__ = [
    "DOUBTED", "Columns", "Findings", "Frames", "aligned", "doubts", "interface_names", "named",
    "nullable", "shown",
]  # fmt: skip

#: Columns of ``lab.taps.frames.FRAME``, by name: shape (n,), of addresses (n, 16).
Columns = Mapping[str, npt.NDArray[Any]]

#: What ``doubts`` reads.
DOUBTED = ("has", "length", "captured", "dropped")

#: Rows that are shown; the tables that they convert to have all.
_SHOWN = 20


class Frames(Protocol):
    """What is asked of a capture file: ``lab.taps.frames.FrameFile``."""

    @property
    def sources(self) -> Sequence[Any]: ...
    @property
    def comments(self) -> Sequence[str]: ...
    @property
    def fault(self) -> str | None: ...
    def columns(self, *names: str) -> Columns: ...


@dataclass(frozen=True, repr=False)
class Findings(ABC):
    """A row for each thing found, and what gives to doubt."""

    table: pl.DataFrame
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame."""
        return self.table

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas frame made without pyarrow; numbers that are null become NaN."""
        import pandas

        return pandas.DataFrame(self.to_numpy())

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """The rows, an array a column; numbers that are null become NaN (float64)."""
        return plain_columns(self.table)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1; all times in ns."""

    @abstractmethod
    def lines(self) -> list[str]:
        """It as text, for 80 columns."""

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *(f"warning: {text}" for text in self.warnings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table, its columns as wide as they must be; the first `left` are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shown(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The first rows of a table, and a line that says so if there are more."""
    rest = len(table) - _SHOWN
    return table.head(_SHOWN), [f"… and {rest:,} more"] if rest > 0 else []


def doubts(frames: Frames, columns: Columns) -> list[str]:
    """What is missing from a capture, of which nothing can be said. columns: with ``DOUBTED``."""
    found = []
    told = sum((source.dropped or 0) + (source.os_dropped or 0) for source in frames.sources)
    lost = max(int(columns["dropped"].sum()), told)
    if lost:
        found.append(f"frames came faster than they were kept, and {lost:,} are missing: what is told lacks them")
    cut = int(np.count_nonzero((columns["captured"] < columns["length"]) & (columns["has"] & HAS["payload"] == 0)))
    if cut:
        found.append(f"of {cut:,} frames the headers were cut off: capture more of each (tcpdump -s 0)")
    if frames.fault:
        found.append(frames.fault)
    return found


def interface_names(frames: Frames) -> list[str]:
    """The name of each interface of a file; its number where it has none."""
    return [source.name or str(number) for number, source in enumerate(frames.sources)]


def named(numbers: npt.NDArray[Any], names: Sequence[str]) -> pl.Series:
    """Names by their numbers."""
    import polars as pl

    return pl.Series(names, dtype=pl.String).gather(numbers)


def nullable(values: npt.NDArray[Any], there: npt.NDArray[Any]) -> pl.Series:
    """Values as a column, null where they are not `there`."""
    import polars as pl

    return pl.Series(values).set(pl.Series(~there), None)
