"""Which way each frame of a source leaves, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Survey"]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A row a frame of the source, shape (n,): what is sent of it, by which of the ways of ``lab.native.injection``.

    offsets: in the file, of the first byte that is sent (raw sockets take no link layer); lengths: bytes sent. lanes:
    the thread that sends it; None: one does, or the fields tell. time_ns: when it passed, by the file; None: not asked.
    path: the ways that occur, such as "l2" or "raw4+raw6". left_out: frames that are not sent, by reason; undelivered:
    frames that are sent, and will not arrive, by reason. Both reasons are whole phrases, such as "larger than the MTU
    of lo (65,536)".
    """

    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    ways: npt.NDArray[np.uint8]
    lanes: npt.NDArray[np.uint8] | None
    time_ns: npt.NDArray[np.int64] | None
    path: str
    left_out: dict[str, int] = field(default_factory=dict)
    undelivered: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
