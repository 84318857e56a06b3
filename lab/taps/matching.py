"""Which frames of a capture are the packets that were sent, and which frames answer them. Pure functions on columns.

A frame is a request if its first bytes from the network layer on are those of a packet that was sent, but for what the
kernel fills in and what was to vary. Where several are alike, the first that was seen is the first that was sent.

Kinds of answers, each from where the request went to where it came from:

echo          an ICMP echo reply with the request's id and number
udp           a datagram between the same ports
syn-ack, ack  TCP between the same ports that acknowledges just what the request ends with
reset         the same, or one that acknowledges nothing, from where the request's own acknowledgement ends (RFC 9293,
              3.10.7.1)
error         an ICMP error, from anywhere, that quotes the request: its addresses and the eight bytes behind its IP
              header (RFC 792, RFC 4443)
other         what scapy takes for its answer, where the request is of none of these protocols

Requests that can't be told apart, such as datagrams between the same ports, are answered in the order in which they
were sent. What finds none of them open repeats an answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.taps.conversations import ACK, ECHO_REQUESTS, FIN, RST, SYN
from lab.taps.findings import Columns
from lab.taps.frames import HAS, FrameFile

__all__ = ["COLUMNS", "KINDS", "Matches", "find_answers", "find_requests"]

#: What ``find_answers`` reads.
COLUMNS = (
    "time_ns", "has", "offset", "captured", "network_offset", "payload_offset", "family", "protocol", "source",
    "destination", "source_port", "destination_port", "icmp_type", "icmp_id", "icmp_seq", "fragment_offset",
    "payload_length", "tcp_flags", "tcp_seq", "tcp_ack",
)  # fmt: skip

KINDS = ("echo", "udp", "syn-ack", "ack", "reset", "error", "other")

#: Bytes from the network layer on by which packets are told apart.
_TOLD_BY = 128
#: Of an IPv4 header: what the kernel may fill in, total length, id, checksum (raw(7)).
_FILLED_IN = (2, 3, 4, 5, 10, 11)
_ETHERNET = 14
_ECHO_REPLIES = (0, 129)
_UDP, _ICMP, _ICMPV6 = 17, 1, 58
#: Types of ICMP that quote what they are about: RFC 792, RFC 4443.
_ERRORS = {_ICMP: (3, 4, 5, 11, 12), _ICMPV6: (1, 2, 3, 4)}
#: Bytes behind an IP header that an error quotes at least, and the longest headers with them.
_QUOTED, _MOST_QUOTED = 8, 68

Array = npt.NDArray[Any]


class Matches(NamedTuple):
    """A row a request that was seen, in the order of the capture; all of shape (n,).

    request, answer: their rows in the columns; answer is −1 if there is none. kind: of the answer, an index of
    ``KINDS``. repeated: rows that repeat answers, shape (m,).
    """

    request: Array
    answer: Array
    kind: Array
    repeated: Array


def find_requests(frames: FrameFile, columns: Columns, sent: FrameFile, varying: Array | None = None) -> Array:
    """For each frame of a capture, which of the packets that were sent it is, from 0; −1: none; int64, shape (n,).

    sent: what was sent, in this order, maybe several times. varying: of its only frame, bytes that vary; bool.
    """
    wanted = sent.columns("has", "offset", "captured", "network_offset", "family")
    ours, theirs = _told_by(sent, wanted), _told_by(frames, columns)
    if varying is not None:
        network = int(_network(wanted)[0])
        kept = ~varying[network : network + _TOLD_BY]
        ours[:, : len(kept)] *= kept
        theirs[:, : len(kept)] *= kept
    numbers = _numbered(np.concatenate([ours, theirs]))
    of_sent, of_frame = numbers[: len(ours)], numbers[len(ours) :]
    order = np.argsort(of_sent, kind="stable")  # alike ones together, in their order
    begin = np.searchsorted(of_sent[order], of_frame)
    alike = np.searchsorted(of_sent[order], of_frame, side="right") - begin
    found = np.full(len(of_frame), -1)
    known = alike > 0
    turn, place = np.divmod(_ranks(of_frame[known]), alike[known])
    found[known] = turn * len(order) + order[begin[known] + place]
    return found


def find_answers(frames: FrameFile, columns: Columns, request: Array) -> Matches:
    """Answers to the requests. columns: with ``COLUMNS``, of `frames`. request: their rows, ascending."""
    asked = np.zeros(len(columns["has"]), bool)
    asked[request] = True
    answer, kind = np.full(len(asked), -1), np.zeros(len(asked), np.int64)
    free = ~asked
    repeated = np.zeros(len(asked), bool)
    for find in (_echoes, _datagrams, _acknowledged, _reset, _quoted):
        open_ = asked & (answer < 0)
        rows, asks, key, kinds = find(frames, columns, open_, free)
        at, by, over = _queued(_numbered(key), asks)
        answer[rows[at]], kind[rows[at]] = rows[by], kinds[by]
        free[rows[by]] = False
        repeated[rows[over]] = True
    return Matches(request, answer[request], kind[request], np.flatnonzero(repeated & free))


# ---- kinds: rows that ask or may answer, which of them ask, keys that both share, and kinds of answers ----

Candidates = tuple[Array, Array, Array, Array]


def _echoes(_frames: FrameFile, columns: Columns, asked: Array, free: Array) -> Candidates:
    echo, type_ = columns["has"] & HAS["echo"] != 0, columns["icmp_type"]
    asks = asked & np.isin(type_, ECHO_REQUESTS)
    rows = np.flatnonzero(echo & (asks | (free & np.isin(type_, _ECHO_REPLIES))))
    asks = asks[rows]
    key = _key(*_between(columns, rows, asks), columns["icmp_id"][rows], columns["icmp_seq"][rows])
    return rows, asks, key, np.full(len(rows), KINDS.index("echo"))


def _datagrams(_frames: FrameFile, columns: Columns, asked: Array, free: Array) -> Candidates:
    rows = np.flatnonzero((columns["protocol"] == _UDP) & (columns["has"] & HAS["ports"] != 0) & (asked | free))
    asks = asked[rows]
    return rows, asks, _key(*_between(columns, rows, asks)), np.full(len(rows), KINDS.index("udp"))


def _acknowledged(_frames: FrameFile, columns: Columns, asked: Array, free: Array) -> Candidates:
    flags = columns["tcp_flags"]
    rows, asks = _segments(columns, asked & (flags & RST == 0), free & (flags & ACK != 0))
    flags = flags[rows]
    takes = columns["payload_length"][rows] + (flags & SYN != 0) + (flags & FIN != 0)
    end = np.where(asks, columns["tcp_seq"][rows] + takes, columns["tcp_ack"][rows]).astype(np.uint32)
    names = [KINDS.index(name) for name in ("syn-ack", "reset", "ack")]
    kinds = np.select([flags & SYN != 0, flags & RST != 0], names[:2], names[2])
    return rows, asks, _key(*_between(columns, rows, asks), end), kinds


def _reset(_frames: FrameFile, columns: Columns, asked: Array, free: Array) -> Candidates:
    flags = columns["tcp_flags"]
    rows, asks = _segments(columns, asked & (flags & (RST | ACK) == ACK), free & (flags & (RST | ACK) == RST))
    end = np.where(asks, columns["tcp_ack"][rows], columns["tcp_seq"][rows])
    return rows, asks, _key(*_between(columns, rows, asks), end), np.full(len(rows), KINDS.index("reset"))


def _quoted(frames: FrameFile, columns: Columns, asked: Array, free: Array) -> Candidates:
    """The header that an error quotes is that of the request, so both have the same key."""
    has, kind = columns["has"], columns["icmp_type"]
    errors = np.zeros(len(has), bool)
    for protocol, types in _ERRORS.items():
        errors |= (columns["protocol"] == protocol) & np.isin(kind, types)
    whole = columns["fragment_offset"] == 0
    errors &= free & (has & HAS["icmp"] != 0) & (has & HAS["payload"] != 0)
    rows = np.flatnonzero(errors | (asked & whole & (has & HAS["ip"] != 0))) if errors.any() else np.zeros(0, np.int64)
    asks = asked[rows]
    skipped = np.where(asks, columns["network_offset"][rows], columns["payload_offset"][rows])
    header = _bytes(frames, columns["offset"][rows] + skipped, columns["captured"][rows] - skipped, _MOST_QUOTED)
    four = columns["family"][rows] == 4
    length = np.where(four, 4 * (header[:, 0] & 0xF).astype(np.int64), 40)
    behind = np.minimum(length, _MOST_QUOTED - _QUOTED)[:, None] + np.arange(_QUOTED)
    ends = np.zeros((len(rows), 33), np.uint8)
    ends[four, :8], ends[four, 32] = header[four, 12:20], header[four, 9]
    ends[~four, :32], ends[~four, 32] = header[~four, 8:40], header[~four, 6]
    key = _key(columns["family"][rows], ends, np.take_along_axis(header, behind, axis=1))
    return rows, asks, key, np.full(len(rows), KINDS.index("error"))


def _segments(columns: Columns, asked: Array, free: Array) -> tuple[Array, Array]:
    rows = np.flatnonzero((columns["has"] & HAS["tcp"] != 0) & (asked | free))
    return rows, asked[rows]


def _between(columns: Columns, rows: Array, asks: Array) -> list[Array]:
    """Family, addresses and ports as the asking end sees them, of requests and answers alike."""
    ends = []
    for one, other in (("source", "destination"), ("source_port", "destination_port")):
        this, that = columns[one][rows], columns[other][rows]
        own = asks[:, None] if this.ndim == 2 else asks
        ends += [np.where(own, this, that), np.where(own, that, this)]
    return [columns["family"][rows], *ends]


# ---- how ----


def _network(columns: Columns) -> Array:
    """Where the network layer begins in each frame; of what is not IP, behind an Ethernet header."""
    return np.where(columns["has"] & HAS["ip"] != 0, columns["network_offset"], _ETHERNET)


def _told_by(frames: FrameFile, columns: Columns) -> Array:
    """The first bytes of each packet but what the kernel fills in, 0 behind its end: uint8, shape (n, _TOLD_BY)."""
    skipped = _network(columns)
    told = _bytes(frames, columns["offset"] + skipped, columns["captured"] - skipped, _TOLD_BY)
    told[np.ix_(columns["family"] == 4, _FILLED_IN)] = 0
    return told


def _bytes(frames: FrameFile, offsets: Array, lengths: Array, size: int) -> Array:
    """The bytes of the file from these offsets on, 0 behind these lengths: uint8, shape (n, size)."""
    memory = np.frombuffer(frames.contents(), np.uint8)
    found = np.zeros((len(offsets), size), np.uint8)
    inside = offsets + size <= len(memory)
    if inside.any():
        found[inside] = np.lib.stride_tricks.sliding_window_view(memory, size)[offsets[inside]]
    for row in np.flatnonzero(~inside):
        rest = memory[offsets[row] :]
        found[row, : len(rest)] = rest
    found[np.arange(size) >= lengths[:, None]] = 0
    return found


def _key(*parts: Array) -> Array:
    """Numbers of some columns side by side, as bytes: uint8, shape (n, bytes)."""
    columns = (np.ascontiguousarray(each.reshape(len(each), each[:1].size or 1)) for each in parts)
    return np.concatenate([each.view(np.uint8) for each in columns], axis=1)


def _numbered(keys: Array) -> Array:
    """A number for each row of bytes, the same for the same bytes: int64, shape (n,)."""
    if not len(keys):
        return np.zeros(0, np.int64)
    rows = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1]))).ravel()
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def _ranks(numbers: Array) -> Array:
    """How many of the same number are before each."""
    order = np.argsort(numbers, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = numbers[order][1:] != numbers[order][:-1]
    place = np.arange(len(order))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = place - place[begins][np.cumsum(begins) - 1]
    return ranks


def _queued(numbers: Array, asks: Array) -> tuple[Array, Array, Array]:
    """Serves who asks by who answers with the same number and comes later, first come first served.

    numbers, asks: in order of time. Returns places: of those served, of what each of them is served by, and of answers
    that found nobody waiting, though somebody of that number had asked before.
    """
    order = np.argsort(numbers, kind="stable")
    group, asks = numbers[order], asks[order]
    apart = group * (len(order) + 1)
    total = np.cumsum(np.where(asks, 1, -1))
    begins = np.searchsorted(group, group)
    total -= np.append(0, total)[begins]
    # Who answers finds nobody waiting where the balance sinks to a new low; what is `apart` begins each number anew.
    low = np.minimum.accumulate(np.minimum(total, 0) - apart)
    first = begins == np.arange(len(order))
    over = ~asks & (low < np.where(first, -apart, np.append(0, low[:-1])))
    serves = ~asks & ~over
    code, by = (apart[which] + _ranks(group[which]) for which in (asks, serves))
    place = np.searchsorted(by, code)
    served = np.append(by, -1)[place] == code
    asked = np.cumsum(asks)
    again = over & (asked > np.append(0, asked)[begins])
    return order[asks][served], order[serves][place[served]], order[again]
