"""Records as tables, as a study keeps them: a row a probe.

The columns of a probe (all times int64 ns of CLOCK_MONOTONIC; null: there is none):

===========  =======================================================================================
run          number of the run within the study
link … arrivals   the condition, a column each: link, family, probe, size, wait, placement, arrivals
seq          number of the probe within the run, from 0
due_ns       when it should have been sent; equal to tx_ns in a closed loop without think time
tx_ns        read right before send()
tx_done_ns   read right after send() returned
rx_ns        read right after the call that returned the reply
rtt_ns       rx_ns − tx_ns (RFC 2681); null if the probe was lost, also when a reply came late
far_rx_ns    the reflector's, right after its receive; null where the kernel replies
far_tx_ns    the reflector's, right before its send
user_rx_ns   tcp-syn, whose rx_ns is the kernel's stamp: read right after the call that returned the reply; else null
reply_ttl    TTL or hop limit of the reply, where it is shown with every one: icmp over IPv4 on a raw socket, tcp-syn.
             Elsewhere null: it would cost a call of its own, so only the first reply's is read (study.json)
status       received, duplicate and reordered (received too), lost, late (lost too), unsent
flags        bits: 1 inline, 2 duplicate, 4 reordered, 8 from another source, 16 of another size
…_real_ns    with stages: the kernel's stamps, CLOCK_REALTIME, null if there is none. Add the run's clock_offset_ns
             (study.json) to another time to compare them. near_sched, near_soft: the request enters the queueing
             discipline, is handed to the device; far_rx: it enters the far end's stack; far_sched, far_soft,
             near_rx: so does the reply; ack: TCP's acknowledgement of the request
===========  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.conditions import Condition
from lab.records import LATE, RECEIVED, STAMPS, STATUSES, UNSENT, Records, status_codes

if TYPE_CHECKING:
    import polars as pl

__all__ = ["batches", "counts", "plain_columns", "schema"]

#: Columns of the kernel's stamps; studies made before there were any lack them.
_STAMPS = tuple(name for name in STAMPS.names or () if name.endswith("_real_ns"))
#: Rows that are converted at a time, so that a long run needs little memory beyond its records.
BATCH_ROWS = 1 << 17


def schema() -> dict[str, Any]:
    """The columns of a probe, in order, and their polars types."""
    import polars as pl

    text, stamp = pl.Categorical(), pl.Int64()
    return {
        "run": pl.Int32(),
        "link": text,
        "family": pl.Int8(),
        "probe": text,
        "size": pl.Int32(),
        "wait": text,
        "placement": text,
        "arrivals": text,
        "seq": pl.Int64(),
        "due_ns": stamp,
        "tx_ns": stamp,
        "tx_done_ns": stamp,
        "rx_ns": stamp,
        "rtt_ns": stamp,
        "far_rx_ns": stamp,
        "far_tx_ns": stamp,
        "user_rx_ns": stamp,
        "reply_ttl": pl.UInt8(),
        "status": pl.Enum(STATUSES),
        "flags": pl.UInt16(),
        **dict.fromkeys(_STAMPS, stamp),
    }


def _table(run: int, condition: Condition, records: Records, stamps: Records | None, first: int) -> pl.DataFrame:
    """Rows of `records` and their stamps, the first of which has sequence number `first`."""
    import polars as pl

    types = schema()
    n = len(records)
    columns: dict[str, pl.Series] = {"run": pl.Series([run], dtype=types["run"]).new_from_index(0, n)}
    for name in Condition.factors():
        columns[name] = pl.Series([getattr(condition, name)], dtype=types[name]).new_from_index(0, n)
    columns["seq"] = pl.Series(np.arange(first, first + n))
    for name in ("due_ns", "tx_ns", "tx_done_ns", "rx_ns", "far_rx_ns", "far_tx_ns", "user_rx_ns", "reply_ttl"):
        columns[name] = _nullable(records[name])
    lost = pl.Series(records["status"] != RECEIVED)
    columns["rtt_ns"] = pl.Series(records["rx_ns"] - records["tx_ns"]).set(lost, None)
    columns["status"] = pl.Series(status_codes(records)).cat.to(types["status"])
    columns["flags"] = pl.Series(np.ascontiguousarray(records["flags"]))
    for name in _STAMPS:
        none = pl.Series([None], dtype=types[name]).new_from_index(0, n)
        columns[name] = none if stamps is None else _nullable(stamps[name])
    return pl.DataFrame({name: columns[name] for name in types}, schema=types)


def _nullable(values: np.ndarray[Any, Any]) -> pl.Series:
    """A field of records as a column: 0 becomes null."""
    import polars as pl

    values = np.ascontiguousarray(values)
    return pl.Series(values).set(pl.Series(values == 0), None)


def batches(
    run: int, condition: Condition, records: Records, stamps: Records | None = None, *, rows: int = BATCH_ROWS
) -> Iterator[pl.DataFrame]:
    """The records of one run as tables of at most `rows` rows, with the columns of a study.

    stamps: the kernel's, a row a record; None: those columns are null.
    """
    for first in range(0, max(len(records), 1), rows):
        part = slice(first, first + rows)
        yield _table(run, condition, records[part], None if stamps is None else stamps[part], first)


def plain_columns(table: pl.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    """A polars table as NumPy arrays; categories become text, null times NaN."""
    import polars as pl

    text = pl.selectors.by_dtype(pl.Categorical, pl.Enum)
    return {series.name: series.to_numpy() for series in table.with_columns(text.cast(pl.String))}


def counts(records: Records) -> dict[str, int]:
    """sent, received, lost, late and unsent of a run's records. Lost counts the late."""
    status = records["status"]
    sent, received = int(np.count_nonzero(status != UNSENT)), int(np.count_nonzero(status == RECEIVED))
    return {
        "unsent": len(records) - sent,
        "sent": sent,
        "received": received,
        "lost": sent - received,
        "late": int(np.count_nonzero(status == LATE)),
    }
