"""Frames as a table: a row a frame, null where a frame has no such layer.

===================  ==============================================================================================
number               of the frame, from 1, as Wireshark counts
time_ns              since 1970, int64
interface            its name
direction            in, out; null: the file does not say
packet_id            the same for the two copies of a packet on lo; null: none
length, captured     bytes on the wire, and of them in the file
vlan                 the outermost tag: priority and number
ethertype            behind the tags
family               4 or 6; null: not IP
source, destination  IP addresses, as text
protocol             behind the extension headers: 6 is TCP, 17 UDP, 1 ICMP, 58 ICMPv6
ttl                  or hop limit
fragment_…           of fragments only: id, offset in bytes; and more_fragments
icmp_…               type and code; id and seq of echo requests and replies only
tcp_…                flags (12 bits), seq, ack and window as they are in the header; options where they are given
tcp_sacks            lists of [left edge, right edge]
payload_…            offset in the frame behind the last header known, length on the wire
checksum             of ICMP, TCP or UDP: none (not there, or not all of it), good, bad, left (to the device, as is
                     usual on lo), valid (says the kernel), absent (UDP without)
dropped              frames that were lost before this one on its interface
comment              the first of the frame
===================  ==============================================================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.checks import pick
from lab.taps.frames import CHECKSUMS, HAS

if TYPE_CHECKING:
    import polars as pl

    from lab.taps.frames import FrameFile

__all__ = ["COLUMNS", "address_texts", "frame_table", "take"]

Columns = Mapping[str, npt.NDArray[Any]]

#: Columns of the table that are fields of a frame as they are, and what a frame must have for them (None: nothing).
_PLAIN: dict[str, str | None] = {
    "time_ns": None,
    "length": None,
    "captured": None,
    "vlan": "vlan",
    "ethertype": "ethertype",
    "family": "ip",
    "protocol": "ip",
    "source_port": "ports",
    "destination_port": "ports",
    "ttl": "ip",
    "fragment_id": "fragment",
    "fragment_offset": "fragment",
    "icmp_type": "icmp",
    "icmp_code": "icmp",
    "icmp_id": "echo",
    "icmp_seq": "echo",
    "tcp_flags": "tcp",
    "tcp_seq": "tcp",
    "tcp_ack": "tcp",
    "tcp_window": "tcp",
    "tcp_mss": "mss",
    "tcp_window_scale": "window_scale",
    "tcp_ts_value": "timestamps",
    "tcp_ts_echo": "timestamps",
    "payload_length": "payload",
    "payload_offset": "payload",
    "dropped": None,
}

COLUMNS = (
    "number", "time_ns", "interface", "direction", "packet_id", "length", "captured", "vlan", "ethertype", "family",
    "source", "destination", "protocol", "source_port", "destination_port", "ttl", "fragment_id", "fragment_offset",
    "more_fragments", "icmp_type", "icmp_code", "icmp_id", "icmp_seq", "tcp_flags", "tcp_seq", "tcp_ack", "tcp_window",
    "tcp_mss", "tcp_window_scale", "tcp_sack_permitted", "tcp_sacks", "tcp_ts_value", "tcp_ts_echo", "payload_length",
    "payload_offset", "checksum", "dropped", "comment",
)  # fmt: skip

#: Fields that the other columns are made of.
_MADE_OF: dict[str, tuple[str, ...]] = {
    "number": (),
    "packet_id": ("packet_id",),
    "interface": ("interface",),
    "direction": ("direction",),
    "source": ("source", "family"),
    "destination": ("destination", "family"),
    "more_fragments": ("has", "more_fragments"),
    "tcp_sack_permitted": ("has",),
    "tcp_sacks": ("has", "tcp_sacks", "tcp_sack"),
    "checksum": ("checksum",),
    "comment": ("comment_offset",),
}


def frame_table(frames: FrameFile, names: Sequence[str] = (), rows: range | None = None) -> pl.DataFrame:
    """The columns of these names, all if none is given, of all frames or of those in `rows`. Raises UsageError."""
    import polars as pl

    names = names or COLUMNS
    for name in names:
        pick("column", name, COLUMNS)
    rows = range(len(frames)) if rows is None else rows
    columns = take(frames, sorted({field for name in names for field in _fields(name)}), rows)
    made: dict[str, pl.Series] = {}
    for name in names:
        if name in _PLAIN:
            made[name] = _plain(columns, name)
        elif name in _FROM_FIELDS:
            made[name] = _FROM_FIELDS[name](columns)
        elif name == "number":
            made[name] = pl.Series(np.array(rows, np.int64) + 1)
        elif name == "interface":
            made[name] = _interfaces(columns["interface"], [source.name for source in frames.sources])
        elif name == "comment":
            commented = columns["comment_offset"] != 0
            texts = [frames.comment(row) if has_one else None for row, has_one in zip(rows, commented, strict=True)]
            made[name] = pl.Series(texts, dtype=pl.String)
    return pl.DataFrame({name: series.alias(name) for name, series in made.items()})


def take(frames: FrameFile, names: Sequence[str], rows: range) -> dict[str, npt.NDArray[Any]]:
    """Fields of the frames with these numbers, from 0, in that order."""
    if not rows:
        return frames.columns(*names, stop=0)
    first, last = sorted((rows[0], rows[-1]))
    columns = frames.columns(*names, start=first, stop=last + 1)
    return columns if rows.step == 1 else {name: values[:: rows.step] for name, values in columns.items()}


def _fields(name: str) -> tuple[str, ...]:
    """The fields of a frame that a column is made of."""
    if name not in _PLAIN:
        return _MADE_OF[name]
    return (name,) if _PLAIN[name] is None else (name, "has")


def _series(values: npt.NDArray[Any]) -> pl.Series:
    import polars as pl

    return pl.Series(np.ascontiguousarray(values))


def _where(series: pl.Series, there: npt.NDArray[np.bool_]) -> pl.Series:
    """The series, null where something is not there."""
    return series if there.all() else series.set(_series(~there), None)


def _has(columns: Columns, layer: str) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = columns["has"] & HAS[layer] != 0
    return there


def _plain(columns: Columns, name: str) -> pl.Series:
    layer = _PLAIN[name]
    series = _series(columns[name])
    return series if layer is None else _where(series, _has(columns, layer))


def _direction(columns: Columns) -> pl.Series:
    import polars as pl

    codes = columns["direction"]
    kind = pl.Enum(["in", "out"])
    return _where(_series(np.where(codes == 2, 1, 0).astype(np.uint8)).cat.to(kind), codes != 0)


def _checksum(columns: Columns) -> pl.Series:
    import polars as pl

    return _series(columns["checksum"]).cat.to(pl.Enum(CHECKSUMS))


def _more_fragments(columns: Columns) -> pl.Series:
    return _where(_series(columns["more_fragments"] != 0), _has(columns, "fragment"))


def _sack_permitted(columns: Columns) -> pl.Series:
    return _where(_series(_has(columns, "sack_permitted")), _has(columns, "tcp"))


def _sacks(columns: Columns) -> pl.Series:
    """Lists of pairs, as many as a frame has of its room for four."""
    import polars as pl

    count, edges = columns["tcp_sacks"], columns["tcp_sack"]
    pairs = _series(edges.reshape(len(edges), 4, 2)).arr.to_list()
    cut = pl.DataFrame({"pairs": pairs, "count": _series(count)}).select(pl.col("pairs").list.head("count"))
    return _where(cut["pairs"], _has(columns, "tcp"))


def _interfaces(indices: npt.NDArray[Any], names: Sequence[str]) -> pl.Series:
    import polars as pl

    if not len(indices):
        return pl.Series([], dtype=pl.Categorical)
    texts = pl.Series([name or None for name in names], dtype=pl.Categorical)
    return texts.gather(_series(indices))


def address_texts(addresses: npt.NDArray[np.uint8], families: npt.NDArray[np.uint8]) -> pl.Series:
    """IP addresses as text, null of other families than 4 and 6. addresses: shape (n, 16), network order.

    A capture has few different ones, so each of them is formatted once.
    """
    import polars as pl

    high, low = np.ascontiguousarray(addresses).view(np.uint64).T
    keys = pl.DataFrame({"high": _series(high), "low": _series(low), "family": _series(families)})
    unique = keys.unique()
    texts = [_text(*row) for row in unique.iter_rows()]
    known = unique.with_columns(pl.Series("text", texts, dtype=pl.String))
    return keys.join(known, on=keys.columns, how="left", maintain_order="left")["text"]


def _text(high: int, low: int, family: int) -> str | None:
    packed = np.array([high, low], np.uint64).tobytes()
    if family == 4:
        return str(ipaddress.IPv4Address(packed[:4]))
    return str(ipaddress.IPv6Address(packed)) if family == 6 else None


#: Columns that are made of fields of the frames and nothing else.
_FROM_FIELDS: dict[str, Callable[[Columns], pl.Series]] = {
    "direction": _direction,
    "packet_id": lambda columns: _where(_series(columns["packet_id"]), columns["packet_id"] != 0),
    "source": lambda columns: address_texts(columns["source"], columns["family"]),
    "destination": lambda columns: address_texts(columns["destination"], columns["family"]),
    "more_fragments": _more_fragments,
    "tcp_sack_permitted": _sack_permitted,
    "tcp_sacks": _sacks,
    "checksum": _checksum,
}
