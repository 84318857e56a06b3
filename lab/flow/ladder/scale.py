"""A ladder as a figure to scale: arrows where their times are on a linear axis, what they are in a column beside it."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from lab.flow.ladder import words
from lab.flow.ladder.ladders import Fold, Ladder, Row
from lab.flow.ladder.layout import Scale, axis_marks, spread
from lab.flow.ladder.sheet import MARGIN, PAGE, QUIET, Look, Paper, Run, fitting, label_of
from lab.flow.sheets import readable
from lab.units import format_ns

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure

__all__ = ["draw_to_scale"]

#: Inches, for letters of the usual size: between two columns, at least; the column of what is told, at least; the
#: leader lines; the axis, at least.
_APART, _LABELS, _LEADERS, _AXIS = 1.0, 4.4, 0.55, 4.0
#: The share of what is left that lifelines have, rather than labels.
_SHARE = 0.3
#: Between what belongs together; the height of the shortest fold.
_SPACE, _THINNEST = 0.08, 0.03
_LEADER = "#a0a0a0"
_NOTE = "To scale: the axis is the time since the first packet. Numbers are those of the columns."


def draw_to_scale(ladder: Ladder) -> ShownFigure:
    """The ladder, as high as its labels have to be; the axis is linear, so that arrows may lie upon each other."""
    return _ToScale(ladder).figure()


class _ToScale:
    """From the left: the axis, the lifelines, leader lines, and of each row time, gap, columns, and what is told."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder, self._look = ladder, Look(ladder.large)
        look, letters = self._look, self._look.letters
        self._left = [words.left_ns(ladder, row) for row in ladder.rows]
        self._arrived = [words.end_ns(row) for row in ladder.rows]
        self._low, self._high = min([ladder.start_ns, *self._left]), max([ladder.start_ns, *self._arrived])
        marks = axis_marks(self._high - self._low)
        self._marks = [mark for mark in marks if ladder.start_ns + mark <= self._high]
        self._axis = MARGIN + max(look.time.width(format_ns(mark)) for mark in self._marks) + 0.1 * letters
        last = len(ladder.participants) - 1
        first = self._axis + 0.3 * letters
        end = max(first + last * _APART * letters, first + (PAGE - MARGIN - first) * _SHARE)
        columns = [first + (end - first) * number / max(last, 1) for number in range(last + 1)]

        self._fonts = (look.time, look.gap, look.small)
        self._heads = [_head(ladder, row, gap) for row, gap in zip(ladder.rows, words.gaps(ladder), strict=True)]
        texts = zip(*self._heads, strict=True) if self._heads else ((), (), ())
        widths = [max(map(font.width, each), default=0) for font, each in zip(self._fonts, texts, strict=True)]
        self._labels = end + _LEADERS * letters
        self._ends = [
            x - _SPACE * letters for x in accumulate((w + _SPACE * letters for w in widths), initial=self._labels)
        ][1:]
        self._told = self._ends[-1] + _SPACE * letters
        self._paper = Paper(ladder, look, columns, max(PAGE, self._told + _LABELS * letters + MARGIN))

    def figure(self) -> ShownFigure:
        paper, look, rows = self._paper, self._look, self._ladder.rows
        space = 0.1 * look.letters
        top = paper.heads(numbers=True, right=paper.width - MARGIN) + space
        pitch = look.facts.line * 1.25
        scale = Scale(self._low, self._high, top, top + max(_AXIS * look.letters, pitch * len(rows)))
        self._draw_axis(scale)
        paper.lifelines(top - space, scale.bottom + space)
        middles = [scale.y((left + arrived) // 2) for left, arrived in zip(self._left, self._arrived, strict=True)]
        order = sorted(range(len(rows)), key=middles.__getitem__)
        heights = spread([middles[number] for number in order], pitch, scale.top, scale.bottom)
        flow = words.ambiguous(self._ladder)
        for number, height in zip(order, heights, strict=True):
            self._draw(number, scale)
            self._label(number, height, flow=flow)
            self._lead(number, scale, height)
        return paper.sheet.figure(paper.footer(scale.bottom + 2.5 * space, _NOTE))

    def _draw_axis(self, scale: Scale) -> None:
        """A line with round times at its left."""
        sheet, letters, font, x = self._paper.sheet, self._look.letters, self._look.time, self._axis
        sheet.line((x, scale.top), (x, scale.bottom), color=QUIET, linewidth=0.8)
        for mark in self._marks:
            y = scale.y(self._ladder.start_ns + mark)
            sheet.line((x - 0.04 * letters, y), (x, y), color=QUIET, linewidth=0.8)
            sheet.text(x - 0.07 * letters, y - font.line / 2, format_ns(mark), font, "right")

    def _draw(self, number: int, scale: Scale) -> None:
        """The arrow of a row, or the time that its packets took."""
        row, left, arrived = self._ladder.rows[number], self._left[number], self._arrived[number]
        if isinstance(row, Fold):
            columns, top = self._paper.columns, scale.y(left)
            self._paper.shade(columns[0], top, columns[-1], max(scale.y(arrived), top + _THINNEST))
        else:
            self._paper.arrow(row, scale.y(left), scale.y(arrived))

    def _label(self, number: int, height: float, *, flow: bool) -> None:
        look = self._look
        for x, text, font in zip(self._ends, self._heads[number], self._fonts, strict=True):
            self._paper.sheet.text(x, height - font.line / 2, text, font, "right")
        runs = _told(self._ladder, self._ladder.rows[number], look, flow=flow)
        placed = fitting(runs, self._paper.width - MARGIN - self._told, _SPACE * look.letters)
        self._paper.runs(self._told, height - look.facts.line / 2, placed)

    def _lead(self, number: int, scale: Scale, height: float) -> None:
        """A thin line from the right end of an arrow, or the middle of a fold, to its label."""
        row, left, arrived = self._ladder.rows[number], scale.y(self._left[number]), scale.y(self._arrived[number])
        columns, letters = self._paper.columns, self._look.letters
        if isinstance(row, Fold):
            start = (columns[-1], (left + arrived) / 2)
        else:
            start = (columns[row.target], arrived) if row.source < row.target else (columns[row.source], left)
        bend = (columns[-1] + 0.12 * letters, start[1])
        for ends in ((start, bend), (bend, (self._labels - 0.06 * letters, height))):
            self._paper.sheet.line(*ends, color=_LEADER, linewidth=0.5, zorder=1.5)


def _head(ladder: Ladder, row: Row, gap: int | None) -> tuple[str, str, str]:
    """Time, gap, and the columns of an arrow."""
    way = "" if isinstance(row, Fold) else f"{row.source + 1}→{row.target + 1}"
    return words.since(ladder, row), words.gap_text(gap), way


def _told(ladder: Ladder, row: Row, look: Look, *, flow: bool) -> list[Run]:
    """What stands beside an arrow, the most important first: the last of it may be cut off."""
    if isinstance(row, Fold):
        return [Run(words.folded(row, numbers=True), look.facts)]
    ends = zip((row.source, row.target), row.states, strict=True)
    states = ", ".join(f"{column + 1} {state}" for column, state in ends if state)
    runs = [
        *label_of(row, look, flow=flow),
        Run(readable(states), look.state),
        Run(words.transit(ladder, row), look.small),
        Run(readable(words.payload(row)), look.payload),
    ]
    return [run for run in runs if run.text]
