"""The arrows of a ladder as arrays: what leads where, what is worth showing, and where TCP's states change."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lab.flow.ladder.cast import Cast
from lab.flow.ladder.quoted import are_errors
from lab.flow.ladder.states import Segment, find_changes
from lab.flow.ladder.tcp import Tcp
from lab.taps.conversations import FIN, OUT, RST, SYN, Conversations
from lab.taps.findings import Columns
from lab.taps.frames import HAS

__all__ = ["Arrows", "Changes", "changes_of", "interest_of", "make_arrows", "other_copies"]

Array = npt.NDArray[Any]
#: By place and side (0: the client's), the state that TCP is in from there on.
Changes = dict[tuple[int, int], str]

#: How interesting a packet is that opens, ends or breaks something; that is among the first to carry something; that
#: carries something.
_TURN, _FIRST, _DATA = 3, 2, 1
#: Packets of a conversation, each way, that are the first to carry something.
_FIRSTS = 2
#: SYNs and FINs of a conversation whose effect is looked for.
_MOST_TURNS = 1000


class Arrows(NamedTuple):
    """In the file's order; all of shape (n,).

    place: in the arrays of ``Conversations``. number: of the frame, from 0. other: that of its other copy, −1 if there
    is none. flow: that it is shown in. by_client: whether its client sent it. source, target: columns. leaves, arrives:
    whether it has the sender's end, and the receiver's: each of two copies has one of them.
    """

    place: Array
    number: Array
    other: Array
    flow: Array
    by_client: Array
    source: Array
    target: Array
    leaves: Array
    arrives: Array


def other_copies(columns: Columns, numbers: Array) -> Array:
    """For frames that came in, the number of the same packet going out on the same interface; −1 if there is none."""
    import polars as pl

    key = ["interface", "packet_id"]
    out = np.flatnonzero((columns["direction"] == OUT) & (columns["packet_id"] != 0))
    sent = pl.DataFrame({name: columns[name][out] for name in key}).with_columns(other=out).unique(key, keep="first")
    came = pl.DataFrame({name: columns[name][numbers] for name in key})
    found = came.join(sent, key, how="left", maintain_order="left")["other"].fill_null(-1).to_numpy()
    return np.where(columns["direction"][numbers] == OUT, -1, found)


def make_arrows(
    columns: Columns,
    found: Conversations,
    place: Array,
    other: Array,
    flow: Array,
    from_client: Array,
    cast: Cast,
) -> Arrows:
    """An arrow for each packet of the conversations of `cast`; two, by way of its device, for one seen twice there.

    place: of the packets, in the arrays of ``Conversations``. other: of each frame there, its other copy. flow,
    from_client: as it is shown.
    """
    place = place[np.argsort(found.rows[place], kind="stable")]
    number, by_client = found.rows[place], from_client[place]
    columns_of = np.zeros((len(found.first) - 1, 2), np.int64)
    for each in cast.flows:
        columns_of[each] = cast.ends(each)
    client, server = columns_of[flow[place]].T
    source, target = np.where(by_client, client, server), np.where(by_client, server, client)
    whole = np.ones(len(place), bool)
    arrows = Arrows(place, number, other[place], flow[place], by_client, source, target, whole, whole)
    device = cast.device_columns(columns["interface"][number])
    twice = np.flatnonzero((arrows.other >= 0) & (device >= 0))
    if not len(twice):
        return arrows
    came = arrows._replace(source=np.where(arrows.other >= 0, device, source), leaves=arrows.other < 0)
    went = Arrows(*(values[twice] for values in arrows))
    went = went._replace(number=went.other, other=went.number, target=device[twice], arrives=np.zeros(len(twice), bool))
    both = Arrows(*(np.concatenate(pair) for pair in zip(went, came, strict=True)))
    order = np.argsort(both.number, kind="stable")
    return Arrows(*(values[order] for values in both))


def changes_of(columns: Columns, found: Conversations, segments: Tcp, flows: tuple[int, ...]) -> Changes:
    """Where TCP's states change in these conversations."""
    changes: Changes = {}
    for flow in flows:
        begin, end = found.first[flow], found.first[flow + 1]
        number = found.rows[begin:end]
        if columns["has"][number[0]] & HAS["tcp"] == 0:
            continue
        flags, side = columns["tcp_flags"][number], (~found.from_client[begin:end]).astype(np.int64)
        turns = np.flatnonzero(flags & (SYN | FIN | RST))[:_MOST_TURNS]
        wanted = set(turns.tolist())
        stop, acked = segments.end[begin:end], segments.acked[begin:end]
        for turn in turns[flags[turns] & (SYN | FIN) != 0].tolist():
            answers = np.flatnonzero((side != side[turn]) & (acked >= stop[turn]))
            wanted.update(answers[:1].tolist())
            wanted.update(answers[answers > turn][:1].tolist())
        seen = [
            Segment(
                place=at,
                side=int(side[at]),
                syn=bool(flags[at] & SYN),
                fin=bool(flags[at] & FIN),
                rst=bool(flags[at] & RST),
                end=int(stop[at]),
                acked=int(acked[at]),
            )
            for at in sorted(wanted)
        ]
        changes |= {(int(begin) + each.place, each.side): each.state for each in find_changes(seen)}
    return changes


def interest_of(columns: Columns, arrows: Arrows, marks: Array, changes: Changes) -> Array:
    """How much each arrow is worth showing where not all are. marks: of each place. Returns shape (n,)."""
    import polars as pl

    has, payload = columns["has"][arrows.number], columns["payload_length"][arrows.number]
    tcp = has & HAS["tcp"] != 0
    flags = np.where(tcp, columns["tcp_flags"][arrows.number], 0)
    turn = (flags & (SYN | FIN | RST) != 0) | (tcp & (marks[arrows.place] != 0))
    turn |= are_errors(columns, arrows.number)
    turn |= np.isin(arrows.place, [place for place, _side in changes])
    for places in (np.arange(len(turn)), np.arange(len(turn))[::-1]):
        end = np.full(int(arrows.flow.max(initial=0)) + 1, -1)
        end[arrows.flow[places]] = places  # of a flow's packets the last one, by NumPy's order; the first, backwards
        turn[end[end >= 0]] = True
    carries = payload > 0
    way = pl.DataFrame({"flow": arrows.flow, "by": arrows.by_client, "carries": carries.astype(np.int64)})
    nth = way.select(pl.col("carries").cum_sum().over("flow", "by"))["carries"].to_numpy()
    interest: Array = np.select([turn, carries & (nth <= _FIRSTS), carries], [_TURN, _FIRST, _DATA], 0)
    return interest
