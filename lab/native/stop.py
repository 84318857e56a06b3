"""A flag that ends what runs in C."""

from __future__ import annotations

from lab._native import ffi

__all__ = ["Stop"]


class Stop:
    """A flag that ends a running stream within 50 ms. Any thread may set it."""

    def __init__(self) -> None:
        self._flag = ffi.new("int32_t *")

    def set(self) -> None:
        """Ends the stream that was given this flag."""
        self._flag[0] = 1
