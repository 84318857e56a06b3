"""The flows of a capture: who spoke with whom, how much each way, and how it went. Pure functions on columns.

The columns of a flow (times int64 ns of CLOCK_REALTIME; null: there is none, or it can't be told):

=====================  =============================================================================================
flow                   its number, from 0, by first frames
interface              its name, or its number where it has none
vlan                   number of the outermost VLAN
family, protocol       4 or 6; "tcp", "udp", "icmp", or the number
client, client_port    who sent the SYN or the echo request, or else the first frame that was seen
server, server_port    the other
icmp_id                of echo
start_ns, duration_ns  of the first frame; from there to the last
frames_…, bytes_…      to_server and to_client; bytes as on the wire, headers included
payload_…              the same, of what TCP, UDP or ICMP carried; sent again, it counts again
state                  of TCP: "syn-sent", "syn-received", "refused", "established", "half-closed" (one side has ended),
                       "closed", "reset", "unknown" (it began before the capture, and neither ended nor was reset)
retransmissions_…      of TCP: segments that were sent again (``lab.taps.segments``), to_server and to_client
out_of_order           of TCP: segments that came after later ones, both ways
zero_windows, resets   of TCP: segments that said so, both ways
client_process         name of the process, "unknown" unless it is sure (``lab.taps.speakers``); with client_pid
server_process         likewise, with server_pid
=====================  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.taps import conversations, segments
from lab.taps.conversations import ACK, FIN, RST, SYN, VLAN_NUMBER, Conversations, find_conversations
from lab.taps.findings import (
    DOUBTED,
    Columns,
    Findings,
    Frames,
    aligned,
    doubts,
    interface_names,
    named,
    nullable,
    shown,
)
from lab.taps.frames import HAS
from lab.taps.segments import find_segments
from lab.taps.speakers import endpoint, parse_speakers, with_speakers
from lab.taps.tables import address_texts
from lab.texts import printable
from lab.units import format_ns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["COLUMNS", "PROTOCOLS", "Flows", "find_flows", "flow_table"]

#: What ``flow_table`` reads.
COLUMNS = (*conversations.COLUMNS, *segments.COLUMNS, "length")

#: What they are called, by number; others by it.
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
_ENDS = ("source", "destination")
_WAYS = ("to_server", "to_client")

Array = npt.NDArray[Any]


@dataclass(frozen=True, repr=False)
class Flows(Findings):
    """The flows of a capture, a row each; the columns are described at the top of ``lab.taps.flows``."""

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab read --flows --json``, format 1."""
        return {"format": 1, "flows": self.table.to_dicts(), "warnings": list(self.warnings)}

    def lines(self) -> list[str]:
        """The first flows, two lines each."""
        first, more = shown(self.table)
        rows = [("flow", "protocol", "frames →", "←", "payload →", "←", "took", "state")]
        for row in first.iter_rows(named=True):
            counts = (f"{row[f'{what}_{way}']:,}" for what in ("frames", "payload") for way in _WAYS)
            state = row["state"] or ""
            again = sum(row[f"retransmissions_{way}"] or 0 for way in _WAYS)
            state += f", {again:,} sent again" if again else ""
            rows.append((str(row["flow"]), row["protocol"], *counts, format_ns(row["duration_ns"]), state))
        heading, *told = aligned(rows, left=2)
        lines = [heading]
        for row, line in zip(first.iter_rows(named=True), told, strict=True):
            lines += [line, f"      {_end(row, 'client')} → {_end(row, 'server')}"]
        return [f"flows: {len(self.table):,}", *lines, *more]


def _end(row: dict[str, Any], side: str) -> str:
    """``127.0.0.1:43210 (curl 1234)``"""
    port, pid = row[f"{side}_port"], row[f"{side}_pid"]
    where = row[side] if port is None else endpoint(row[side], port)
    return where if pid is None else f"{where} ({printable(row[f'{side}_process'])} {pid})"


def find_flows(frames: Frames) -> Flows:
    """The flows of a capture file."""
    columns = frames.columns(*{*COLUMNS, *DOUBTED})
    table = flow_table(columns, find_conversations(columns), interface_names(frames))
    return Flows(with_speakers(table, parse_speakers(frames.comments)), tuple(doubts(frames, columns)))


def flow_table(columns: Columns, found: Conversations, interfaces: Sequence[str]) -> pl.DataFrame:
    """A row a flow, without who spoke. columns: with ``COLUMNS``. interfaces: the name of each."""
    import polars as pl

    begin = found.first[:-1]
    first = found.rows[begin]
    has = columns["has"][first]
    ports = has & HAS["ports"] != 0
    by_client = pl.Series(found.from_client[begin])
    source, destination = (address_texts(columns[name][first], columns["family"][first]) for name in _ENDS)
    source_port, destination_port = (nullable(columns[f"{name}_port"][first], ports) for name in _ENDS)
    time_ns = columns["time_ns"][found.rows]
    start_ns = np.minimum.reduceat(time_ns, begin)
    protocols = columns["protocol"][first].tolist()
    columns_of = {
        "flow": pl.Series(np.arange(len(first))),
        "interface": named(columns["interface"][first], interfaces),
        "vlan": nullable(columns["vlan"][first] & VLAN_NUMBER, has & HAS["vlan"] != 0),
        "family": pl.Series(columns["family"][first]),
        "protocol": pl.Series([PROTOCOLS.get(number, str(number)) for number in protocols], dtype=pl.String),
        "client": source.zip_with(by_client, destination),
        "client_port": source_port.zip_with(by_client, destination_port),
        "server": destination.zip_with(by_client, source),
        "server_port": destination_port.zip_with(by_client, source_port),
        "icmp_id": nullable(columns["icmp_id"][first], has & HAS["echo"] != 0),
        "start_ns": pl.Series(start_ns),
        "duration_ns": pl.Series(np.maximum.reduceat(time_ns, begin) - start_ns),
    }
    for what, values in (
        ("frames", np.ones(len(found.rows), np.int64)),
        ("bytes", columns["length"][found.rows]),
        ("payload", columns["payload_length"][found.rows]),
    ):
        columns_of |= {f"{what}_{way}": pl.Series(each) for way, each in _each_way(values, found).items()}
    return pl.DataFrame(columns_of | _of_tcp(columns, found))


def _total(values: Array, found: Conversations) -> Array:
    """Sums of what each frame has, a flow each."""
    return np.add.reduceat(values.astype(np.int64), found.first[:-1])


def _each_way(values: Array, found: Conversations) -> dict[str, Array]:
    sides = (found.from_client, ~found.from_client)
    return {way: _total(np.where(side, values, 0), found) for way, side in zip(_WAYS, sides, strict=True)}


def _of_tcp(columns: Columns, found: Conversations) -> dict[str, pl.Series]:
    """The columns that only TCP has."""
    tcp = columns["has"][found.rows] & HAS["tcp"] != 0
    flags = np.where(tcp, columns["tcp_flags"][found.rows], 0)
    reset = flags & RST != 0
    no_room = tcp & (columns["tcp_window"][found.rows] == 0) & (flags & (SYN | FIN | RST) == 0)
    sent = find_segments(columns, found)
    repeated, late = np.zeros((2, len(tcp)), bool)
    repeated[sent.at], late[sent.at] = sent.repeated, sent.late
    numbers = {f"retransmissions_{way}": each for way, each in _each_way(repeated, found).items()}
    numbers |= {
        name: _total(each, found)
        for name, each in zip(("out_of_order", "zero_windows", "resets"), (late, no_room, reset), strict=True)
    }
    is_tcp = tcp[found.first[:-1]]
    return {"state": _states(flags, is_tcp, found)} | {name: nullable(each, is_tcp) for name, each in numbers.items()}


def _states(flags: Array, is_tcp: Array, found: Conversations) -> pl.Series:
    """How far each flow got; null if it is not TCP."""
    client, server = (
        np.bitwise_or.reduceat(np.where(side, flags, 0), found.first[:-1])
        for side in (found.from_client, ~found.from_client)
    )
    syn, accepted = client & SYN != 0, server & SYN != 0
    ended = [side & FIN != 0 for side in (client, server)]
    states = {
        "closed": ended[0] & ended[1],
        "refused": syn & ~accepted & (server & RST != 0),
        "reset": (client | server) & RST != 0,
        "half-closed": ended[0] | ended[1],
        "established": accepted & (client & ACK != 0),
        "syn-received": accepted,
        "syn-sent": syn,
    }
    return nullable(np.select(list(states.values()), list(states), "unknown"), is_tcp)
