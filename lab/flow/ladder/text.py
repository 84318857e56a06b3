"""A ladder as text of 80 columns: two lines a packet, what it is above its arrow.

::

                  127.0.0.1:43210                        127.0.0.1:8080
                         │                                      │
      0 ns               │ SYN  seq 0, MSS 65495                │
                SYN-SENT ├─────────────────────────────────────▶│ SYN-RECEIVED
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rich.cells import cell_len

from lab.flow.ladder import words
from lab.flow.ladder.cells import Line, plain, shorten, wrap
from lab.flow.ladder.ladders import Fold, Ladder, Step

__all__ = ["ladder_lines"]

_WIDTH = 80
#: Cells of a time and the space behind it.
_TIME = 11
#: The longest state and a space, of a few participants and of more: SYN-SENT → SYN-RECEIVED, SYN-RECEIVED.
_STATE, _NARROW, _FEW = 24, 13, 3
#: Cells of a payload for which a label gives up its place above the arrow's beginning.
_SAID = 20


def ladder_lines(ladder: Ladder) -> list[str]:
    """The ladder as lines of at most 80 cells. Rows are equally apart, also if it is to scale: times are told."""
    columns = _columns(ladder)
    numbers = words.numbered(ladder) or not _fit(ladder, columns)
    flow = words.ambiguous(ladder)
    rule = _lifelines(columns, "│")
    lines = [*wrap(plain(ladder.title), _WIDTH, "  "), "", *_heads(ladder, columns, numbers), str(rule)]
    gaps = words.gaps(ladder)
    for row, gap, long in zip(ladder.rows, gaps, words.breaks(gaps), strict=True):
        told = words.gap_text(gap)
        if long:
            lines.append(str(_lifelines(columns, "┊").put(0, told.rjust(_TIME - 1))))
            told = ""
        if isinstance(row, Fold):
            lines += _fold(ladder, row, columns, numbers)
        else:
            lines += _step(ladder, row, columns, told, flow=flow)
    below = [line for text in words.below(ladder) for line in wrap(plain(text), _WIDTH, "  ")]
    return [*lines, str(rule), *([""] if below else []), *below]


def _columns(ladder: Ladder) -> list[int]:
    """The cell of each lifeline; there is room for the states at the sides, if there are any."""
    last = len(ladder.participants) - 1
    sides = [
        max((cell_len(state) for column, state in words.states(ladder) if column == side), default=0)
        for side in (0, last)
    ]
    most = _STATE if len(ladder.participants) <= _FEW else _NARROW
    left, right = (min(side + 1, most) if side else 1 for side in sides)
    first, room = _TIME + left, _WIDTH - 1 - right - _TIME - left
    return [first + round(room * number / max(last, 1)) for number in range(last + 1)]


def _slots(columns: list[int]) -> list[tuple[int, int]]:
    """From where to where the head of each column may reach; a cell is left between two."""
    middles = [(left + right) // 2 for left, right in pairwise(columns)]
    return list(zip([0, *(middle + 1 for middle in middles)], [*middles, _WIDTH], strict=True))


def _fit(ladder: Ladder, columns: list[int]) -> bool:
    """Whether there is room for all names and notes above their columns."""
    return all(
        cell_len(plain(text)) <= end - start
        for each, (start, end) in zip(ladder.participants, _slots(columns), strict=True)
        for text in (each.name, each.note)
    )


def _heads(ladder: Ladder, columns: list[int], numbers: bool) -> Iterator[str]:
    """The names of the columns and below them the notes; or numbers, after the list of what they mean."""
    names = [plain(each.name) for each in ladder.participants]
    notes = [plain(each.note) for each in ladder.participants]
    rows = [names, notes]
    if numbers:
        rows = [[str(number) for number in range(1, len(names) + 1)]]
        for number, name, note in zip(*rows, names, notes, strict=True):
            yield from wrap(f"{number} {name}{f' ({note})' if note else ''}", _WIDTH, "    ")
        yield ""
    for row in rows:
        line = Line(_WIDTH)
        for text, column, (start, end) in zip(row, columns, _slots(columns), strict=True):
            line.put(max(start, min(column - cell_len(text) // 2, end - cell_len(text))), text)
        if any(row):
            yield str(line)


def _lifelines(columns: list[int], sign: str) -> Line:
    line = Line(_WIDTH)
    for column in columns:
        line.put(column, sign)
    return line


def _step(ladder: Ladder, step: Step, columns: list[int], gap: str, *, flow: bool) -> list[str]:
    """What a packet is, after the time, and its arrow between the states, after the gap."""
    start, end = columns[step.source], columns[step.target]
    parts = [
        *(words.marked(mark) for mark in step.marks),
        step.title,
        words.facts(step, flow=flow),
        words.transit(ladder, step),
    ]
    label, said = plain("  ".join(filter(None, parts))), plain(words.payload(step))
    least = cell_len(label) + (2 + min(cell_len(said), _SAID) if said else 0)
    label = f"{label}  {said}" if said else label
    above = _lifelines(columns, "│").put(0, words.since(ladder, step).rjust(_TIME - 1))
    above.put(max(_TIME + 1, min(min(start, end) + 2, _WIDTH - least)), label)

    arrow = _lifelines(columns, "│").put(0, gap.rjust(_TIME - 1))
    left, right = min(start, end), max(start, end)
    arrow.put(left + 1, "─" * (right - left - 1))
    for column in columns:
        if left < column < right:
            arrow.put(column, "┼")
    arrow.put(start, "├" if start < end else "┤").put(end - 1 if start < end else end + 1, "▶" if start < end else "◀")
    for column, state in zip((start, end), step.states, strict=True):
        if state:
            room = column - 1 - _TIME if column == left else _WIDTH - column - 2
            text = plain(state)
            text = shorten(text if cell_len(text) <= room else text.split(" → ")[-1], room)
            arrow.put(column - 1 - cell_len(text) if column == left else column + 2, text)
    return [str(above), str(arrow)]


def _fold(ladder: Ladder, fold: Fold, columns: list[int], numbers: bool) -> list[str]:
    """The packets that are left out, as many lines as their directions take."""
    told = wrap(words.folded(fold, numbers=numbers), _WIDTH - _TIME - 1, "  ")
    first = min(columns[words.span(fold)[0]] + 2, _WIDTH - max(map(cell_len, told)))
    lines = [_lifelines(columns, "┊").put(first, text) for text in told]
    lines[0].put(0, words.since(ladder, fold).rjust(_TIME - 1))
    return [str(line) for line in lines]
