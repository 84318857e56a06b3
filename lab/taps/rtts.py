"""Round trips that a capture saw in passing: from when the tap saw a request to when it saw the first answer.

On lo with both copies, only what came in counts (``lab.taps.conversations``): a round trip is then from the request's
delivery to the answer's. Its kinds:

echo        an ICMP echo request, and the first reply with its id and number
syn         a SYN, and what acknowledges it: a SYN-ACK or, refused, a reset
syn-ack     a SYN-ACK, and what acknowledges it
data, fin   a TCP segment with data, or with a FIN only, and the first acknowledgement of all of it, which the receiver
            may delay on purpose (RFC 9293, 3.8.6.3)
timestamp   a TCP segment that takes sequence numbers and is the first of its side to show a timestamp, and the first
            one that echoes it (RFC 7323, 4)

Whoever acknowledges what was sent twice doesn't say which of the two it was (Karn's algorithm; RFC 6298, 3): such a
segment has no round trip, nor has any other that the same acknowledgement covers, as it waited for the repetition. An
echoed timestamp does tell them apart.

The columns, a row a request (times int64 ns of CLOCK_REALTIME):

==============  ======================================================================================
flow            its number in the table of flows (``lab.taps.flows``)
kind            as above
to_server       whether the client of the flow sent the request
seq             of echo, its number; of TCP, the sequence number; of timestamp, that timestamp
request_ns      when the tap saw the request
rtt_ns          from there to when it saw the answer; null: none was seen, or none that tells
retransmitted   the request was sent again, or was sent before
==============  ======================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab import stats
from lab.taps import conversations, segments
from lab.taps.conversations import ACK, ECHO_REQUESTS, SYN, Conversations, find_conversations
from lab.taps.findings import DOUBTED, Columns, Findings, Frames, aligned, doubts, nullable
from lab.taps.frames import HAS
from lab.taps.segments import Segments, find_segments, highest, in_streams
from lab.units import micros

if TYPE_CHECKING:
    import polars as pl

__all__ = ["COLUMNS", "KINDS", "Rtts", "find_rtts", "rtt_table"]

#: What ``rtt_table`` reads.
COLUMNS = (*conversations.COLUMNS, *segments.COLUMNS, "icmp_seq", "tcp_ts_value", "tcp_ts_echo")

KINDS = ("echo", "syn", "syn-ack", "data", "fin", "timestamp")

Array = npt.NDArray[Any]


@dataclass(frozen=True, repr=False)
class Rtts(Findings):
    """The requests of a capture, a row each; the columns are described at the top of ``lab.taps.rtts``."""

    def summaries(self) -> dict[str, dict[str, Any]]:
        """For each kind that was seen: requests, those answered, and min, p50, … of their round trips in ns."""
        import polars as pl

        found = {}
        for kind in KINDS:
            rtt_ns = self.table.filter(pl.col("kind") == kind)["rtt_ns"]
            answered = rtt_ns.drop_nulls().to_numpy()
            if len(rtt_ns):
                found[kind] = {"requests": len(rtt_ns), "answered": len(answered), **stats.summary(answered)}
        return found

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab read --rtts --json``, format 1."""
        return {
            "format": 1,
            "rtt_ns": self.summaries(),
            "samples": self.table.to_dicts(),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """A line a kind, in µs."""
        names = ("min", "p50", "p90", "p99", "max")
        rows: list[tuple[str, ...]] = [("kind", "requests", "answered", *names)]
        for kind, told in self.summaries().items():
            rows.append(
                (kind, f"{told['requests']:,}", f"{told['answered']:,}", *(micros(told[name]) for name in names))
            )
        heading, *lines = aligned(rows)
        return [f"{heading}  µs", *lines]


def find_rtts(frames: Frames) -> Rtts:
    """The round trips of a capture file."""
    columns = frames.columns(*{*COLUMNS, *DOUBTED})
    return Rtts(rtt_table(columns, find_conversations(columns)), tuple(doubts(frames, columns)))


def rtt_table(columns: Columns, found: Conversations) -> pl.DataFrame:
    """A row a request, in the order of the capture. columns: with ``COLUMNS``."""
    import polars as pl

    sent = find_segments(columns, found)
    parts = [_echoes(columns, found), _acknowledged(columns, found, sent), _echoed(columns, found, sent)]
    return pl.concat(parts).sort("row", maintain_order=True).drop("row")


def _table(
    columns: Columns, found: Conversations, at: Array, kind: Array, seq: Array, answer: Array, repeated: Array
) -> pl.DataFrame:
    """Requests at these places of ``Conversations``. kind: indices of ``KINDS``. answer: its place; −1: none."""
    import polars as pl

    rows, time_ns = found.rows[at], columns["time_ns"]
    return pl.DataFrame(
        {
            "flow": found.flow[at],
            "kind": pl.Series(KINDS, dtype=pl.Enum(KINDS)).gather(kind),
            "to_server": found.from_client[at],
            "seq": seq.astype(np.int64),
            "request_ns": time_ns[rows],
            "rtt_ns": nullable(time_ns[found.rows[answer]] - time_ns[rows], answer >= 0),
            "retransmitted": repeated,
            "row": rows,
        }
    )


def _echoes(columns: Columns, found: Conversations) -> pl.DataFrame:
    """Echo requests: a reply answers the last request with its number from the other side, and only the first does."""
    at = np.flatnonzero(columns["has"][found.rows] & HAS["echo"])
    kind, seq = (columns[name][found.rows[at]] for name in ("icmp_type", "icmp_seq"))
    request = np.isin(kind, ECHO_REQUESTS)
    by_client = found.from_client[at] == request  # who asked
    order = np.lexsort((at, seq, by_client, found.flow[at]))
    at, seq, request, by_client = at[order], seq[order], request[order], by_client[order]
    alike = (found.flow[at[1:]] == found.flow[at[:-1]]) & (by_client[1:] == by_client[:-1]) & (seq[1:] == seq[:-1])
    answered = np.append(request[:-1] & ~request[1:] & alike, np.zeros(min(len(at), 1), bool))
    answer = np.where(answered, np.roll(at, -1), -1)
    asked = np.flatnonzero(request)
    none = np.zeros(len(asked), np.uint8)
    return _table(columns, found, at[asked], none + KINDS.index("echo"), seq[asked], answer[asked], none.astype(bool))


def _acknowledged(columns: Columns, found: Conversations, sent: Segments) -> pl.DataFrame:
    """Segments that take sequence numbers, each with the first acknowledgement of all of it."""
    acks = np.flatnonzero(sent.acked >= 0)
    acks = acks[np.argsort(sent.stream[acks] ^ 1, kind="stable")]
    of = sent.stream[acks] ^ 1
    reached = in_streams(of, highest(of, sent.acked[acks]))

    asked = np.flatnonzero(sent.length)
    stream, begin = sent.stream[asked], sent.position[asked]
    end = begin + sent.length[asked]
    first = np.searchsorted(reached, in_streams(stream, end))
    there = np.append(of, -1)[first] == stream

    again = sent.repeated[asked]
    touching = np.searchsorted(reached, in_streams(stream, begin + 1))  # the first that acknowledges any of it
    doubtful = _spanned(touching[again], (first + there)[again], len(acks) + 1)
    repeated = again | _overlapped(stream, begin, end, again)

    ack = np.append(sent.at[acks], -1)[first]
    tells = there & ~repeated & ~doubtful[first] & (ack > sent.at[asked])
    rows = found.rows[sent.at[asked]]
    flags = columns["tcp_flags"][rows]
    syn, accepts, data = flags & SYN != 0, flags & ACK != 0, columns["payload_length"][rows] > 0
    names = ("syn-ack", "syn", "data", "fin")
    kind = np.select([syn & accepts, syn, data], [KINDS.index(name) for name in names[:3]], KINDS.index(names[3]))
    return _table(columns, found, sent.at[asked], kind, columns["tcp_seq"][rows], np.where(tells, ack, -1), repeated)


def _spanned(begin: Array, end: Array, size: int) -> Array:
    """Which of `size` places lie within any of the spans."""
    depth = np.zeros(size + 1, np.int64)
    np.add.at(depth, begin, 1)
    np.add.at(depth, end, -1)
    return np.cumsum(depth)[:-1] > 0


def _overlapped(stream: Array, begin: Array, end: Array, again: Array) -> Array:
    """Which of the segments were sent again later, in part or whole."""
    fresh = np.flatnonzero(~again)
    fresh = fresh[np.argsort(in_streams(stream[fresh], begin[fresh]), kind="stable")]
    begins, ends = in_streams(stream[fresh], begin[fresh]), in_streams(stream[fresh], end[fresh])
    low = np.searchsorted(np.maximum.accumulate(ends), in_streams(stream[again], begin[again]), side="right")
    high = np.searchsorted(begins, in_streams(stream[again], end[again]))
    found = np.zeros(len(stream), bool)
    found[fresh] = _spanned(low, np.maximum(low, high), len(fresh))
    return found


def _echoed(columns: Columns, found: Conversations, sent: Segments) -> pl.DataFrame:
    """Segments that take sequence numbers and show a new timestamp, each with the first that echoes it.

    What only acknowledges is no request: its timestamp is echoed when the peer next has something to say.
    """
    rows = found.rows[sent.at]
    stamped = np.flatnonzero(columns["has"][rows] & HAS["timestamps"])
    rows, stream, at = rows[stamped], sent.stream[stamped], sent.at[stamped]
    shown = stream << 32 | columns["tcp_ts_value"][rows]
    shown, first, which = np.unique(shown, return_index=True, return_inverse=True)
    acks = np.flatnonzero(columns["tcp_flags"][rows] & ACK)
    echoes, place = np.unique((stream[acks] ^ 1) << 32 | columns["tcp_ts_echo"][rows[acks]], return_index=True)

    takes = sent.length[stamped] > 0
    again = sent.repeated[stamped]
    repeated = np.zeros(len(shown), bool)  # also within one tick of the sender's clock, which then tells nothing
    later = again.copy()
    later[first] = False
    repeated[which[later]] = True
    asked = takes[first]
    nearest = np.minimum(np.searchsorted(echoes, shown), max(len(echoes) - 1, 0))
    answer = np.full(len(shown), -1)
    if len(echoes):
        there = echoes[nearest] == shown
        answer = np.where(there & ~repeated, at[acks[place[nearest]]], -1)
        answer[answer < at[first]] = -1
    repeated |= again[first]
    kind = np.full(len(shown), KINDS.index("timestamp"))
    table = (at[first], kind, columns["tcp_ts_value"][rows[first]], answer, repeated)
    return _table(columns, found, *(each[asked] for each in table))
