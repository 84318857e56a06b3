"""The table of a study: a row a condition, summarised over rounds. Pure: studies and stats, nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lab import stats
from lab.conditions import BASELINES, EMPTY, NIC, PROBES, WAYS, Condition
from lab.doubts import doubts, machine_doubts
from lab.impairments import Impairment
from lab.units import format_duration, format_pace, micros

if TYPE_CHECKING:
    import pandas
    import polars as pl

    from lab.studies import Study

__all__ = ["HEADINGS", "Summary", "cells", "pace", "position", "summarise"]

#: The column headings of the table, in the order of ``cells``. Delays are in µs.
HEADINGS = ("link", "p50", "95 %", "p99", "− lo", "95 %", "lost")

#: A drift that is told: of a size that matters, and which one steady study in a hundred would show by chance.
_DRIFT, _DRIFT_P = 0.05, 0.01

Row = dict[str, Any]
RoundValues = dict[int, float]


@dataclass(frozen=True)
class Summary:
    """What ``lab compare`` and ``lab show`` print; ``rows`` has the keys of their JSON, all times in ns."""

    study: str
    rows: list[Row]
    skipped: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    impaired: str | None = None

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
        """The rows, an array a column; delays are float64, NaN for null, and intervals have shape (rows, 2)."""
        none = (math.nan, math.nan)
        columns: dict[str, np.ndarray[Any, Any]] = {}
        for name in self.rows[0] if self.rows else ():
            values = [row[name] for row in self.rows]
            if name.endswith("_ci_ns"):
                columns[name] = np.array([none if pair is None else pair for pair in values], float)
            elif name.endswith("_ns"):
                columns[name] = np.array(values, float)  # None becomes NaN
            else:
                columns[name] = np.array(values)
        return columns

    def sections(self) -> dict[str, list[Row]]:
        """The rows under the titles of the table: what they have in common beside the link and the IP version."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            probe = "no network" if row["probe"] in BASELINES else row["probe"]
            size = "" if probe in EMPTY else f", {row['size']} bytes"
            title = f"{probe}: {row['wait']}, {row['placement']}{size}{pace(row)}"
            found.setdefault(title, []).append(row)
        return found

    def table(self) -> str:
        """The rows as text: a line under each title for every link, its columns aligned throughout."""
        widths = [max(map(len, column)) for column in zip(HEADINGS, *map(cells, self.rows), strict=True)]

        def line(row: Sequence[str]) -> str:
            link, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            return "  ".join([row[0].ljust(len(link)), *numbers])

        lines = [line(HEADINGS)]
        for title, rows in self.sections().items():
            lines += [f"── {title} ".ljust(len(lines[0]), "─"), *(line(cells(row)) for row in rows)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join([self.table(), "", self.footer(), *self.notes()])

    __repr__ = __str__

    def footer(self) -> str:
        """What the numbers are."""
        rounds = sorted({row["rounds"] for row in self.rows})
        sent = sum(row["sent"] for row in self.rows)
        over = _number(rounds[-1]) if len(set(rounds)) == 1 else "the rounds"
        return f"µs, medians over {over} with bootstrap intervals; {sent:,} probes"

    def notes(self) -> list[str]:
        """What was skipped, and the warnings, a line each."""
        impaired = [self.impaired] if self.impaired else []
        skipped = [f"skipped: {skip_label(skip)}: {skip['reason']}. {skip['fix']}" for skip in self.skipped]
        return [*impaired, *skipped, *(f"warning: {text}" for text in self.warnings)]

    def _repr_html_(self) -> str:
        def line(tag: str, row: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

        body = "".join(
            f'<tr><th colspan="{len(HEADINGS)}">{html.escape(title)}</th></tr>'
            + "".join(line("td", cells(row)) for row in rows)
            for title, rows in self.sections().items()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (self.footer(), *self.notes()))
        return f"<table><thead>{line('th', HEADINGS)}</thead><tbody>{body}</tbody></table>{notes}"


def skip_label(skip: Mapping[str, Any]) -> str:
    """``{"link": "lo", "family": 6, …}`` → ``"lo IPv6 icmp"``."""
    family = f"IPv{skip['family']}" if skip.get("family") else None
    return " ".join(str(part) for part in (skip["link"], family, skip.get("probe")) if part)


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, in the order of ``HEADINGS``."""
    return (
        f"{row['link']} {row['family'] or ''}".rstrip(),
        micros(row["p50_ns"]),
        _interval(row["p50_ci_ns"]),
        micros(row["p99_ns"]),
        micros(row["p50_minus_lo_ns"], sign=True),
        _interval(row["p50_minus_lo_ci_ns"], sign=True),
        str(row["lost"]),
    )


def pace(row: Row) -> str:
    """What is unusual of how a row's probes were sent: ``", poisson 20,000/s"``; nothing of a plain closed loop."""
    parts = [f"{row['arrivals']} {format_pace(row['period_ns'])}"] if row["period_ns"] else []
    parts += [f"think {format_duration(row['think_ns'])}"] if row["think_ns"] else []
    parts += ["stages"] if row["stages"] else []
    return "".join(f", {part}" for part in parts)


def _interval(pair: Sequence[float] | None, *, sign: bool = False) -> str:
    return "–" if pair is None else "…".join(micros(ns, sign=sign) for ns in pair)


def summarise(study: Study, rtts: Mapping[int, np.ndarray[Any, Any]] | None = None) -> Summary:
    """The table of a study's finished runs. rtts: what `study.rtts()` gave, if it was read already.

    Raises StudyError if the study is damaged.
    """
    runs = study.runs
    if rtts is None:
        rtts = study.rtts() if runs else {}
    per_condition: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        per_condition.setdefault(tuple(run[name] for name in Condition.factors()), []).append(run)
    quantiles = {
        key: {name: _by_round(group, rtts, name) for name in stats.QUANTILES} for key, group in per_condition.items()
    }
    responses = study.responses()
    rows = [_row(key, group, quantiles, responses, study.seed) for key, group in per_condition.items()]
    rows.sort(key=_order)
    document = study.document
    return Summary(
        study=str(study.path),
        rows=rows,
        skipped=list(document["skipped"]),
        warnings=[
            *document["warnings"],
            *_of_links(study),
            *_of_rounds(study, quantiles),
            *_of_drift(study, quantiles),
            *machine_doubts(document, runs),
        ],
        impaired=_impaired(study),
    )


def _impaired(study: Study) -> str | None:
    """What worsened the links, and by what means."""
    asked = study.document["experiment"].get("impair")
    if not asked:
        return None
    links = study.document.get("world", {}).get("links", {})
    told = ", ".join(f"{name} by {link['impaired']}" for name, link in links.items() if link["impaired"])
    return f"impaired each way: {Impairment.from_json(asked)}" + (f" ({told})" if told else "")


def _order(row: Row) -> tuple[Any, ...]:
    probe = (*PROBES, *BASELINES).index(row["probe"])
    return (probe, row["size"], row["wait"], row["placement"], row["family"] or 0, position(row["link"]))


def position(link: str) -> tuple[int, str]:
    """Where a link stands in tables and figures: in the order of ``WAYS``, network cards behind the other links."""
    return (WAYS.index(link), "") if not link.startswith(NIC) else (len(WAYS), link)


def _by_round(group: list[Row], rtts: Mapping[int, np.ndarray[Any, Any]], name: str) -> RoundValues:
    """The named quantile of each round's run; rounds in which nothing came back, or too little, are left out."""
    values = {run["round"]: stats.quantile(rtts[run["run"]], name) for run in group if run["run"] in rtts}
    return {round_: value for round_, value in values.items() if value is not None}


def _row(
    key: tuple[Any, ...],
    group: list[Row],
    quantiles: Mapping[tuple[Any, ...], dict[str, RoundValues]],
    responses: Mapping[int, np.ndarray[Any, Any]],
    seed: int,
) -> Row:
    row: Row = dict(zip(Condition.factors(), key, strict=True))
    # Studies made before there were schedules and stages don't say that they have none.
    row |= {"period_ns": group[0].get("period_ns"), "think_ns": group[0].get("think_ns", 0)}
    row |= {"stages": group[0].get("stages", False), "rounds": len(group)}
    for name in ("sent", "received", "lost"):
        row[name] = sum(run[name] for run in group)
    for name, by_round in quantiles[key].items():
        row |= _estimate(name, list(by_round.values()), seed)
    for name in ("p50", "p99"):  # null without a schedule
        row |= _estimate(f"response_{name}", list(_by_round(group, responses, name).values()), seed)
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


def _of_links(study: Study) -> list[str]:
    """Doubts about single conditions: cut probes, unsent ones, other traffic."""
    links = study.document.get("world", {}).get("links", {})
    corrupting = bool((study.document["experiment"].get("impair") or {}).get("corrupt"))
    totals: dict[tuple[Any, ...], Row] = {}
    for run in study.runs:
        key = (run["link"], run["family"], run["probe"], run["size"])
        total = totals.setdefault(key, {"unsent": 0, "foreign": 0})
        for name in total:
            total[name] += run.get(name, 0)
    return [
        text
        for key, total in totals.items()
        if key[0] in links and key[1] is not None
        for text in doubts(*key, mtu=links[key[0]]["mtu"], corrupting=corrupting, **total)
    ]


def _of_rounds(study: Study, quantiles: Mapping[tuple[Any, ...], dict[str, RoundValues]]) -> list[str]:
    """Doubts about all of it: an unfinished study, too few rounds in which anything came back."""
    found = []
    if not study.complete:
        found.append(f"the study is partial: it was stopped after {len(study.runs)} runs; measure again for all of it")
    rounds = min((len(by_name["p50"]) for by_name in quantiles.values()), default=stats.MIN_ROUNDS_SOUND)
    if rounds < stats.MIN_ROUNDS_INTERVAL:
        found.append(f"{_number(rounds)}: no intervals below {stats.MIN_ROUNDS_INTERVAL}; give --rounds 10 or more")
    elif rounds < stats.MIN_ROUNDS_SOUND:
        found.append(f"{_number(rounds)}: intervals hold the truth too seldom; give --rounds 10 or more")
    return found


def _of_drift(study: Study, quantiles: Mapping[tuple[Any, ...], dict[str, RoundValues]]) -> list[str]:
    """Whether p50 rose or fell over the study: in one test for all conditions, as what drifts is the machine.

    A round's value is the median over conditions of p50 against its own median over rounds.
    """
    ratios: dict[int, list[float]] = {}
    for by_name in quantiles.values():
        usual = float(np.median(list(by_name["p50"].values()))) if by_name["p50"] else 0.0
        for round_, p50 in by_name["p50"].items() if usual else ():
            ratios.setdefault(round_, []).append(p50 / usual)
    change, p_value = stats.trend([float(np.median(ratios[round_])) for round_ in sorted(ratios)], study.seed)
    if p_value >= _DRIFT_P or abs(change) < _DRIFT:
        return []
    way = "rose" if change > 0 else "fell"
    return [f"p50 {way} by {abs(change):.0%} over the study: differences hold, figures alone may not; measure again"]


def _number(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"
