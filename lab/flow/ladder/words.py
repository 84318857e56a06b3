"""What a ladder's text and its figure say alike: the signs of marks, gaps, folds, and what stands below."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import pairwise

from lab.flow.ladder.ladders import Fold, Ladder, Row, Step
from lab.units import format_bytes, format_ns

__all__ = [
    "ambiguous", "begin_ns", "below", "breaks", "end_ns", "facts", "folded", "gap_text", "gaps", "left_ns", "marked",
    "numbered", "payload", "since", "span", "states", "transit", "trouble", "troubled",
]  # fmt: skip

#: The sign of each mark, so that it is told apart in grey too: of what went wrong, and of what is only unusual.
_TROUBLES = {
    "retransmission": "↻", "out of order": "⇅", "reset": "✗", "zero window": "∅", "duplicate ACK": "‖",
    "bad checksum": "≠",
}  # fmt: skip
_UNUSUAL = {"keep-alive": "♡", "window probe": "?"}
#: Marks with a number in them, by how they begin.
_COUNTED = {"after": "⚠", "cut": "✂"}
_OTHER = "≡"
_MILLISECOND, _SECOND = 1_000_000, 1_000_000_000
#: A gap that is longer than so many times the median is told by a break.
_LONG = 10


def marked(mark: str) -> str:
    """A mark after its sign: ``"↻ retransmission"``."""
    sign = _TROUBLES.get(mark) or _UNUSUAL.get(mark) or _COUNTED.get(mark.split(" ")[0], _OTHER)
    return f"{sign} {mark}"


def trouble(mark: str) -> bool:
    """Whether it says that something went wrong; super-packets and cut frames are only unusual."""
    return mark in _TROUBLES or mark.startswith("after")


def troubled(step: Step) -> bool:
    """Whether something went wrong with a packet."""
    return any(map(trouble, step.marks))


def begin_ns(row: Row) -> int:
    """When a packet was seen, or the first of a fold."""
    return row.start_ns if isinstance(row, Fold) else row.time_ns


def end_ns(row: Row) -> int:
    """When a packet was seen, or the last of a fold."""
    return row.end_ns if isinstance(row, Fold) else row.time_ns


def gaps(ladder: Ladder) -> list[int | None]:
    """For each row the time since the end of the row before, in ns; None for the first."""
    between = (begin_ns(after) - end_ns(before) for before, after in pairwise(ladder.rows))
    return [None, *between] if ladder.rows else []


def gap_text(gap_ns: int | None) -> str:
    """``"+12.3 µs"``; "" for the first row. Less than nothing if a clock was set."""
    return "" if gap_ns is None else f"{'+' if gap_ns >= 0 else ''}{format_ns(gap_ns)}"


def breaks(found: list[int | None]) -> list[bool]:
    """Which of the gaps are long beside the others."""
    known = [gap for gap in found if gap is not None]
    limit = _LONG * max(statistics.median(known), 1) if known else 0
    return [gap is not None and gap > limit for gap in found]


def ambiguous(ladder: Ladder) -> bool:
    """Whether columns alone don't tell which conversation a packet belongs to."""
    flows: dict[frozenset[int], int] = {}
    return any(flows.setdefault(frozenset((step.source, step.target)), step.flow) != step.flow for step in ladder.steps)


def facts(step: Step, *, flow: bool) -> str:
    """Its numbers in one line. flow: whether the conversation's is one of them."""
    return ", ".join([*step.facts, *([f"flow {step.flow}"] if flow else [])])


def payload(step: Step) -> str:
    """What it says, in quotes; "" if that is no text."""
    return f'"{step.payload}"' if step.payload else ""


def transit(ladder: Ladder, step: Step) -> str:
    """How long it was on the way, told once: where it arrives; "" if that is not known."""
    on_the_way = ladder.participants[step.target].kind == "device"
    return "" if step.transit_ns is None or on_the_way else f"transit {format_ns(step.transit_ns)}"


def states(ladder: Ladder) -> Iterator[tuple[int, str]]:
    """The states that are told, each with its column."""
    for step in ladder.steps:
        for column, state in zip((step.source, step.target), step.states, strict=True):
            if state:
                yield column, state


def left_ns(ladder: Ladder, row: Row) -> int:
    """When it left: before it was seen if that was its second copy, and the first has no arrow of its own."""
    if isinstance(row, Fold) or row.transit_ns is None:
        return begin_ns(row)
    by_way = any(ladder.participants[end].kind == "device" for end in (row.source, row.target))
    return row.time_ns - (0 if by_way else row.transit_ns)


def numbered(ladder: Ladder) -> bool:
    """Whether its folds can only be told by the numbers of columns, from 1."""
    folds = (row for row in ladder.rows if isinstance(row, Fold))
    return len(ladder.participants) > 2 and any(len({frozenset(way[:2]) for way in fold.ways}) > 1 for fold in folds)


def span(fold: Fold) -> tuple[int, int]:
    """The first and the last of the columns between which its packets go."""
    columns = [end for way in fold.ways for end in way[:2]] or [0]
    return min(columns), max(columns)


def folded(fold: Fold, *, numbers: bool) -> str:
    """What it leaves out: ``"⋮ 1,234 packets, 3.40 ms: → 1,200 (1.20 MB), ← 34 (0 bytes)"``.

    numbers: whether directions are told by the numbers of columns.
    """
    took = format_ns(fold.end_ns - fold.start_ns)
    ways = []
    for source, target, packets, size in fold.ways:
        way = f"{source + 1}→{target + 1}" if numbers else "→" if source < target else "←"
        ways.append(f"{way} {packets:,} ({format_bytes(size)})")
    return f"⋮ {fold.packets:,} packet{'s' * (fold.packets != 1)}, {took}: {', '.join(ways)}"


def below(ladder: Ladder) -> Iterator[str]:
    """What stands below all rows: how many packets are folded, and the warnings."""
    folds = sum(1 for row in ladder.rows if isinstance(row, Fold))
    if folds:
        yield f"{ladder.folded:,} packets are folded, {len(ladder.steps):,} are shown"
    for text in ladder.warnings:
        yield f"warning: {text}"


def since(ladder: Ladder, row: Row) -> str:
    """When a row begins, since the ladder's start: to the microsecond, in at most ten letters up to a week."""
    ns = begin_ns(row) - ladder.start_ns
    if abs(ns) < _MILLISECOND:
        return format_ns(ns)
    if abs(ns) < _SECOND:
        return f"{ns / _MILLISECOND:.3f} ms"
    whole = len(str(ns // _SECOND))
    return f"{ns / _SECOND:.{max(0, 7 - whole)}f} s"
