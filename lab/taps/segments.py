"""TCP segments stream by stream: where their bytes lie, what was sent again, what came out of order. Pure functions.

A *stream* is what one side of a flow sends. Positions count its bytes from the first sequence number that was seen, in
64 bits, as sequence numbers begin again after 4 GiB (RFC 9293, 3.4). SYN and FIN take a byte each.

A segment that begins below what was sent already was *sent again*, unless

- it fills a gap sooner than a round trip after the gap showed: then it is *out of order*, as nobody can have asked for
  it yet. The round trip is that of the handshake, or 3 ms if that was not seen.
- it is a keep-alive: one byte, the last of what the peer has acknowledged already (RFC 9293, 3.8.4).

A byte that is sent into a window of zero is a probe of that window (RFC 9293, 3.8.6.1): it counts as not sent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.taps.conversations import ACK, FIN, RST, SYN, Conversations
from lab.taps.findings import Columns
from lab.taps.frames import HAS

__all__ = ["COLUMNS", "Segments", "find_segments", "highest", "in_streams"]

#: What ``find_segments`` reads, beside what ``find_conversations`` does.
COLUMNS = ("time_ns", "payload_length", "tcp_ack", "tcp_window")

_ROUND_TRIP_NS = 3_000_000
#: The position up to which a stream has nothing yet.
_NOTHING = np.iinfo(np.int64).min
#: Gaps of a stream that are remembered, the youngest.
_MAX_GAPS = 64

Array = npt.NDArray[Any]


class Segments(NamedTuple):
    """TCP segments, stream by stream and in the file's order within each; all of shape (n,).

    at: places in the arrays of ``Conversations``. stream: twice the number of the flow, and one more if the server sent
    it. position, length: of its bytes in the stream, SYN and FIN included; length is 0 for what only acknowledges,
    resets or probes. acked: the position in the other stream up to which it acknowledges; −1: it does not, or nothing
    is known of that stream. repeated: it was sent again. late: it is out of order.
    """

    at: Array
    stream: Array
    position: Array
    length: Array
    acked: Array
    repeated: Array
    late: Array


def find_segments(columns: Columns, conversations: Conversations) -> Segments:
    """The TCP segments of all flows. columns: with the ``COLUMNS`` of this module and of ``conversations``."""
    at = np.flatnonzero(columns["has"][conversations.rows] & HAS["tcp"])
    stream = 2 * conversations.flow[at] + ~conversations.from_client[at]
    order = np.argsort(stream, kind="stable")
    at, stream = at[order], stream[order]
    rows = conversations.rows[at]
    time_ns, flags, seq, ack, window, payload = (
        columns[name][rows] for name in ("time_ns", "tcp_flags", "tcp_seq", "tcp_ack", "tcp_window", "payload_length")
    )
    reset = flags & RST != 0
    begins = np.ones(len(at), bool)
    begins[1:] = stream[1:] != stream[:-1]
    seq = seq[np.maximum.accumulate(np.where(~reset | begins, np.arange(len(at)), 0))]  # a reset's may be anything
    position = _unwrapped(seq, begins)
    length = np.where(reset, 0, payload.astype(np.int64) + (flags & SYN != 0) + (flags & FIN != 0))
    streams = 2 * (len(conversations.first) - 1)
    acked = _acked(stream, begins, seq, ack, flags & ACK != 0, streams)

    key = stream * len(conversations.rows) + at

    def last_of_peer(of: Array, usable: Array) -> tuple[Array, Array]:
        """For the segments `of`: the last usable one of the other stream before each, and whether there is one."""
        where = np.flatnonzero(usable)
        wanted = (stream[of] ^ 1) * len(conversations.rows) + at[of]
        found = np.searchsorted(key[where], wanted) - 1
        last = where[np.maximum(found, 0)] if len(where) else np.zeros(len(of), np.int64)
        return last, (found >= 0) & (stream[last] == stream[of] ^ 1)

    single = np.flatnonzero((length == 1) & (payload == 1))
    last, there = last_of_peer(single, ~reset)
    probe = np.zeros(len(at), bool)
    probe[single] = there & (window[last] == 0)
    end = np.where(probe, position, position + length)
    sent = highest(stream, np.where(length > 0, end, _NOTHING))
    before = np.append(sent[:1], sent[:-1])  # of the stream's segments so far
    known = ~begins & (before != _NOTHING) & (length > 0) & ~probe
    again = known & (position < before)

    alive = np.flatnonzero(again & (length == 1) & (payload == 1) & (position == before - 1))
    last, there = last_of_peer(alive, acked >= 0)
    alive = alive[there & (highest(stream, acked)[last] >= before[alive])]
    again[alive] = False
    length[alive] = length[probe] = 0
    gap = known & (position > before)
    late = _late(again, gap, stream, before, position, position + length, time_ns, _round_trips(columns, conversations))
    return Segments(at, stream, position, length, acked, again & ~late, late)


def _unwrapped(values: Array, begins: Array) -> Array:
    """uint32 that may wrap, as int64 from 0 on in each stream, each nearest to the one before."""
    steps = np.diff(values, prepend=values[:1]).view(np.int32).copy()
    steps[begins] = 0
    total = np.cumsum(steps, dtype=np.int64)
    unwrapped: Array = total - total[begins][np.cumsum(begins) - 1]
    return unwrapped


def _acked(stream: Array, begins: Array, seq: Array, ack: Array, valid: Array, streams: int) -> Array:
    """Positions in the other stream that each segment acknowledges, −1 where it can't be told."""
    base, there = np.zeros(streams, np.uint32), np.zeros(streams, bool)
    base[stream[begins]], there[stream[begins]] = seq[begins], True
    where = np.flatnonzero(valid & there[stream ^ 1])
    of = stream[where]
    first = np.ones(len(where), bool)
    first[1:] = of[1:] != of[:-1]
    offset = (ack[where[first]] - base[of[first] ^ 1]).view(np.int32)
    acked = np.full(len(stream), -1, np.int64)
    acked[where] = np.maximum(_unwrapped(ack[where], first) + offset[np.cumsum(first) - 1], -1)
    return acked


def in_streams(stream: Array, position: Array) -> Array:
    """Positions of several streams as complex numbers, which NumPy orders by their real parts first: by stream.

    Exact for streams of up to 2^53 bytes.
    """
    places: Array = stream + 1j * position
    return places


def highest(stream: Array, position: Array) -> Array:
    """The greatest position of each stream so far. stream: ascending."""
    return np.maximum.accumulate(in_streams(stream, position)).imag.astype(np.int64)


def _round_trips(columns: Columns, conversations: Conversations) -> Array:
    """For each flow, the time of its handshake in ns as the tap saw it, SYN to ACK."""
    begin, end = conversations.first[:-1], conversations.first[1:]
    found = np.full(len(begin), _ROUND_TRIP_NS)
    long = np.flatnonzero(end - begin >= 3)
    syn, answer, ack = (conversations.rows[begin[long] + number] for number in range(3))
    flags = columns["tcp_flags"] & (SYN | ACK | FIN | RST)
    whole = (flags[syn] == SYN) & (flags[answer] == SYN | ACK) & (flags[ack] == ACK)
    found[long[whole]] = (columns["time_ns"][ack] - columns["time_ns"][syn])[whole]
    return found


def _late(
    again: Array,
    gap: Array,
    stream: Array,
    before: Array,
    position: Array,
    end: Array,
    time_ns: Array,
    round_trip: Array,
) -> Array:
    """Which of the segments that begin below what was sent fill a gap, and sooner than a round trip after it showed.

    Only streams with gaps are gone through, and of them only the segments that open or may fill one.
    """
    late = np.zeros(len(again), bool)
    holed = np.unique(stream[gap])
    gaps: list[tuple[int, int, int]] = []  # begin, end, and when it showed
    current = -1
    for i in np.flatnonzero((again | gap) & np.isin(stream, holed)).tolist():
        if stream[i] != current:
            current, gaps = stream[i], []
        low, high, now = int(position[i]), int(end[i]), int(time_ns[i])
        if gap[i]:
            gaps = [*gaps[1 - _MAX_GAPS :], (int(before[i]), low, now)]
            continue
        filled = [each for each in gaps if each[0] < high and low < each[1]]
        late[i] = bool(filled) and now - filled[0][2] < round_trip[stream[i] // 2]
        for each in filled:
            gaps.remove(each)
            rest = ((each[0], low, each[2]), (high, each[1], each[2]))
            gaps += [(begin, stop, since) for begin, stop, since in rest if begin < stop]
    return late
