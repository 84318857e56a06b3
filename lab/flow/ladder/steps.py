"""From a capture to its ladder: whose packets are shown, between which columns, and what is told of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.checks import check_count, pick
from lab.errors import CaptureError
from lab.flow.ladder import tcp, telling
from lab.flow.ladder.arrows import Arrows, Changes, changes_of, interest_of, make_arrows, other_copies
from lab.flow.ladder.cast import BY, Cast, Flow, place_of
from lab.flow.ladder.choosing import adopt_errors, choose
from lab.flow.ladder.folding import kept
from lab.flow.ladder.ladders import Fold, Ladder, Row, Step
from lab.taps import flows as flow_tables
from lab.taps.conversations import OUT, find_conversations, loopbacks
from lab.taps.findings import DOUBTED, Columns, doubts, interface_names
from lab.taps.flows import flow_table
from lab.taps.frames import HAS
from lab.taps.lines import protocol_name
from lab.taps.packets import Dissector
from lab.taps.speakers import parse_speakers, with_speakers
from lab.texts import printable

if TYPE_CHECKING:
    from lab.taps.frames import FrameFile

__all__ = ["find_ladder"]

Array = npt.NDArray[Any]

_COLUMNS = tuple({*flow_tables.COLUMNS, *tcp.COLUMNS, *telling.COLUMNS, *DOUBTED})
#: Rows of a ladder, at least and at most.
_FEWEST, _MOST = 3, 1000
#: Packets of one fold, and of all, that a page may unfold.
_UNFOLDED, _ALL_UNFOLDED = 200, 1000


def find_ladder(
    frames: FrameFile,
    flows: Sequence[int] = (),
    numbers: range | None = None,
    *,
    by: str = "endpoint",
    both_copies: bool = False,
    packets: int = 40,
    to_scale: bool = False,
    large: bool = False,
) -> Ladder:
    """The ladder of some conversations of a capture, the first ones if none is named.

    numbers: of the frames that are shown, from 0; None: all. What is told of them rests on all.
    by: what has a column of its own, an "endpoint" or a "process" (of which the capture is sure). both_copies: whether
    the two copies of a packet on lo are two arrows, by way of the device. packets: how many rows there are at most; the
    least interesting ones beyond are folded. to_scale, large: as ``Ladder`` has them.

    An ICMP error is shown with the packets that it is about, even if only its own conversation is named. TCP's states
    are those that ``lab.flow.ladder.states`` tells.
    Raises UsageError for a flow that is not there, CaptureError for a capture with no conversation.
    """
    pick("column", by, BY)
    check_count("number of rows", packets, low=_FEWEST, high=_MOST)
    columns = frames.columns(*_COLUMNS)
    found = find_conversations(columns)
    name = printable(Path(frames.path).name)
    if not len(found.rows):
        count = len(columns["has"])
        match = f" that matches {frames.filter!r}" if frames.filter else ""
        why = f"none of its {count:,} frames has an IP header" if count else f"it has no frame{match}"
        raise CaptureError(f"{name} has no conversation: {why}; give another capture")
    interfaces = interface_names(frames)
    table = with_speakers(flow_table(columns, found, interfaces), parse_speakers(frames.comments))
    flow, from_client = adopt_errors(frames, columns, found, table)
    visible = np.isin(found.rows, np.array(numbers)) if numbers is not None else np.ones(len(found.rows), bool)
    if not visible.any():
        raise CaptureError(f"there is no conversation in these {len(numbers or ()):,} frames of {name}: take others")
    cast = Cast(by)
    homes = [home for each in flows for home in np.unique(flow[found.flow == each]).tolist() or [each]]
    chosen, told = choose(table, homes, cast, np.bincount(flow[visible], minlength=len(table)))
    visible &= np.isin(flow, cast.flows)
    if not visible.any():
        raise CaptureError(f"{name}: nothing of that conversation is in these frames; take others")
    other = other_copies(columns, found.rows)
    if both_copies:
        twice = visible & (other >= 0)
        if not twice.any():
            raise CaptureError(f"{name} has no packet twice: capture with --both-copies, on lo")
        for interface in np.unique(columns["interface"][found.rows[twice]]).tolist():
            cast.add_device(interface, interfaces[interface])
    arrows = make_arrows(columns, found, np.flatnonzero(visible), other, flow, from_client, cast)
    segments = tcp.read_tcp(columns, found)
    changes = changes_of(columns, found, segments, cast.flows)
    shown = kept(interest_of(columns, arrows, segments.marks, changes), packets)
    ports = {each["flow"]: each["client_port"] for each in chosen if cast.shared(each["flow"])}
    teller = _Teller(frames, columns, arrows, segments, changes, ports)
    return Ladder(
        participants=cast.participants(),
        rows=tuple(_rows(teller, columns, arrows, shown)),
        title=_title(name, chosen, [source.name for source in frames.sources]),
        start_ns=int(columns["time_ns"][arrows.number].min()),
        warnings=(*told, *_left_out(columns, other), *doubts(frames, columns)),
        to_scale=to_scale,
        large=large,
    )


def _rows(teller: _Teller, columns: Columns, arrows: Arrows, shown: Array) -> Iterator[Row]:
    """The arrows that are shown, and the folds between them."""
    unfolded = 0
    edges = np.flatnonzero(np.diff(shown.astype(np.int8), prepend=-1, append=-1))
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if shown[begin]:
            yield from map(teller.step, range(begin, end))
            continue
        count = end - begin
        few = count <= _UNFOLDED and unfolded + count <= _ALL_UNFOLDED
        unfolded += count if few else 0
        time_ns = columns["time_ns"][arrows.number[begin:end]]
        yield Fold(
            packets=count,
            start_ns=int(time_ns[0]),
            end_ns=int(time_ns[-1]),
            ways=tuple(_ways(columns, arrows, slice(begin, end))),
            steps=tuple(map(teller.step, range(begin, end))) if few else (),
        )


def _ways(columns: Columns, arrows: Arrows, part: slice) -> Iterator[tuple[int, int, int, int]]:
    """For each direction of some arrows: the columns it leads from and to, packets, and bytes that they carried."""
    source, target = arrows.source[part], arrows.target[part]
    wide = int(max(source.max(), target.max())) + 1
    way = wide * source + target
    packets = np.bincount(way)
    carried = np.bincount(way, weights=columns["payload_length"][arrows.number[part]])
    for each in np.flatnonzero(packets).tolist():
        yield each // wide, each % wide, int(packets[each]), int(carried[each])


class _Teller:
    """Tells of one arrow after the other. ports: of the clients of conversations that have the same columns."""

    def __init__(
        self,
        frames: FrameFile,
        columns: Columns,
        arrows: Arrows,
        segments: tcp.Tcp,
        changes: Changes,
        ports: dict[int, int | None],
    ) -> None:
        self._columns, self._arrows, self._segments, self._changes = columns, arrows, segments, changes
        self._ports = ports
        self._dissector = Dissector(frames)

    def step(self, at: int) -> Step:
        """The arrow at a place in ``Arrows``."""
        place, number, other, flow, by_client, source, target, leaves, arrives = (
            values[at].item() for values in self._arrows
        )
        row = {name: self._columns[name][number].item() for name in telling.COLUMNS}
        seq, ack, marks, pieces = (getattr(self._segments, name)[place].item() for name in _OF_TCP)
        names = [name for bit, name in enumerate(tcp.MARKS) if marks >> bit & 1 and row["has"] & HAS["tcp"]]
        title, facts, marked = telling.told(row, seq, ack, names, pieces)
        side = 0 if by_client else 1
        came, went = max(number, other), min(number, other)
        transit_ns = int(self._columns["time_ns"][came] - self._columns["time_ns"][went]) if other >= 0 else None
        if self._ports.get(flow) is not None:
            facts = (f"port {self._ports[flow]}", *facts)
        speaks = row["payload_length"] and row["has"] & HAS["ports"]
        return Step(
            number=number + 1,
            time_ns=int(self._columns["time_ns"][number]),
            source=source,
            target=target,
            flow=flow,
            protocol=protocol_name(row["protocol"], None),
            title=title,
            facts=facts,
            payload=telling.said(self._dissector.packet(number)) if speaks else "",
            marks=marked if arrives else (),
            states=(
                self._changes.get((place, side)) if leaves else None,
                self._changes.get((place, 1 - side)) if arrives else None,
            ),
            length=row["length"],
            other_copy=other + 1 if other >= 0 else None,
            transit_ns=transit_ns,
        )


_OF_TCP = ("seq", "ack", "marks", "segments")


def _title(name: str, flows: Sequence[Flow], names: Sequence[str]) -> str:
    """names: those that interfaces have; what else stands for one is its number."""
    if len(flows) > 1:
        return f"{len(flows)} conversations of {name}"
    (flow,) = flows
    on = f" on {printable(flow['interface'])}" if flow["interface"] in names else ""
    return f"{flow['protocol'].upper()} {place_of(flow, 'client')} → {place_of(flow, 'server')}{on}"


def _left_out(columns: Columns, other: Array) -> Iterator[str]:
    """What of the capture is in no conversation. other: as ``other_copies`` has it, of all that is in one."""
    foreign = int(np.count_nonzero(columns["has"] & HAS["ip"] == 0))
    if foreign:
        yield f"{foreign:,} frames without an IP header are not shown"
    out = (columns["direction"] == OUT) & np.isin(columns["interface"], loopbacks(columns))
    came = int(np.count_nonzero(other >= 0))
    lost = int(np.count_nonzero(out & (columns["has"] & HAS["ip"] != 0))) - came
    if lost > 0:
        yield f"{lost:,} packets were seen going out on lo and not coming in: they are not shown"
