"""What every figure draws: a study's delays and the rows of its table, read once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lab.conditions import BASELINES
from lab.errors import StudyError
from lab.summaries import Row, Summary, position, summarise

if TYPE_CHECKING:
    from lab.studies import Study

__all__ = ["Cell", "Samples", "read"]


class Cell(NamedTuple):
    """What one line of a figure stands for. family is None for a baseline."""

    probe: str
    family: int | None
    link: str


@dataclass(frozen=True)
class Samples:
    """A study's received probes, ready to draw.

    rounds: delays in µs, shape (n,), by cell and then by round. pooled: the same, all rounds together. summary: the
    table, its times in ns; it also has the rows of which nothing came back.
    """

    study: Study
    summary: Summary
    rounds: dict[Cell, dict[int, np.ndarray[Any, Any]]]
    pooled: dict[Cell, np.ndarray[Any, Any]]

    @functools.cached_property
    def stages(self) -> dict[Cell, dict[str, tuple[float, float, float]]]:
        """p10, p50 and p90 in µs of each stage, medians over rounds; of the cells that have stages."""
        found: dict[Cell, dict[str, list[np.ndarray[Any, Any]]]] = {}
        stages = self.study.stages()
        for run in self.study.runs:
            by_name = found.setdefault(Cell(run["probe"], run["family"], run["link"]), {})
            for name, delays in stages.get(run["run"], {}).items():
                if len(delays):
                    quantiles = np.quantile(delays, (0.1, 0.5, 0.9), method="inverted_cdf")
                    by_name.setdefault(name, []).append(quantiles / 1000)
        return {
            cell: {name: tuple(np.median(rounds, axis=0)) for name, rounds in by_name.items()}
            for cell, by_name in found.items()
            if by_name
        }

    def links(self) -> list[str]:
        """The links of which anything came back, in the order of tables, without the baselines."""
        return sorted({cell.link for cell in self.pooled if cell.link not in BASELINES}, key=position)

    def sorted_ways(self) -> tuple[list[str], list[str], str]:
        """All links, then all baselines, each sorted by p50; and what the links are sorted by, for a caption.

        A link's place comes from its first row in the table that has a p50: the first probe kind, over IPv4 where
        there is IPv4. Those of which nothing came back are last.
        """
        first: dict[str, Row] = {}
        for row in self.summary.rows:
            if row["link"] not in first or first[row["link"]]["p50_ns"] is None:
                first[row["link"]] = row
        ways = sorted(first, key=lambda way: (first[way]["p50_ns"] is None, first[way]["p50_ns"] or 0, position(way)))
        links = [way for way in ways if way not in BASELINES]
        by = f"{first[links[0]]['probe']}, IPv{first[links[0]]['family']}" if links else ""
        return links, [way for way in ways if way in BASELINES], by


def read(study: Study) -> Samples:
    """Reads the study's probes. Raises StudyError if nothing was received, or the study is damaged."""
    rtts = study.rtts()
    rounds: dict[Cell, dict[int, np.ndarray[Any, Any]]] = {}
    for run in study.runs:
        delays = rtts[run["run"]]
        if len(delays):
            rounds.setdefault(Cell(run["probe"], run["family"], run["link"]), {})[run["round"]] = delays / 1000
    if not rounds:
        raise StudyError(f"{study.path} has nothing to draw: no probe came back")
    pooled = {cell: np.concatenate(list(by_round.values())) for cell, by_round in rounds.items()}
    return Samples(study, summarise(study, rtts), rounds, pooled)
