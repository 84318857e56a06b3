"""A ladder as an HTML page without a script: ladder.css lays it out, and shows what is known of a packet at which one
points.

Its grid has columns for the time and the gap, and two for each participant, one on either side of the lifeline. Every
row holds two drawings: an arrow as wide as its cell, and the same arrow at its true place in time with a line from
there to the label. The page shows the one or the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lab.flow.ladder import words
from lab.flow.ladder.ladders import Fold, Ladder, Participant, Row, Step
from lab.flow.ladder.layout import axis_marks
from lab.flow.pages import facts, fill, page, shown, warnings
from lab.units import format_bytes, format_ns

__all__ = ["ladder_page"]

#: The line of the grid on which the first participant's lifeline is; those of the others are two further each.
_FIRST_LINE = 4
#: How much of the width of the drawing to scale the participants have; in the rest are the lines to the labels.
_PLOT = 0.8


def ladder_page(ladder: Ladder) -> str:
    """The page of a ladder, which needs nothing but itself."""
    return page(ladder.title, _Body(ladder).html(), "ladder/ladder.css", large=ladder.large)


def _percent(fraction: float) -> str:
    return f"{fraction:.3%}"


def _clock(time_ns: int) -> str:
    """A time since 1970 to the nanosecond."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09} UTC"


def _place(first: int, last: int) -> str:
    """The cells between two lines of the grid."""
    return f'style="--from: {first}; --to: {last}"'


def _line(column: int) -> int:
    return _FIRST_LINE + 2 * column


@dataclass(frozen=True)
class _Scale:
    """Times as places from top (0) to bottom (1)."""

    begin_ns: int
    span_ns: int

    def place(self, time_ns: int) -> float:
        return 0.01 + 0.98 * (time_ns - self.begin_ns) / self.span_ns if self.span_ns else 0.5


class _Body:
    """Writes the body of a page."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._ambiguous = words.ambiguous(ladder)
        begin_ns = min((words.left_ns(ladder, row) for row in ladder.rows), default=0)
        self._end_ns = max(map(words.end_ns, ladder.rows), default=0)
        self._scale = _Scale(begin_ns, self._end_ns - begin_ns)

    def html(self) -> str:
        ladder = self._ladder
        columns = len(ladder.participants)
        even, scaled = ("", " checked") if ladder.to_scale else (" checked", "")
        return fill(
            "ladder/ladder.html",
            warnings=warnings(ladder.warnings),
            even=even,
            scaled=scaled,
            columns=columns,
            halves=2 * columns - 2,
            count=len(ladder),
            heads=self._heads(),
            lifelines=self._lifelines(),
            axis=self._axis(),
            rows=self._rows(),
        )

    def _heads(self) -> str:
        return "".join(
            f'<span class="head {shown(each.kind)}" {_place(_line(column) - 1, _line(column) + 1)}>'
            f'<b>{shown(each.name).replace(":", ":<wbr>")}</b> <span class="soft">{shown(each.note)}</span></span>'
            for column, each in enumerate(self._ladder.participants)
        )

    def _lifelines(self) -> str:
        return "".join(
            f'<i class="{shown(each.kind)}" {_place(_line(column), _line(column) + 1)}></i>'
            for column, each in enumerate(self._ladder.participants)
        )

    def _rows(self) -> str:
        rows = self._ladder.rows
        made, before_ns = [], None
        for number, (row, long) in enumerate(zip(rows, words.breaks(words.gaps(self._ladder)), strict=True)):
            times = self._times(row, before_ns, long=long)
            label = (number + 0.5) / len(rows)  # where its label is, if times are to scale
            if isinstance(row, Fold):
                made.append(self._fold(row, times, before_ns, label))
            else:
                made.append(self._step(row, times, before_ns, label))
            before_ns = words.end_ns(row)
        return "\n".join(made)

    def _times(self, row: Row, before_ns: int | None, *, long: bool = False) -> str:
        """When it begins, and how long that is after the row before."""
        gap = words.gap_text(None if before_ns is None else words.begin_ns(row) - before_ns)
        kind = "gap long" if long else "gap"
        return f'<span class="time">{words.since(self._ladder, row)}</span><span class="{kind}">{gap}</span>'

    def _step(self, step: Step, times: str, before_ns: int | None, label: float | None = None) -> str:
        """A packet. label: None if it is part of a fold, and never drawn to scale."""
        left, right = sorted((step.source, step.target))
        to_right = step.source == left
        states = step.states if to_right else step.states[::-1]
        cells = (
            _state("left", states[0], _place(3, _line(left)))
            + f'<span class="label" {_place(_line(left), _line(right))}>{self._label(step)}</span>'
            + _state("right", states[1], _place(_line(right), -1))
        )
        return (
            f'<li class="step row{" troubled" if words.troubled(step) else ""}" tabindex="0">{times}{cells}'
            f"{_arrow(left, right, to_right)}{'' if label is None else self._true_arrow(step, label)}"
            f'<div class="panel">{self._panel(step, before_ns)}</div></li>'
        )

    def _label(self, step: Step) -> str:
        """What is written above an arrow: what it is and its numbers; below, what it says."""
        told = (*step.facts, f"flow {step.flow}") if self._ambiguous else step.facts
        numbers = ", ".join(f'<span class="whole">{shown(fact)}</span>' for fact in told)
        parts = [f"<b>{shown(step.title)}</b>", _marks(step), numbers]
        if transit := words.transit(self._ladder, step):
            parts.append(f'<span class="soft whole">· {transit}</span>')
        said = f'<bdi class="said mono">{shown(step.payload)}</bdi>' if step.payload else ""
        return f"<span>{' '.join(filter(None, parts))}</span>{said}"

    def _panel(self, step: Step, before_ns: int | None) -> str:
        """All that is known of a packet."""
        source, target = (self._ladder.participants[column] for column in (step.source, step.target))
        states = (
            f"{shown(each.name)}: {state}" for each, state in zip((source, target), step.states, strict=True) if state
        )
        copy = f"frame {step.other_copy}" if step.other_copy is not None else ""
        if step.transit_ns is not None:
            copy += f", {step.transit_ns:,} ns {'before' if (step.other_copy or 0) < step.number else 'later'}"
        known = {
            "frame": f"{step.number}",
            "other copy": copy,
            "seen at": _clock(step.time_ns),
            "since start": f"{step.time_ns - self._ladder.start_ns:,} ns",
            "gap": "" if before_ns is None else f"{step.time_ns - before_ns:,} ns",
            "length": f"{step.length:,} bytes",
            "from": _full_name(source),
            "to": _full_name(target),
            "flow": f"{step.flow}",
            "protocol": shown(step.protocol),
            "facts": shown(", ".join(step.facts)),
            "TCP state": "; ".join(states),
            "marks": _marks(step),
            "payload": f'<bdi class="mono">{shown(step.payload)}</bdi>' if step.payload else "",
        }
        return f"<b>{shown(step.title)}</b>{facts(known.items())}"

    def _fold(self, fold: Fold, times: str, before_ns: int | None, label: float) -> str:
        took = format_ns(fold.end_ns - fold.start_ns)
        ways = "".join(self._way(*way) for way in fold.ways)
        why = "" if fold.steps else ": too many to unfold"
        cells = f'{times}<span class="told">⋮ {fold.packets:,} packets in {took}{why}</span>{ways}'
        if fold.steps:
            before = (before_ns, *(step.time_ns for step in fold.steps[:-1]))
            steps = "\n".join(
                self._step(step, self._times(step, at_ns), at_ns)
                for step, at_ns in zip(fold.steps, before, strict=True)
            )
            cells = f'<details><summary class="row">{cells}</summary><ol>\n{steps}\n</ol></details>'
        else:
            cells = f'<div class="row">{cells}</div>'
        return f'<li class="fold">{cells}{self._true_band(fold, label)}</li>'

    def _way(self, source: int, target: int, packets: int, carried: int) -> str:
        """What a fold has left out in one direction, and its arrow."""
        left, right = sorted((source, target))
        text = f"{packets:,} packet{'s' * (packets > 1)} carried {format_bytes(carried)}"
        label = f'<span class="way label" {_place(_line(left), _line(right))}>{text}</span>'
        return label + _arrow(left, right, source == left)

    # To scale: all in percent of a drawing as high as all rows.

    def _axis(self) -> str:
        """Lifelines and ticks."""
        lifelines = (
            f'<line class="{shown(each.kind)}" x1="{self._x(column)}" x2="{self._x(column)}" y1="0" y2="100%"/>'
            for column, each in enumerate(self._ladder.participants)
        )
        ticks = (
            f'<line class="tick" x1="0" x2="{_percent(_PLOT)}" y1="{y}" y2="{y}"/>'
            f'<text x="-6" y="{y}">{format_ns(tick)}</text>'
            for tick in axis_marks(self._end_ns - self._ladder.start_ns)
            for y in [self._y(self._ladder.start_ns + tick)]
        )
        return f'<svg class="true axis" aria-hidden="true">{"".join(ticks)}{"".join(lifelines)}</svg>'

    def _true_arrow(self, step: Step, label: float) -> str:
        """An arrow, which slants if it is known how long the packet took, and a line from it to its label."""
        y = (self._y(words.left_ns(self._ladder, step)), self._y(step.time_ns))
        x = (self._x(step.source), self._x(step.target))
        right = int(step.target > step.source)
        return (
            f'<svg class="true" aria-hidden="true">{_leader(x[right], y[right], label)}'
            f'<line class="shaft" x1="{x[0]}" x2="{x[1]}" y1="{y[0]}" y2="{y[1]}"/></svg>'
        )

    def _true_band(self, fold: Fold, label: float) -> str:
        """The time of packets that are left out, and a line from there to what is told of them."""
        top, bottom = self._scale.place(fold.start_ns), self._scale.place(fold.end_ns)
        return (
            f'<svg class="true" aria-hidden="true"><rect x="0" width="{_percent(_PLOT)}" y="{_percent(top)}"'
            f' height="{_percent(max(bottom - top, 0.002))}"/>'
            f"{_leader(_percent(_PLOT), _percent((top + bottom) / 2), label)}</svg>"
        )

    def _x(self, column: int) -> str:
        return _percent(_PLOT * (column + 0.5) / len(self._ladder.participants))

    def _y(self, time_ns: int) -> str:
        return _percent(self._scale.place(time_ns))


def _leader(x: str, y: str, label: float) -> str:
    """A line to a label: level as far as there are lifelines, so that no two of them cross."""
    edge = _percent(_PLOT)
    return (
        f'<line class="leader" x1="{x}" x2="{edge}" y1="{y}" y2="{y}"/>'
        f'<line class="leader" x1="{edge}" x2="100%" y1="{y}" y2="{_percent(label)}"/>'
    )


def _arrow(left: int, right: int, to_right: bool) -> str:
    """An arrow from one lifeline to another."""
    ends = ("0", "100%") if to_right else ("100%", "0")
    return (
        f'<svg class="arrow" aria-hidden="true" {_place(_line(left), _line(right))}>'
        f'<line class="shaft" x1="{ends[0]}" x2="{ends[1]}" y1="50%" y2="50%"/></svg>'
    )


def _state(side: str, state: str | None, place: str) -> str:
    return f'<span class="state {side}" {place}>{shown(state)}</span>' if state else ""


def _marks(step: Step) -> str:
    return " ".join(
        f'<span class="{"warm" if words.trouble(mark) else "soft whole"}">{shown(words.marked(mark))}</span>'
        for mark in step.marks
    )


def _full_name(participant: Participant) -> str:
    return shown(f"{participant.name} ({participant.note})" if participant.note else participant.name)
