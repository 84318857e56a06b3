"""A ladder: the packets of some conversations as arrows between their ends, in the order in which they were seen.

This module says what a ladder is made of, and knows nothing of files. ``steps`` makes one of a capture; ``text``,
``figure`` and ``page`` draw it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.flow.drawn import Drawn

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure

__all__ = ["Fold", "Ladder", "Participant", "Row", "Step"]


@dataclass(frozen=True, kw_only=True)
class Participant:
    """A column: an endpoint, a process with all its endpoints, or the device on which both copies were seen.

    name: what heads it, such as "127.0.0.1:8080", "curl 1234", "lo". note: what else is known of it, such as
    the process at that endpoint; "" if nothing is. kind: "endpoint", "process" or "device".
    """

    name: str
    note: str = ""
    kind: str = "endpoint"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A packet, or one of its copies, as an arrow.

    number: of its frame, from 1. other_copy: the number of the frame that is the same packet going out, if both are
    folded into this one; transit_ns: from that to this. time_ns: since 1970. source, target: columns, from 0; they are
    never the same. flow: its number in ``Capture.flows()``. protocol: as filters call it. title: what it is above all,
    such as "SYN ACK", "echo request", "UDP". facts: numbers worth telling, such as "seq 1", "ack 78", "len 77";
    sequence numbers are relative, as in Wireshark. payload: the beginning of what it says, "" if that is no text.
    marks: what went wrong, or is out of the ordinary: "retransmission", "reset", "out of order", "zero window",
    "2 segments in one frame", … states: that of TCP on the source's side and on the target's after it, where it is
    another than before, else None. length: of the frame, on the wire, in bytes.
    """

    number: int
    time_ns: int
    source: int
    target: int
    flow: int
    protocol: str
    title: str
    facts: tuple[str, ...] = ()
    payload: str = ""
    marks: tuple[str, ...] = ()
    states: tuple[str | None, str | None] = (None, None)
    length: int
    other_copy: int | None = None
    transit_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Packets one after the other that a picture leaves out.

    packets: how many. start_ns, end_ns: when the first and the last were seen. ways: for each direction the columns it
    leads from and to, its packets, and the bytes that they carried. steps: all of them, if they are few enough
    to be unfolded on a page; else none.
    """

    packets: int
    start_ns: int
    end_ns: int
    ways: tuple[tuple[int, int, int, int], ...]
    steps: tuple[Step, ...] = ()


Row = Step | Fold


@dataclass(frozen=True, kw_only=True, repr=False)
class Ladder(Drawn):
    """Some conversations of a capture as a sequence diagram.

    participants: its columns. rows: in the order of time. title: whose it is. start_ns: what times are counted from.
    warnings: what it does not show, and what gives to doubt. to_scale: whether distances are times, rather than all the
    same. large: with letters for a projector.
    """

    participants: tuple[Participant, ...]
    rows: tuple[Row, ...]
    title: str
    start_ns: int
    warnings: tuple[str, ...] = ()
    to_scale: bool = False
    large: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """The rows that are packets."""
        return tuple(row for row in self.rows if isinstance(row, Step))

    @property
    def folded(self) -> int:
        """Packets that it leaves out."""
        return sum(row.packets for row in self.rows if isinstance(row, Fold))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def lines(self) -> list[str]:
        """It as text, for 80 columns."""
        from lab.flow.ladder.text import ladder_lines

        return ladder_lines(self)

    def figure(self) -> ShownFigure:
        """It as a matplotlib figure."""
        from lab.flow.ladder.figure import draw_ladder

        return draw_ladder(self)

    def page(self) -> str:
        """It as an HTML page that needs nothing else: point at a packet to see all that is known of it."""
        from lab.flow.ladder.page import ladder_page

        return ladder_page(self)

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab ladder --json``, format 1; all times in ns."""
        rows = [
            {"packet": asdict(row)} if isinstance(row, Step) else {"folded": asdict(row) | {"steps": len(row.steps)}}
            for row in self.rows
        ]
        return {
            "format": 1,
            "title": self.title,
            "start_ns": self.start_ns,
            "participants": [asdict(each) for each in self.participants],
            "rows": rows,
            "folded": self.folded,
            "warnings": list(self.warnings),
        }
