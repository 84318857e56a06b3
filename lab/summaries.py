"""The table of a study: a row a condition, summarised over rounds. Pure: studies and stats, nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import stats
from lab.conditions import LINKS, PROBES, Condition
from lab.units import micros

if TYPE_CHECKING:
    import pandas
    import polars as pl

    from lab.studies import Study

__all__ = ["HEADINGS", "Summary", "cells", "summarise"]

#: The column headings of the table, in the order of ``cells``. Delays are in µs.
HEADINGS = ("link", "probe", "wait, placement", "p50", "95 %", "p99", "− lo", "95 %", "lost")

Row = dict[str, Any]
RoundValues = dict[int, float]


@dataclass(frozen=True)
class Summary:
    """What ``lab compare`` and ``lab show`` print; ``rows`` has the keys of their JSON, all times in ns."""

    study: str
    rows: list[Row]
    skipped: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {
            "format": 1,
            "study": self.study,
            "rows": self.rows,
            "skipped": self.skipped,
            "warnings": self.warnings,
        }

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame; an interval is a list of two numbers, or null."""
        import polars as pl

        return pl.DataFrame(self.rows, infer_schema_length=None)

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas frame."""
        import pandas

        return pandas.DataFrame(self.rows)

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """The rows, an array a column; an interval that is null is NaN in a column of objects."""
        return {name: np.array([row[name] for row in self.rows], dtype=None) for name in self._plain_columns()}

    def _plain_columns(self) -> list[str]:
        return [name for name in (self.rows[0] if self.rows else {}) if not name.endswith("_ci_ns")]

    def __str__(self) -> str:
        table = [HEADINGS, *map(cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, self.footer(), *self.notes()])

    __repr__ = __str__

    def footer(self) -> str:
        """What the numbers are."""
        rounds = sorted({row["rounds"] for row in self.rows})
        sent = sum(row["sent"] for row in self.rows)
        span = "–".join(str(n) for n in dict.fromkeys((rounds[0], rounds[-1]))) if rounds else "0"
        return f"round trips in µs: medians over {span} rounds, bootstrap intervals; {sent:,} probes"

    def notes(self) -> list[str]:
        """What was skipped, and the warnings, a line each."""
        skipped = [f"skipped: {skip_label(skip)}: {skip['reason']}. {skip['fix']}" for skip in self.skipped]
        return [*skipped, *(f"warning: {text}" for text in self.warnings)]

    def _repr_html_(self) -> str:
        def line(tag: str, row: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

        body = "".join(line("td", cells(row)) for row in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (self.footer(), *self.notes()))
        return f"<table><thead>{line('th', HEADINGS)}</thead><tbody>{body}</tbody></table>{notes}"


def skip_label(skip: Mapping[str, Any]) -> str:
    """``{"link": "lo", "family": 6, …}`` → ``"lo IPv6 icmp"``."""
    family = f"IPv{skip['family']}" if skip.get("family") else None
    return " ".join(str(part) for part in (skip["link"], family, skip.get("probe")) if part)


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, in the order of ``HEADINGS``."""
    size = "" if row["size"] == Condition.size else f" {row['size']} B"
    return (
        f"{row['link']} {row['family']}",
        f"{row['probe']}{size}",
        f"{row['wait']}, {row['placement']}",
        micros(row["p50_ns"]),
        _interval(row["p50_ci_ns"]),
        micros(row["p99_ns"]),
        micros(row["p50_minus_lo_ns"], sign=True),
        _interval(row["p50_minus_lo_ci_ns"], sign=True),
        str(row["lost"]),
    )


def _interval(pair: Sequence[float] | None, *, sign: bool = False) -> str:
    return "–" if pair is None else "…".join(micros(ns, sign=sign) for ns in pair)


def summarise(study: Study) -> Summary:
    """The table of a study's finished runs. Raises StudyError if the study is damaged."""
    runs = study.runs
    rtts = study.rtts() if runs else {}
    per_condition: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        per_condition.setdefault(tuple(run[name] for name in Condition.factors()), []).append(run)
    quantiles = {
        key: {name: _by_round(group, rtts, name) for name in stats.QUANTILES} for key, group in per_condition.items()
    }
    rows = [_row(key, group, quantiles, study.seed) for key, group in per_condition.items()]
    rows.sort(key=_order)
    document = study.document
    return Summary(
        study=str(study.path),
        rows=rows,
        skipped=list(document["skipped"]),
        warnings=[*document["warnings"], *_doubts(study, rows)],
    )


def _order(row: Row) -> tuple[Any, ...]:
    return (PROBES.index(row["probe"]), row["size"], row["family"], LINKS.index(row["link"]))


def _by_round(group: list[Row], rtts: Mapping[int, np.ndarray[Any, Any]], name: str) -> RoundValues:
    """The named quantile of each round's run; rounds in which nothing came back, or too little, are left out."""
    values = {run["round"]: stats.quantile(rtts[run["run"]], name) for run in group}
    return {round_: value for round_, value in values.items() if value is not None}


def _row(
    key: tuple[Any, ...],
    group: list[Row],
    quantiles: Mapping[tuple[Any, ...], dict[str, RoundValues]],
    seed: int,
) -> Row:
    row: Row = dict(zip(Condition.factors(), key, strict=True))
    row["rounds"] = len(group)
    for name in ("sent", "received", "lost"):
        row[name] = sum(run[name] for run in group)
    for name, by_round in quantiles[key].items():
        row |= _estimate(name, list(by_round.values()), seed)
    lo = quantiles.get(("lo", *key[1:]), {}).get("p50", {}) if row["link"] != "lo" else {}
    own = quantiles[key]["p50"]
    return row | _estimate("p50_minus_lo", [own[r] - lo[r] for r in own if r in lo], seed)


def _estimate(name: str, values: list[float], seed: int) -> Row:
    """Median over rounds, and its interval."""
    interval = stats.median_interval(values, seed)
    return {
        f"{name}_ns": float(np.median(values)) if values else None,
        f"{name}_ci_ns": list(interval) if interval else None,
    }


def _doubts(study: Study, rows: list[Row]) -> list[str]:
    """What a reader should know before resting on the table, each with a remedy."""
    doubts = []
    if not study.complete:
        doubts.append(f"the study is partial: it was stopped after {len(study.runs)} runs; measure again for all of it")
    rounds = min((row["rounds"] for row in rows), default=0)
    if 0 < rounds < stats.MIN_ROUNDS_INTERVAL:
        doubts.append(f"{_number(rounds)}: no intervals below {stats.MIN_ROUNDS_INTERVAL}; give --rounds 10 or more")
    elif 0 < rounds < stats.MIN_ROUNDS_SOUND:
        doubts.append(
            f"{_number(rounds)}: intervals are rough below {stats.MIN_ROUNDS_SOUND}; give --rounds 10 or more"
        )
    return doubts


def _number(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"
