"""A study: an experiment's runs on disk, with all that is needed to read them again. Format 1.

::

    STUDY/study.json             what was asked, where it was measured, the runs, what was skipped; replaced atomically
    STUDY/probes/NNNNN.parquet   one file a run, renamed into place; a row a probe, its columns as in ``lab.tables``
    STUDY/figures/*.png

A study is written as it goes: killed at any moment it keeps its finished runs, and says ``"complete": false``.
This module knows no sockets, so that a study opens on any machine.
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.conditions import Condition
from lab.delays import stages_ns
from lab.errors import StudyError, UsageError
from lab.records import Records
from lab.tables import batches, plain_columns, schema

if TYPE_CHECKING:
    import pandas
    import polars as pl
    from matplotlib.figure import Figure

    from lab.summaries import Summary

__all__ = ["FORMAT", "Study"]

#: 1: the first (0.1.0).
FORMAT = 1
#: Where studies go unless told otherwise, below the current folder.
HOME = Path("studies")
#: What every study.json has, beside its format.
_REQUIRED = ("experiment", "seed", "runs", "skipped", "warnings", "complete")
#: Links that an ECDF can tell apart by colour.
_LINES = 3
_DISK_FULL_BYTES = 1 << 16


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _write_parquet(path: Path, tables: Iterable[pl.DataFrame]) -> None:
    """Streams the tables into one file, and renames it into place."""
    from polars.exceptions import PolarsError
    from polars.io.plugins import register_io_source

    def source(
        _columns: list[str] | None, _predicate: pl.Expr | None, _rows: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        yield from tables

    part = path.with_suffix(".part")
    try:
        register_io_source(source, schema=schema()).sink_parquet(part, compression="zstd")
        part.replace(path)
    except PolarsError as error:
        if shutil.disk_usage(part.parent).free < _DISK_FULL_BYTES:  # polars may call it something else
            raise OSError(os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


class Study:
    """An experiment's runs, on disk. Make one with ``lab.compare``, open one with ``Study.load``.

    ``path`` is its folder, ``document`` the contents of its study.json.
    """

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document
        self._saved_s = self._save_took_s = 0.0

    # ---- making and opening ----

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, document: dict[str, Any]) -> Study:
        """Makes the folder (None: ``studies/<UTC time>``). Raises UsageError if it exists, StudyError."""
        try:
            home = cls._new_folder() if path is None else Path(path)
            if path is not None:
                home.mkdir(parents=True)
            (home / "probes").mkdir()
        except FileExistsError:
            raise UsageError(f"{path} exists: name another folder with -o, or remove it") from None
        except OSError as error:
            raise StudyError(f"cannot write {path or HOME}: {error.strerror}; name another folder with -o") from None
        study = cls(home, {"format": FORMAT, **document, "runs": [], "complete": False})
        study.save()
        return study

    @staticmethod
    def _new_folder() -> Path:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            folder = HOME / f"{now}{suffix}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not folder.is_dir():
                    raise
                continue
            return folder
        raise StudyError(f"{HOME}/{now} exists a hundred times: wait a second")

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Study:
        """Opens a study's folder (None: the newest in ``studies/``). Raises UsageError if it is none, StudyError."""
        home = cls._newest() if path is None else Path(path)
        file = home / "study.json"
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            number = document["format"]
        except FileNotFoundError:
            raise UsageError(f"{home} is no study (it has no study.json): lab compare -o {home} makes one") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{file} cannot be read: {type(error).__name__}: {error}; it may be damaged") from None
        if number != FORMAT:
            raise StudyError(
                f"{home} has format {number}, and this version reads format {FORMAT}: pip install -U loopback-lab"
            )
        missing = [name for name in _REQUIRED if name not in document]
        if missing:
            raise StudyError(f"{file} cannot be read: it has no {', '.join(missing)}; it may be damaged")
        return cls(home, document)

    @staticmethod
    def _newest() -> Path:
        found = sorted(HOME.glob("*/study.json"), key=lambda file: (file.parent.stat().st_mtime_ns, file))
        if not found:
            raise StudyError(f"there is no study in {HOME.resolve()}: name one, or make one with lab compare")
        return found[-1].parent

    # ---- writing ----

    def save(self) -> None:
        """Writes study.json anew. Raises StudyError."""
        begun_s = time.monotonic()
        try:
            _write_atomically(self.path / "study.json", json.dumps(self.document, indent=1, ensure_ascii=False))
        except OSError as error:
            raise StudyError(f"cannot write {self.path}: {error.strerror}; finished runs are kept") from None
        self._saved_s = time.monotonic()
        self._save_took_s = self._saved_s - begun_s

    def add_run(
        self, condition: Condition, records: Records, info: dict[str, Any], stamps: Records | None = None
    ) -> None:
        """Writes one finished run: its rows, then the line in study.json that makes them part of the study."""
        from polars.exceptions import PolarsError

        number = len(self.document["runs"])
        file = f"probes/{number:05d}.parquet"
        try:
            _write_parquet(self.path / file, batches(number, condition, records, stamps))
        except (OSError, PolarsError) as error:
            raise StudyError(f"cannot write {self.path / file}: {error}; finished runs are kept") from None
        factors = {name: getattr(condition, name) for name in Condition.factors()}
        self.document["runs"].append({"run": number, **factors, "target": condition.target, "file": file, **info})
        # Writing all runs again takes longer the more there are: it gets a tenth of the time.
        if time.monotonic() - self._saved_s >= 10 * self._save_took_s:
            self.save()

    def remove(self) -> None:
        """Removes a study that has no run."""
        (self.path / "study.json").unlink()
        (self.path / "probes").rmdir()
        self.path.rmdir()

    def finish(self, **more: Any) -> None:
        """Marks the study as complete, adding to its document."""
        self.document |= {**more, "complete": True}
        self.save()

    # ---- reading ----

    @property
    def complete(self) -> bool:
        """Whether every run that was asked for is there."""
        return bool(self.document["complete"])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """One entry a run: its number, round, condition, file and counts."""
        return list(self.document["runs"])

    @property
    def seed(self) -> int:
        """What the order of runs and every resampling come from."""
        return int(self.document["seed"])

    def scan(self) -> pl.LazyFrame:
        """All probes, lazily. Raises StudyError if there are none."""
        import polars as pl

        files = [self.path / run["file"] for run in self.document["runs"]]
        if not files:
            raise StudyError(f"{self.path} has no finished run: measure again")
        missing = next((file for file in files if not file.exists()), None)
        if missing is not None:
            raise StudyError(f"{self.path} is damaged: {missing.name} is gone")
        return pl.scan_parquet(files, schema=schema(), missing_columns="insert")  # of older studies

    def _collect(self, query: pl.LazyFrame) -> pl.DataFrame:
        from polars.exceptions import PolarsError

        try:
            return query.collect()
        except (OSError, PolarsError) as error:
            raise StudyError(f"{self.path} is damaged: {error}; measure again") from None

    def to_polars(self) -> pl.DataFrame:
        """All probes, a row each; the columns are described at the top of ``lab.tables``."""
        return self._collect(self.scan())

    def to_pandas(self) -> pandas.DataFrame:
        """All probes as a pandas frame, made without pyarrow. Times that are null become NaN (float64)."""
        import pandas

        return pandas.DataFrame(self.to_numpy())

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """All probes, an array a column.

        A column of times that has a null becomes float64 with NaN, exact up to 2**53 ns (104 days of uptime);
        ``to_polars`` keeps int64.
        """
        return plain_columns(self.to_polars())

    def rtts(self) -> dict[int, np.ndarray[Any, Any]]:
        """Round-trip delays in ns of the received probes, int64, by run."""
        import polars as pl

        return self._by_run(pl.col("rtt_ns"), self.document["runs"])

    def responses(self) -> dict[int, np.ndarray[Any, Any]]:
        """The same since they were due (rx − due), of the runs that had a schedule."""
        import polars as pl

        runs = [run for run in self.document["runs"] if run["arrivals"] != "closed"]
        return self._by_run(pl.col("rtt_ns") + pl.col("tx_ns") - pl.col("due_ns"), runs) if runs else {}

    def stages(self) -> dict[int, dict[str, np.ndarray[Any, Any]]]:
        """The stages of the received probes in ns, int64, by run and by name; of the runs whose probes were stamped."""
        import polars as pl

        offsets = {run["run"]: run["clock_offset_ns"] for run in self.document["runs"] if run.get("stages")}
        if not offsets:
            return {}
        stamped = self.scan().filter(pl.col("run").is_in(list(offsets)))
        times = pl.selectors.ends_with("_ns")
        frame = self._collect(stamped.select("run", times).drop_nulls("rtt_ns").fill_null(0))
        found = {}
        for (run,), group in frame.group_by("run", maintain_order=True):
            rows = plain_columns(group)
            found[run] = stages_ns(rows, rows, offsets[run])
        return found

    def _by_run(self, delay: pl.Expr, runs: list[dict[str, Any]]) -> dict[int, np.ndarray[Any, Any]]:
        """A delay of the probes of these runs, by run; where it is null they are left out."""
        frame = self._collect(self.scan().select("run", delay.alias("ns")).drop_nulls())
        found = {int(key[0]): group["ns"].to_numpy() for key, group in frame.group_by("run", maintain_order=True)}
        return {run["run"]: found.get(run["run"], np.empty(0, np.int64)) for run in runs}

    # ---- showing ----

    def summary(self) -> Summary:
        """The table: a row a condition, with intervals over rounds."""
        from lab.summaries import summarise

        return summarise(self)

    def plot(self, kind: str = "ecdf", *, highlight: str | None = None) -> Figure:
        """A matplotlib figure. Raises UsageError for an unknown kind or link, StudyError if there is nothing to draw.

        ``overview``: p50 and p99 of every link with their intervals, a row a link. ``ridge``: the distributions of all
        links under one another. ``ecdf``, ``ccdf``: what fraction took no longer, or longer, than x; with more than
        three links, lo and ``highlight`` (default: veth, or else the slowest) are in colour and the rest is grey.
        ``stages``: where the time goes, a bar a link, of a study measured with stages.
        """
        from lab.figures import draw

        return draw(self, kind, highlight)

    def save_figures(self) -> list[Path]:
        """Draws every figure that the study has the data for into its folder, as PNG. Returns their paths."""
        from lab.figures import draw_all, save

        (self.path / "figures").mkdir(exist_ok=True)
        return [save(figure, self.path / "figures" / f"{kind}.png") for kind, figure in draw_all(self).items()]

    def __repr__(self) -> str:
        state = "complete" if self.complete else "partial"
        return f"<Study {self.path}, {len(self.document['runs'])} runs, {state}>"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _ipython_display_(self) -> None:
        """In a notebook: the table, then a figure that suits the number of links."""
        from IPython.display import display

        display(self.summary())
        if self.document["runs"]:
            links = {run["link"] for run in self.document["runs"]}
            display(self.plot("overview" if len(links) > _LINES else "ecdf"))
