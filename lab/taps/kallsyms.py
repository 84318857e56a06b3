"""The kernel's functions by address, as /proc/kallsyms tells them to those who may know."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path

__all__ = ["functions_at"]

_KALLSYMS = Path("/proc/kallsyms")
_FUNCTIONS = b"TtWw"  # types of symbols, as nm(1) has them; the last two are weak ones


def functions_at(addresses: Iterable[int], path: Path = _KALLSYMS) -> dict[int, str | None]:
    """The function that each address lies in; None where that is hidden (sysctl kernel.kptr_restrict) or there is none.

    It takes a pass over some 100,000 lines, a tenth of a second: ask for many at once. Raises OSError.
    """
    wanted = set(addresses)
    if not wanted:
        return {}
    # A line has the address, in hexadecimal digits of one number, a type, a name, and the module if it is in one. As
    # text, such addresses sort as numbers do; those of modules come last, wherever they are.
    lines = path.read_bytes().splitlines()
    digits = lines[0].index(b" ") if lines else 0
    hidden = b"0" * digits
    symbols = sorted(line for line in lines if line[digits + 1] in _FUNCTIONS and not line.startswith(hidden))
    found: dict[int, str | None] = {}
    for each in wanted:
        if at := bisect_right(symbols, b"%0*x ~" % (digits, each)):  # no type of a symbol sorts behind "~"
            first = bisect_left(symbols, symbols[at - 1][:digits])  # it may have several names
            found[each] = symbols[first].split()[2].decode(errors="replace")
        else:
            found[each] = None
    return found
