"""A ladder as a figure with the same distance between all rows; ``ladder_scale`` draws it to scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import UsageError
from lab.flow.ladder import words
from lab.flow.ladder.ladders import Fold, Ladder, Step
from lab.flow.ladder.layout import shift_into
from lab.flow.ladder.scale import draw_to_scale
from lab.flow.ladder.sheet import MARGIN, PAGE, SHADE, Look, Paper, Run, fitting, label_of, width_of
from lab.flow.sheets import readable

if TYPE_CHECKING:
    from lab.figures.shown import ShownFigure

__all__ = ["draw_ladder"]

#: Inches, for letters of the usual size: between two columns, at least; beside the outer ones, for half of their names,
#: at least; the longest state, SYN-SENT → SYN-RECEIVED.
_APART, _HEAD, _STATE = 1.15, 0.7, 2.1
#: Between what belongs together; between an arrow and what is written above it, and the next row; a break.
_SPACE, _CLEAR, _AFTER, _BREAK = 0.08, 0.075, 0.15, 0.2
#: How much lower than it begins an arrow ends that took a known time.
_SLANT = 0.05
#: Rows of a picture, at most: beyond, it has more pixels than programs open.
_ROWS = 300
#: Lines of a fold, at most.
_FOLD = 3
_NOTE = "At the left: time since the first packet, and since the row before."
_BROKEN = "Lifelines are broken where more than 10 times the median passed."


def draw_ladder(ladder: Ladder) -> ShownFigure:
    """The ladder, as high as it has to be, and wider than a page only for more columns than that has room for.

    Raises UsageError if it would be too high for a picture.
    """
    if len(ladder) > _ROWS:
        raise UsageError(
            f"{len(ladder):,} rows are too many for a picture: ask for at most {_ROWS}, or save it as a page"
        )
    return draw_to_scale(ladder) if ladder.to_scale else _Evenly(ladder).figure()


class _Evenly:
    """Draws row by row."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder, self._look = ladder, Look(ladder.large)
        look, letters = self._look, self._look.letters
        self._flow, self._numbers = words.ambiguous(ladder), words.numbered(ladder)
        self._gaps = words.gaps(ladder)
        self._breaks = words.breaks(self._gaps)
        self._time = MARGIN + max((look.time.width(words.since(ladder, row)) for row in ladder.rows), default=0)
        gap = max((look.long.width(words.gap_text(gap)) for gap in self._gaps), default=0)
        self._gap = self._time + 0.12 * letters + gap
        self._left = self._gap + 0.15 * letters
        self._right, columns = self._columns()
        self._paper = Paper(ladder, look, columns, self._right + MARGIN)

    def _columns(self) -> tuple[float, list[float]]:
        """The right end of what is written, and where the lifelines are."""
        ladder, letters = self._ladder, self._look.letters
        last = len(ladder.participants) - 1
        states = [
            (column, min(self._look.state.width(readable(state)), _STATE * letters) + 2 * _SPACE * letters)
            for column, state in words.states(ladder)
        ]
        sides = [max((width for column, width in states if column == side), default=0) for side in (0, last)]
        left, right = (max(side, _HEAD * letters) for side in sides)
        inside = max((width for _, width in states), default=0) + _SPACE * letters if last > 1 else 0
        apart = max(_APART * letters, inside)
        end = max(PAGE - MARGIN, self._left + left + last * apart + right)
        first, room = self._left + left, end - right - self._left - left
        return end, [first + room * number / max(last, 1) for number in range(last + 1)]

    def figure(self) -> ShownFigure:
        paper, letters = self._paper, self._look.letters
        top = paper.heads(numbers=self._numbers, right=self._right)
        said = any(self._said(step) for step in self._ladder.steps)
        y = top
        for row, gap, long in zip(self._ladder.rows, self._gaps, self._breaks, strict=True):
            if long:
                self._break(y + _BREAK * letters / 2, words.gap_text(gap))
                y += _BREAK * letters
            if isinstance(row, Fold):
                y = self._fold(row, y)
            else:
                y = self._step(row, y, "" if long else words.gap_text(gap), said=said)
        bottom = y + 0.1 * letters
        paper.lifelines(top, bottom)
        note = f"{_NOTE} {_BROKEN}" if any(self._breaks) else _NOTE
        return paper.sheet.figure(paper.footer(bottom + 0.1 * letters, note))

    def _break(self, middle: float, gap: str) -> None:
        self._paper.broken(middle)
        font = self._look.long
        self._paper.sheet.text(self._gap, middle - font.line / 2, gap, font, "right")

    def _fold(self, fold: Fold, y: float) -> float:
        """Returns where the next row begins."""
        paper, look = self._paper, self._look
        lines = look.facts.wrap(words.folded(fold, numbers=self._numbers), self._right - self._left, _FOLD)
        bottom = y + len(lines) * look.facts.line + 0.12 * look.letters
        paper.shade(self._left, y + 0.02, self._right, bottom - 0.02)
        self._at(words.since(self._ladder, fold), "", (y + bottom) / 2)
        y += 0.06 * look.letters
        for line in lines:
            run = [(0.0, Run(line, look.facts))]
            middle = sum(paper.columns[end] for end in words.span(fold)) / 2
            paper.runs(shift_into(middle, width_of(run), self._left, self._right), y, run, SHADE)
            y += look.facts.line
        return bottom + 0.06 * look.letters

    def _said(self, step: Step) -> list[Run]:
        """What stands between its label and its arrow."""
        runs = [
            Run(readable(words.transit(self._ladder, step)), self._look.small),
            Run(readable(words.payload(step)), self._look.payload),
        ]
        return [run for run in runs if run.text]

    def _step(self, step: Step, y: float, gap: str, *, said: bool) -> float:
        """Returns where the next row begins. said: whether a line for what packets say is kept free in each row."""
        look, letters = self._look, self._look.letters
        own = self._said(step)
        label = y + (look.payload.line if said and not own else 0)
        self._line(step, label_of(step, look, flow=self._flow), label)
        self._line(step, own, y + look.facts.line)
        middle = y + look.facts.line + (look.payload.line if said else 0) + _CLEAR * letters
        slant = _SLANT * letters / 2 if words.left_ns(self._ladder, step) != step.time_ns else 0
        self._paper.arrow(step, middle - slant, middle + slant)
        self._states(step, middle - slant, middle + slant)
        self._at(words.since(self._ladder, step), gap, middle)
        return middle + _AFTER * letters

    def _line(self, step: Step, runs: list[Run], y: float) -> None:
        """Text about the middle of an arrow, or as near to it as there is room."""
        placed = fitting(runs, self._right - self._left, _SPACE * self._look.letters)
        columns = self._paper.columns
        middle = (columns[step.source] + columns[step.target]) / 2
        self._paper.runs(shift_into(middle, width_of(placed), self._left, self._right), y, placed)

    def _states(self, step: Step, leaves: float, arrives: float) -> None:
        """At the outer sides of the arrow: that row has no other."""
        font, space = self._look.state, _SPACE * self._look.letters
        outward = -1 if step.source < step.target else 1
        ends = ((step.source, leaves, outward), (step.target, arrives, -outward))
        for (column, y, way), state in zip(ends, step.states, strict=True):
            if state:
                text = font.shorten(readable(state), _STATE * self._look.letters)
                x = self._paper.columns[column] + way * space
                x -= font.width(text) if way < 0 else 0
                self._paper.runs(x, y - font.line / 2, [(0.0, Run(text, font))])

    def _at(self, time: str, gap: str, middle: float) -> None:
        """Time and gap of a row, at the height of its arrow."""
        for x, text, font in ((self._time, time, self._look.time), (self._gap, gap, self._look.gap)):
            self._paper.sheet.text(x, middle - font.line / 2, text, font, "right")
