"""Where things of a ladder stand in its figure: pure functions, in inches and ns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "axis_marks", "shift_into", "spread"]

#: Marks of a time axis, at most.
_MARKS = 8


@dataclass(frozen=True)
class Scale:
    """A linear time axis. low_ns, high_ns: its ends; top, bottom: where they are."""

    low_ns: int
    high_ns: int
    top: float
    bottom: float

    def y(self, time_ns: int) -> float:
        """Where a time is; all of no duration is at the top."""
        return self.top + (self.bottom - self.top) * (time_ns - self.low_ns) / max(self.high_ns - self.low_ns, 1)


def axis_marks(length_ns: int) -> range:
    """Durations for an axis of that length: not more than 8, 1, 2, 5, 10, … ns apart."""
    step = 1
    while True:
        for each in (step, 2 * step, 5 * step):
            if length_ns < each * _MARKS:
                return range(0, length_ns + 1, each)
        step *= 10


def shift_into(middle: float, width: float, low: float, high: float) -> float:
    """Where something of that width begins, if it is about `middle`, and between `low` and `high` as far as it fits."""
    return max(low, min(middle - width / 2, high - width))


def spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Heights in the order of those wanted, as near to them as they can be: none nearer to the next than `distance`.

    They lie between `low` and `high`, where there must be room for them. wanted: ascending.
    """
    blocks: list[tuple[float, int]] = []  # heights that touch: where they begin, and how many
    for height in wanted:
        begin, count = height, 1
        while blocks and blocks[-1][0] + blocks[-1][1] * distance > begin:
            before, number = blocks.pop()
            begin = (before * number + (begin - number * distance) * count) / (number + count)
            count += number
        blocks.append((begin, count))
    heights = [begin + i * distance for begin, count in blocks for i in range(count)]
    last = len(heights) - 1
    return [min(max(height, low + i * distance), high - (last - i) * distance) for i, height in enumerate(heights)]
