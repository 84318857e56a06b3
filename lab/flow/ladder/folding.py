"""Which packets of many a picture shows, and which it folds. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["kept"]

Array = npt.NDArray[Any]


def kept(interest: Array, rows: int) -> Array:
    """Which of some packets are shown, if they and the folds between them are to be at most so many rows.

    interest: shape (n,), integers: the greater ones are kept first, and of equal ones those nearest to the beginning or
    the end. A fold of one packet takes as much room as the packet: that is shown instead. Returns shape (n,), bool.
    """
    count = len(interest)
    if count <= rows:
        return np.ones(count, bool)
    place = np.arange(count)
    order = np.lexsort((np.minimum(place, count - 1 - place), -interest))
    for most in range(rows, 0, -1):
        shown = np.zeros(count, bool)
        shown[order[:most]] = True
        alone = ~shown
        alone[1:] &= shown[:-1]
        alone[:-1] &= shown[1:]
        shown |= alone
        hidden = np.diff(np.concatenate(([0], (~shown).astype(np.int8)))) == 1
        if shown.sum() + hidden.sum() <= rows:
            return shown
    return np.zeros(count, bool)
