"""Paper to write and draw on, in inches from its upper left corner, and how wide a text is before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from lab.figures.style import context

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

    from lab.figures.shown import ShownFigure

__all__ = ["LINE", "Font", "Sheet", "readable"]

#: The distance of two lines of text, as a multiple of their size.
LINE = 1.25
_POINTS = 72
#: Letters on a screen are whole pixels apart: by so much is a small text wider than in print, at 110 dpi and above.
_HINTED = 1.09
#: Those that matplotlib brings along: what is measured is what is drawn, on any machine.
_PROPORTIONAL, _MONOSPACE = "DejaVu Sans", "DejaVu Sans Mono"


@dataclass(frozen=True)
class Font:
    """How a text is written. size: in points."""

    size: float
    bold: bool = False
    mono: bool = False
    color: str = "#000000"

    @property
    def line(self) -> float:
        """The height of a line, in inches."""
        return self.size * LINE / _POINTS

    def width(self, text: str) -> float:
        """In inches, at most."""
        return _HINTED * _width(text, self.mono, self.bold) * self.size / _POINTS

    def fits(self, text: str, width: float) -> bool:
        """Whether it is at most so many inches wide."""
        return self.width(text) <= width

    def shorten(self, text: str, width: float) -> str:
        """As much of it as there is room for, with an ellipsis if that is not all."""
        if self.fits(text, width):
            return text
        return text[: _most(len(text), lambda count: self.fits(text[:count] + "…", width))].rstrip() + "…"

    def wrap(self, text: str, width: float, lines: int) -> list[str]:
        """At most so many lines of it, broken at spaces; words too long for a line behind a dot or the like."""
        words = [word for word in text.split(" ") if word]
        made: list[str] = []
        while words:
            if len(made) == lines - 1:
                return [*made, self.shorten(" ".join(words), width)]
            count = self._words(words, width)
            if count:
                line, words = " ".join(words[:count]), words[count:]
            else:
                word = words[0]
                most = self._letters(word, width)
                line, words = word[:most], [word[most:], *words[1:]]
            made.append(line)
        return made

    def _words(self, words: Sequence[str], width: float) -> int:
        """How many of them fit."""
        return _most(len(words), lambda count: self.fits(" ".join(words[:count]), width))

    def _letters(self, word: str, width: float) -> int:
        """How many letters of it to write into a line: one at least, and as far as a sign rather than as fit."""
        most = _most(len(word), lambda count: self.fits(word[:count], width)) or 1
        return max(word.rfind(sign, most // 2, most) + 1 for sign in ".:,/-") or most


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The greatest number up to `count` that fits, 0 if none does; if a number fits, so do those below it."""
    low, high = 0, count + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@cache
def _properties(mono: bool, bold: bool) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=_MONOSPACE if mono else _PROPORTIONAL, weight="bold" if bold else "normal", size=100)


@lru_cache(maxsize=4096)
def _width(text: str, mono: bool, bold: bool) -> float:
    """As a multiple of its size."""
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, _properties(mono, bold), False)
    return float(width) / 100


@cache
def _glyphs() -> frozenset[int]:
    """The characters that both fonts can show."""
    from matplotlib.font_manager import findfont, get_font

    fonts = [get_font(findfont(_properties(mono, bold))) for mono in (False, True) for bold in (False, True)]
    return frozenset.intersection(*(frozenset(font.get_charmap()) for font in fonts))


def readable(text: str) -> str:
    """The text in one line, with a sign for each character that is not printable or that the fonts do not have."""
    return "".join(
        letter
        if letter.isprintable() and ord(letter) in _glyphs()
        else " "
        if letter.isspace()
        else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


@dataclass
class Sheet:
    """Collects what is to be drawn; ``figure`` makes a figure of it, as high as it has to be. width: in inches."""

    width: float
    _texts: list[tuple[float, float, str, Font, str]] = field(default_factory=list)
    _shapes: list[tuple[Sequence[tuple[float, float]], dict[str, Any]]] = field(default_factory=list)
    _lines: list[tuple[Sequence[tuple[float, float]], dict[str, Any]]] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, font: Font, align: str = "left") -> None:
        """One line. x, y: the left, middle or right end (`align`) of its upper edge."""
        if text:
            self._texts.append((x, y, text, font, align))

    def column(self, x: float, y: float, lines: Iterable[str], font: Font) -> float:
        """Lines one below the other. Returns where the next one would be."""
        for line in lines:
            self.text(x, y, line, font)
            y += font.line
        return y

    def shape(self, corners: Sequence[tuple[float, float]], **look: Any) -> None:
        """A filled polygon; `look` as matplotlib's Polygon has it."""
        self._shapes.append((corners, look))

    def line(self, start: tuple[float, float], end: tuple[float, float], **look: Any) -> None:
        """A straight line; `look` as matplotlib's Line2D has it."""
        self._lines.append(((start, end), look))

    def figure(self, height: float) -> ShownFigure:
        """All of it, so many inches high."""
        with context():
            from matplotlib.lines import Line2D
            from matplotlib.patches import Polygon
            from matplotlib.text import Text

            from lab.figures.shown import ShownFigure

            figure = ShownFigure(figsize=(self.width, height))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, self.width), ylim=(height, 0))
            axes.set_axis_off()
            for corners, look in self._shapes:
                axes.add_patch(Polygon(corners, **look))
            for ends, look in self._lines:
                axes.add_line(Line2D(*zip(*ends, strict=True), **look))
            # Of ff:ff and the field "fl" each letter is to be seen; before 3.11, matplotlib knew no ligatures.
            letters: dict[str, Any] = {"fontfeatures": ("-liga",)} if hasattr(Text, "set_fontfeatures") else {}
            for x, y, text, font, align in self._texts:
                family = _MONOSPACE if font.mono else _PROPORTIONAL
                axes.text(
                    x, y + font.size / _POINTS, text, ha=align, va="baseline", parse_math=False, color=font.color,
                    family=family, size=font.size, weight="bold" if font.bold else "normal", **letters,
                )  # fmt: skip
        return figure
