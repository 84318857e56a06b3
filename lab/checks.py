"""Checks of what a user gave, each with an error that names what would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, TypeVar

from lab.errors import UsageError

__all__ = ["MAX_COUNT", "check_count", "pick", "several"]

T = TypeVar("T")

#: Probes in one stream, at most: 64 bytes each are held in memory until the stream ends (1 GiB).
MAX_COUNT = 1 << 24


def pick(what: str, value: Any, known: Iterable[Any]) -> None:
    """Raises UsageError, naming what is known, unless `value` is one of it."""
    known = tuple(known)
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}: choose from {', '.join(map(str, known))}")


def check_count(what: str, value: int, *, low: int = 1, high: int = MAX_COUNT) -> None:
    """Raises UsageError, naming the limits, unless `value` lies within them."""
    if not isinstance(value, Integral):
        raise UsageError(f"a {what} of {value!r}: give a whole number")
    if not low <= value <= high:
        raise UsageError(f"a {what} of {value:,}: give {low:,} to {high:,}")


def several(values: Sequence[T] | T | str, known: tuple[T, ...]) -> tuple[T, ...]:
    """A tuple of one value, of several, or of all that is known ("all")."""
    if values == "all":
        return known
    return (values,) if isinstance(values, str | int) else tuple(values)  # type: ignore[return-value,arg-type]
