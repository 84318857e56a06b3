"""What both figures of a ladder are made of: heads, lifelines, arrows, and texts of several fonts in one line.

Everything is in inches from the upper left corner, as on a ``Sheet``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.flow.ladder import words
from lab.flow.ladder.ladders import Ladder, Participant, Step
from lab.flow.sheets import Font, Sheet, readable

__all__ = ["MARGIN", "PAGE", "QUIET", "SHADE", "Look", "Paper", "Run", "fitting", "label_of", "width_of"]

#: Width of a figure that has room for its columns, and what is left free around it.
PAGE, MARGIN = 10.6, 0.25
INK, QUIET, SHADE = "#000000", "#5c5c5c", "#f2f2f2"
_WARM, _WARM_INK = "#D55E00", "#a84300"
_LIFELINE = "#8c8c8c"
#: Of arrows, by the column that they leave from, in turn: Okabe and Ito (2008) without the warm ones.
_SENDERS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9")
_PROJECTOR = 1.6
#: Lines of a head's name, its note, and anything below the ladder, at most.
_NAME, _NOTE, _BELOW = 6, 2, 4
#: From back to front, all before lifelines and behind texts: what hides lifelines, the strokes of a break, arrows.
_GROUND, _STROKE, _ARROW = 2.1, 2.5, 2.6


@dataclass(frozen=True)
class Run:
    """Some text in one font."""

    text: str
    font: Font


class Look:
    """Fonts, and what other sizes are multiplied by: `letters`."""

    def __init__(self, large: bool) -> None:
        self.letters = _PROJECTOR if large else 1.0
        self.heading = self._font(11, bold=True)
        self.name, self.note = self._font(9, bold=True), self._font(8, color=QUIET)
        self.title, self.mark = self._font(9, bold=True), self._font(9, bold=True, color=_WARM_INK)
        self.unusual, self.facts = self._font(9, color=QUIET), self._font(9)
        self.payload, self.small = self._font(8, mono=True), self._font(8, color=QUIET)
        self.state = self._font(7.5, bold=True, color=QUIET)
        self.time, self.gap, self.long = self._font(8), self._font(7.5, color=QUIET), self._font(7.5, bold=True)

    def _font(self, size: float, *, bold: bool = False, mono: bool = False, color: str = INK) -> Font:
        return Font(size * self.letters, bold, mono, color)


def fitting(runs: Sequence[Run], width: float, space: float) -> list[tuple[float, Run]]:
    """As many runs beside each other as there is room for, each with where it begins; the last may be shortened."""
    placed: list[tuple[float, Run]] = []
    x = 0.0
    for number, run in enumerate(runs):
        tail = 0.0 if number == len(runs) - 1 else space + run.font.width("…")
        if not run.font.fits(run.text, width - x - tail):
            return [*placed, (x, Run(run.font.shorten(run.text, width - x), run.font))]
        placed.append((x, run))
        x += run.font.width(run.text) + space
    return placed


def width_of(placed: Sequence[tuple[float, Run]]) -> float:
    """From the beginning of the first to the end of the last."""
    return placed[-1][0] + placed[-1][1].font.width(placed[-1][1].text) if placed else 0.0


def label_of(step: Step, look: Look, *, flow: bool) -> list[Run]:
    """Marks, title and facts. flow: whether the number of its conversation is told."""
    marks = [
        Run(readable(words.marked(mark)), look.mark if words.trouble(mark) else look.unusual) for mark in step.marks
    ]
    told = words.facts(step, flow=flow)
    return [*marks, Run(readable(step.title), look.title), *([Run(readable(told), look.facts)] if told else [])]


class Paper:
    """A sheet with the columns of a ladder. columns: where its lifelines are. width: of the sheet."""

    def __init__(self, ladder: Ladder, look: Look, columns: Sequence[float], width: float) -> None:
        self.ladder, self.look, self.columns, self.width = ladder, look, columns, width
        self.sheet = Sheet(width)
        self._senders = {step.number: step.source for step in ladder.steps}

    def heads(self, *, numbers: bool, right: float) -> float:
        """Title, names and notes of the columns; those may reach to `right`. Returns where the lifelines begin."""
        look, sheet = self.look, self.sheet
        title = look.heading.wrap(readable(self.ladder.title), self.width - 2 * MARGIN, 3)
        top = sheet.column(MARGIN, MARGIN, title, look.heading) + 0.12 * look.letters
        middles = [(left + right) / 2 for left, right in pairwise(self.columns)]
        heads = []
        for number, (each, low, high) in enumerate(
            zip(self.ladder.participants, [MARGIN, *middles], [*middles, right], strict=True)
        ):
            x = self.columns[number]
            width = 2 * min(x - low, high - x) - 0.08 * look.letters
            heads.append((x, _name(each, f"{number + 1}  " if numbers else "", width, look), each, width))
        below = top + max(len(name) for _, name, _, _ in heads) * look.name.line
        bottom = below
        for x, name, each, width in heads:
            y = below - len(name) * look.name.line
            for line in name:
                sheet.text(x, y, line, look.name, "center")
                y += look.name.line
            for line in look.note.wrap(readable(each.note), width, _NOTE):
                sheet.text(x, y, line, look.note, "center")
                y += look.note.line
            bottom = max(bottom, y)
        return bottom + 0.06 * look.letters

    def lifelines(self, top: float, bottom: float) -> None:
        """Those of devices are dashed."""
        for x, each in zip(self.columns, self.ladder.participants, strict=True):
            dashed = each.kind == "device"
            self.sheet.line((x, top), (x, bottom), color=_LIFELINE, linewidth=1.1, linestyle="--" if dashed else "-")

    def broken(self, middle: float) -> None:
        """Breaks the lifelines, for a time that is not drawn."""
        size = 0.045 * self.look.letters
        for x in self.columns:
            self.hide(x - size, middle - size, 2 * size, 2 * size)
            for y in (middle - size, middle + size):
                self.sheet.line((x - 1.5 * size, y + size / 2), (x + 1.5 * size, y - size / 2), color=_LIFELINE,
                                linewidth=1.1, zorder=_STROKE)  # fmt: skip

    def hide(self, x: float, y: float, width: float, height: float, ground: str = "white") -> None:
        """Takes a piece out of the lifelines, to write on."""
        self._area(x, y, width, height, ground, _GROUND)

    def shade(self, left: float, top: float, right: float, bottom: float) -> None:
        """Shades the place of a fold, behind the lifelines."""
        self._area(left, top, right - left, bottom - top, SHADE, 1.0)

    def _area(self, x: float, y: float, width: float, height: float, color: str, zorder: float) -> None:
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        self.sheet.shape(corners, facecolor=color, linewidth=0, zorder=zorder)

    def arrow(self, step: Step, leaves: float, arrives: float) -> None:
        """From one height to another."""
        (x0, y0), (x1, y1) = (self.columns[step.source], leaves), (self.columns[step.target], arrives)
        letters, angle = self.look.letters, math.atan2(y1 - y0, x1 - x0)
        color = _WARM if words.troubled(step) else _SENDERS[self._sender(step) % len(_SENDERS)]
        cos, sin = math.cos(angle), math.sin(angle)
        long, wide = 0.1 * letters, 0.037 * letters
        back = (x1 - long * cos, y1 - long * sin)
        self.sheet.line((x0, y0), back, color=color, linewidth=1.4 * letters, solid_capstyle="butt", zorder=_ARROW)
        head = [(x1, y1), (back[0] - wide * sin, back[1] + wide * cos), (back[0] + wide * sin, back[1] - wide * cos)]
        self.sheet.shape(head, facecolor=color, linewidth=0, zorder=_ARROW)

    def _sender(self, step: Step) -> int:
        """The column of who sent it: of what comes from a device, that of its other copy."""
        if step.other_copy is None or self.ladder.participants[step.source].kind != "device":
            return step.source
        return self._senders.get(step.other_copy, step.source)

    def runs(self, x: float, y: float, placed: Sequence[tuple[float, Run]], ground: str = "white") -> None:
        """Texts beside each other, their first letter at (x, y), on that ground."""
        if placed:
            self.hide(x - 0.02, y, width_of(placed) + 0.04, placed[0][1].font.line, ground)
        for begin, run in placed:
            self.sheet.text(x + begin, y, run.text, run.font)

    def footer(self, y: float, note: str) -> float:
        """What stands below the ladder, and how to read it. Returns where the sheet ends."""
        for text in (*words.below(self.ladder), note):
            lines = self.look.small.wrap(readable(text), self.width - 2 * MARGIN, _BELOW)
            y = self.sheet.column(MARGIN, y, lines, self.look.small)
        return y + MARGIN


def _name(each: Participant, number: str, width: float, look: Look) -> list[str]:
    """In lines; the port of an endpoint that is too wide begins one."""
    name = number + readable(each.name)
    address, _, port = name.rpartition(":")
    has_port = each.kind == "endpoint" and (address.endswith("]") or (address and ":" not in address))
    if has_port and not look.name.fits(name, width):
        name = f"{address} :{port}"
    return look.name.wrap(name, width, _NAME)
