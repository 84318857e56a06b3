"""What is told of TCP segments beside their headers: relative numbers, and what is out of the ordinary. Pure functions.

Relative numbers count from a stream's first sequence number: a SYN has 0, and where the capture lacks the SYN, the
first byte that was seen is 1, as in Wireshark.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.taps import conversations, segments
from lab.taps.conversations import ACK, FIN, RST, SYN, Conversations
from lab.taps.findings import Columns
from lab.taps.frames import HAS
from lab.taps.segments import find_segments, highest

__all__ = ["COLUMNS", "MARKS", "Tcp", "read_tcp"]

#: What ``read_tcp`` reads.
COLUMNS = (*conversations.COLUMNS, *segments.COLUMNS, "tcp_mss")

#: What a segment may be marked as, a bit each from the lowest.
MARKS = ("retransmission", "out of order", "reset", "zero window", "keep-alive", "window probe", "duplicate ACK")

Array = npt.NDArray[Any]

#: Bytes of a segment that carries TCP timestamps which are no data (RFC 7323, with two bytes of padding).
_TIMESTAMPS = 12


class Tcp(NamedTuple):
    """Of each frame of some conversations, shape (n,), as they lie there; of what is no TCP, nothing is meant.

    seq, ack: relative; ack only with the flag. end: the position in its stream up to which it has been sent, and
    acked: in the other one, that it acknowledges, −1 if nothing; both count from the first that was seen. marks:
    bits of ``MARKS``. segments: that fit into so many as the ends agreed on; 1 where that is not known.
    """

    seq: Array
    ack: Array
    end: Array
    acked: Array
    marks: Array
    segments: Array


def read_tcp(columns: Columns, found: Conversations) -> Tcp:
    """The TCP segments of all conversations. columns: with ``COLUMNS``."""
    sent = find_segments(columns, found)
    stream, rows = sent.stream, found.rows[sent.at]
    flags, payload, window = (columns[name][rows] for name in ("tcp_flags", "payload_length", "tcp_window"))
    payload = payload.astype(np.int64)
    begin, base, unseen = _bases(stream, columns["tcp_seq"][rows], flags, 2 * (len(found.first) - 1))
    has_ack = flags & ACK != 0

    seq = _signed(columns["tcp_seq"][rows] - base[stream]) + unseen[stream]
    kept = flags & RST == 0
    seq[kept] = (sent.position + unseen[stream])[kept]  # beyond 2 GiB, too
    peer = stream ^ 1
    ack_base = np.where(begin[peer] >= 0, base[peer], _first_acks(stream, columns["tcp_ack"][rows], has_ack)[stream])
    ack = _signed(columns["tcp_ack"][rows] - ack_base.astype(np.uint32)) + np.where(begin[peer] >= 0, unseen[peer], 1)
    ack = np.where(sent.acked >= 0, sent.acked + unseen[peer], ack)

    end = sent.position + sent.length
    marks = _marked(
        {
            "retransmission": sent.repeated,
            "out of order": sent.late,
            "reset": flags & RST != 0,
            "zero window": (window == 0) & (flags & (SYN | FIN | RST) == 0),
            **_idle(sent, flags, payload, window, end),
            "duplicate ACK": _duplicates(columns, sent, rows, end),
        }
    )
    fitting = _fitting(columns, rows, stream, flags, len(begin))
    pieces = np.where(fitting > 0, -(-payload // np.maximum(fitting, 1)), 1)

    def spread(values: Array, otherwise: int = 0) -> Array:
        whole = np.full(len(found.rows), otherwise, np.int64)
        whole[sent.at] = values
        return whole

    return Tcp(
        spread(seq),
        spread(ack),
        spread(end),
        spread(np.where(has_ack, sent.acked, -1), -1),
        spread(marks),
        spread(np.maximum(pieces, 1), 1),
    )


def _signed(difference: Array) -> Array:
    """uint32 that may have wrapped, as int64 nearest to zero."""
    return difference.astype(np.uint32).view(np.int32).astype(np.int64)


def _bases(stream: Array, seq: Array, flags: Array, streams: int) -> tuple[Array, Array, Array]:
    """For each stream: the place of its first segment (−1: it has none), its number, and 1 if that is no SYN."""
    begin = np.full(streams, -1)
    first = np.flatnonzero(np.diff(stream, prepend=-1))
    begin[stream[first]] = first
    base, unseen = np.zeros(streams, np.uint32), np.zeros(streams, np.int64)
    base[stream[first]] = seq[first]
    unseen[stream[first]] = flags[first] & SYN == 0
    return begin, base, unseen


def _first_acks(stream: Array, ack: Array, has_ack: Array) -> Array:
    """The first number that each stream acknowledges, 0 if none."""
    found = np.zeros(int(stream.max(initial=-1)) + 1, np.uint32)
    where = np.flatnonzero(has_ack)[::-1]
    found[stream[where]] = ack[where]
    return found


def _marked(marks: dict[str, Array]) -> Array:
    bits = np.zeros(len(next(iter(marks.values()))), np.int64)
    for name, there in marks.items():
        bits |= there.astype(np.int64) << MARKS.index(name)
    return bits


def _before(stream: Array, end: Array) -> Array:
    """The greatest end of the segments before each in its stream; its own of the first."""
    reached = highest(stream, end)
    before = np.roll(reached, 1)
    begins = np.diff(stream, prepend=-1) != 0
    before[begins] = end[begins]
    return before


def _idle(sent: segments.Segments, flags: Array, payload: Array, window: Array, end: Array) -> dict[str, Array]:
    """Segments that ask whether the other side is there still (RFC 9293, 3.8.4), or has room again (3.8.6.1).

    Both may begin with the last byte that was sent, as Linux's do: then the window that the other side told decides.
    """
    asks = (flags & (SYN | FIN | RST) == 0) & (payload <= 1) & (sent.length == 0)
    known = asks & (sent.position == _before(sent.stream, end) - 1)
    probes = asks & (payload == 1) & ~known
    of = np.flatnonzero(known)
    last, there = _last_of_peer(sent, of)
    probes[of[there & (window[last] == 0)]] = True
    return {"keep-alive": known & ~probes, "window probe": probes}


def _duplicates(columns: Columns, sent: segments.Segments, rows: Array, end: Array) -> Array:
    """Which segments say just what the one before them in their stream said, while the other side waits for more.

    So a receiver tells of a gap (RFC 5681, 2).
    """
    stream, flags = sent.stream, columns["tcp_flags"][rows]
    pure = (sent.length == 0) & (flags & (SYN | FIN | RST | ACK) == ACK)
    same = np.ones(len(stream), bool)
    for values in (stream, columns["tcp_ack"][rows], columns["tcp_window"][rows], sent.position + sent.length):
        same[1:] &= values[1:] == values[:-1]
    same[:1] = False
    candidates = np.flatnonzero(pure & same & (sent.acked >= 0))
    last, there = _last_of_peer(sent, candidates)
    waits = there & (highest(stream, end)[last] > sent.acked[candidates])
    duplicates = np.zeros(len(stream), bool)
    duplicates[candidates[waits]] = True
    return duplicates


def _last_of_peer(sent: segments.Segments, of: Array) -> tuple[Array, Array]:
    """For the segments `of`: the last one of the other stream before each, and whether there is one."""
    frames = int(sent.at.max(initial=0)) + 1
    key = sent.stream * frames + sent.at
    last = np.searchsorted(key, (sent.stream[of] ^ 1) * frames + sent.at[of]) - 1
    there = (last >= 0) & (sent.stream[last] == sent.stream[of] ^ 1)
    return last, there


def _fitting(columns: Columns, rows: Array, stream: Array, flags: Array, streams: int) -> Array:
    """The most bytes that each segment may carry, by the SYN of its stream's peer; 0: not known."""
    syn = np.flatnonzero((flags & SYN != 0) & (columns["has"][rows] & HAS["mss"] != 0))
    offered = np.zeros(streams, np.int64)
    offered[stream[syn]] = columns["tcp_mss"][rows[syn]]
    stamped = columns["has"][rows] & HAS["timestamps"] != 0
    fitting: Array = np.maximum(offered[stream ^ 1] - np.where(stamped, _TIMESTAMPS, 0), 0)
    return fitting
