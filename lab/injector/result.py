"""What came of an injection."""

from __future__ import annotations

import dataclasses
import errno
import html
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lab.injector.remarks import ended_by, number_of, remarks
from lab.native.injection import LATE_EDGES_NS, Counts
from lab.stats import MIN_SAMPLES_P999, QUANTILES
from lab.units import format_bytes, format_ns, format_pace

if TYPE_CHECKING:
    import polars as pl

    from lab.injector.survey import Survey

__all__ = ["Injection", "Sent"]

_WIDTH = 80


@dataclass(frozen=True, kw_only=True)
class Sent:
    """How far an injection is."""

    sent: int
    failed: int
    total: int
    elapsed_ns: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Injection:
    """What came of an injection.

    link: as it was asked for. path: the ways that packets left by, such as "l2" or "raw4+raw6". sent: that the kernel
    took; failed: that it refused, by errno in ``errors``; left_out: frames of the source that were never handed to it.
    delivered: that came in at the other end, by a tap there; None: it can't be counted. bytes: of those sent, from the
    first byte that left. duration_ns: from the first call to the end of the last. retried: refusals for want of room,
    after which it was tried again. late: packets by how late they left, in the bins of
    ``lab.native.injection.LATE_EDGES_NS``; None: none was due at a time. late_min_ns, late_max_ns, late_mean_ns: of
    that, exact. due_ns: when the last one sent was due, from the first on. interrupted: it was stopped before its end.
    error: what ended it, or None. warnings: what is doubtful, with remedies.
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
    due_ns: int = 0
    interrupted: bool = False
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        lanes: Sequence[Counts],
        survey: Survey,
        *,
        link: str,
        delivered: int | None,
        scheduled: bool,
        interrupted: bool = False,
        error: int = 0,
        total: int,
        warnings: Sequence[str] = (),
    ) -> Self:
        """What came of all lanes together.

        scheduled: packets were due at times. error: the errno that ended it, or 0. total: packets that were to be sent.
        warnings: what else is doubtful, told first.
        """
        ran = [lane for lane in lanes if lane.ended_ns]
        sending = [lane for lane in ran if lane.sent]
        sent = sum(lane.sent for lane in lanes)
        refusals = sorted((lane.first_failed, lane.first_error) for lane in ran if lane.failed)
        plain = cls(
            link=link,
            path=survey.path,
            sent=sent,
            bytes=sum(lane.bytes for lane in lanes),
            failed=sum(lane.failed for lane in lanes),
            left_out=sum(survey.left_out.values()),
            delivered=delivered,
            duration_ns=max(lane.ended_ns for lane in ran) - min(lane.begun_ns for lane in ran) if ran else 0,
            retried=sum(lane.retried for lane in lanes),
            errors=dict(sum((Counter(lane.errors) for lane in lanes), Counter())),
            late=np.sum([lane.late for lane in lanes], axis=0) if scheduled else None,
            late_min_ns=min((lane.late_min_ns for lane in sending), default=0),
            late_max_ns=max((lane.late_max_ns for lane in sending), default=0),
            late_mean_ns=sum(lane.late_sum_ns for lane in sending) / sent if sent else 0.0,
            due_ns=max((lane.last_due_ns for lane in sending), default=0),
            interrupted=interrupted,
            error=ended_by(error, link, sent, total) if error else None,
        )
        doubts = remarks(plain, survey, {number: packet for packet, number in reversed(refusals)})
        return dataclasses.replace(plain, warnings=(*warnings, *doubts))

    @property
    def pps(self) -> float:
        """Packets sent in a second; 0 if there were none."""
        return self.sent * 1e9 / self.duration_ns if self.duration_ns else 0.0

    @property
    def lost(self) -> int | None:
        """Packets that were sent and did not come in at the other end; None: it can't be told.

        That is where none are counted, or more than were sent, or where it was interrupted with some under way.
        """
        if self.delivered is None or self.delivered > self.sent or (self.interrupted and self.delivered < self.sent):
            return None
        return self.sent - self.delivered

    @property
    def complete(self) -> bool:
        """Whether the kernel took every packet that was to be sent, up to where a limit or Ctrl-C ended it."""
        return self.sent > 0 and not (self.failed or self.left_out or self.error)

    @property
    def pacing_error_ns(self) -> dict[str, int | None] | None:
        """How late packets left, in int64 ns: min, p50, p90, p99, p999, max and mean; None: none was due at a time.

        Quantiles are those of the bins, rounded up to the bin's end: by 1.6 % at most. Each is None if nothing was
        sent, p999 also of too few packets.
        """
        if self.late is None:
            return None
        count = int(self.late.sum())
        if not count:
            return dict.fromkeys(("min", *QUANTILES, "max", "mean"))
        reached, last_ns = np.cumsum(self.late), np.append(LATE_EDGES_NS[1:] - 1, self.late_max_ns)

        def quantile(part: float) -> int:
            bin_ = int(np.searchsorted(reached, math.ceil(part * count)))
            return min(max(int(last_ns[bin_]), self.late_min_ns), self.late_max_ns)

        quantiles = {name: quantile(part) for name, part in QUANTILES.items()}
        rare = {} if count >= MIN_SAMPLES_P999 else {"p999": None}
        mean = round(self.late_mean_ns)
        return {"min": self.late_min_ns, **quantiles, **rare, "max": self.late_max_ns, "mean": mean}

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1; all times in ns, refusals by the names of their errno."""
        return {
            "format": 1,
            "link": self.link,
            "path": self.path,
            "sent": self.sent,
            "failed": self.failed,
            "delivered": self.delivered,
            "lost": self.lost,
            "bytes": self.bytes,
            "duration_ns": self.duration_ns,
            "pps": round(self.pps, 3),
            "pacing_error_ns": self.pacing_error_ns,
            "left_out": self.left_out,
            "retried": self.retried,
            "errors": self._errors,
            "interrupted": self.interrupted,
            "error": self.error,
            "warnings": list(self.warnings),
        }

    def to_polars(self) -> pl.DataFrame:
        """The pacing error as a histogram: a row for each bin that has packets, empty without a schedule.

        from_ns, to_ns: a packet in the bin was at least so late, and less than that (null: the last bin is open).
        """
        import polars as pl

        late = np.zeros(len(LATE_EDGES_NS), np.int64) if self.late is None else self.late
        bins = {"from_ns": LATE_EDGES_NS, "to_ns": [*LATE_EDGES_NS[1:].tolist(), None], "packets": late}
        return pl.DataFrame(bins, schema=dict.fromkeys(bins, pl.Int64)).filter(pl.col("packets") > 0)

    @property
    def _errors(self) -> dict[str, int]:
        return {errno.errorcode.get(number, "other"): count for number, count in sorted(self.errors.items())}

    def lines(self) -> list[str]:
        """It as text, for 80 columns, but for what ended it and the warnings."""
        rate = f" in {format_ns(self.duration_ns)}: {format_pace(1e9 / self.pps)}" if self.sent else ""
        path = f" by {self.path}" if self.path else ""
        told = [f"{number_of(self.sent, 'packet')} sent on {self.link}{path}{rate}, {format_bytes(self.bytes)}"]
        fates = ["whether they arrived can't be counted" if self.delivered is None else f"{self.delivered:,} delivered"]
        if self.lost is not None:
            fates.append(f"{self.lost:,} lost" if self.lost else "none lost")
        if self.failed:
            by_name = ", ".join(f"{name} {count:,}" for name, count in self._errors.items())
            fates.append(f"{self.failed:,} refused ({by_name})")
        fates += [f"{number_of(self.left_out, 'frame')} left out"] if self.left_out else []
        fates += [f"{self.retried:,} retried"] if self.retried else []
        told.append(", ".join(fates))
        if (pacing := self.pacing_error_ns) and self.sent:
            shown = [f"{name} {format_ns(pacing[name])}" for name in ("p50", "p90", "p99", "max")]
            told.append("  ".join(["pacing error", *shown]))
        told += ["interrupted"] if self.interrupted else []
        return [line for text in told for line in textwrap.wrap(text, _WIDTH)]

    def __str__(self) -> str:
        error = [f"error: {self.error}"] if self.error else []
        return "\n".join([*self.lines(), *error, *(f"warning: {text}" for text in self.warnings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
