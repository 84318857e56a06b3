"""What came of an injection."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["Injection", "Sent"]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """How far an injection is."""

    sent: int
    failed: int
    total: int
    elapsed_ns: int


@dataclass(frozen=True, kw_only=True)
class Injection:
    """What came of an injection.

    link: as it was asked for. path: the ways that packets left by, such as "l2" or "raw4+raw6". sent: that the kernel
    took; failed: that it refused, by errno in ``errors``; left_out: that were never handed to it. delivered: that came
    in at the other end, by a tap there; None: it can't be counted. bytes: of those sent, from the first byte that left.
    duration_ns: from the first call to the end of the last. retried: refusals for want of room, after which it was
    tried again. late: packets by how late they left, in the bins of ``lab.native.injection.LATE_EDGES_NS``; None: none
    was due at a time. late_min_ns, late_max_ns, late_mean_ns: of that, exact. interrupted: it was stopped before its
    end. error: what ended it, or None. warnings: what is doubtful, with remedies.
    """

    link: str
    path: str
    sent: int
    bytes: int
    failed: int
    left_out: int
    delivered: int | None
    duration_ns: int
    retried: int
    errors: dict[int, int] = field(default_factory=dict)
    late: npt.NDArray[np.int64] | None = None
    late_min_ns: int = 0
    late_max_ns: int = 0
    late_mean_ns: float = 0.0
    interrupted: bool = False
    error: str | None = None
    warnings: tuple[str, ...] = ()
