"""Requests and the answers to them, as they were captured: pairs of packets, round trips, a table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from lab import stats
from lab.injector.result import Injection
from lab.tables import plain_columns
from lab.taps.findings import aligned
from lab.taps.lines import DESCRIBED, describe_frames
from lab.taps.live import LiveCapture
from lab.taps.matching import KINDS, Matches
from lab.taps.packets import Packet
from lab.units import format_ns

if TYPE_CHECKING:
    import pandas
    import polars as pl

__all__ = ["Answers", "Pairs", "Unanswered"]

#: Rows that are shown.
_SHOWN = 10

Array = npt.NDArray[Any]


class Pairs(Sequence[tuple[Packet, Packet]]):
    """Requests with their answers, as pairs of scapy packets, each dissected when it is taken out.

    rtt_ns: from the one to the other, by the kernel's stamps; int64, shape (n,). A slice is another such sequence.
    """

    def __init__(self, capture: LiveCapture, request: Array, answer: Array, rtt_ns: npt.NDArray[np.int64]) -> None:
        self._capture, self._request, self._answer, self.rtt_ns = capture, request, answer, rtt_ns

    def __len__(self) -> int:
        return len(self._request)

    @overload
    def __getitem__(self, index: int) -> tuple[Packet, Packet]: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> tuple[Packet, Packet] | Pairs:
        request, answer = self._request[index], self._answer[index]
        if isinstance(index, slice):
            return Pairs(self._capture, request, answer, self.rtt_ns[index])
        return self._capture[int(request)], self._capture[int(answer)]

    def __repr__(self) -> str:
        return f"{len(self):,} answered packets"


class Unanswered(Sequence[Packet]):
    """Requests without an answer, as scapy packets, each dissected when it is taken out; those not seen come last."""

    def __init__(self, capture: LiveCapture, request: Array, unseen: Sequence[Packet]) -> None:
        self._capture, self._request, self._unseen = capture, request, unseen

    def __len__(self) -> int:
        return len(self._request) + len(self._unseen)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Unanswered: ...
    def __getitem__(self, index: int | slice) -> Packet | Unanswered:
        places = range(len(self))[index]
        seen = len(self._request)
        if isinstance(places, int):
            return self._capture[int(self._request[places])] if places < seen else self._unseen[places - seen]
        chosen = np.array([place for place in places if place < seen], np.int64)
        return Unanswered(
            self._capture, self._request[chosen], [self._unseen[place - seen] for place in places if place >= seen]
        )

    def __repr__(self) -> str:
        return f"{len(self):,} unanswered packets"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answers:
    """What was sent and what answered it; ``answered, unanswered = answers`` as of scapy's ``sr``.

    capture: all that passed meanwhile, at the interface that the requests left by. injection: what came of sending.
    interrupted: by Ctrl-C. matches: a row a request that was seen, of rows of the capture. numbers: of these packets in
    the order in which they were to be sent, from 0. time_ns: the kernel's stamps of the capture's frames. unseen:
    requests that were not seen to leave, 1,000 at most. warnings: what is doubtful, with remedies.
    """

    capture: LiveCapture
    injection: Injection
    interrupted: bool
    warnings: tuple[str, ...]
    matches: Matches
    numbers: Array
    time_ns: npt.NDArray[np.int64]
    unseen: tuple[Packet, ...]

    @property
    def answered(self) -> Pairs:
        """The requests that were answered, with their answers."""
        there = self._there
        return Pairs(self.capture, self.matches.request[there], self.matches.answer[there], self.rtt_ns)

    @property
    def unanswered(self) -> Unanswered:
        """The others."""
        return Unanswered(self.capture, self.matches.request[~self._there], self.unseen)

    def __iter__(self) -> Iterator[Pairs | Unanswered]:
        return iter((self.answered, self.unanswered))

    @property
    def rtt_ns(self) -> npt.NDArray[np.int64]:
        """From each request that was answered to its answer, by the kernel's stamps: shape (n,)."""
        there = self._there
        rtt_ns: npt.NDArray[np.int64] = (
            self.time_ns[self.matches.answer[there]] - self.time_ns[self.matches.request[there]]
        )
        return rtt_ns

    @property
    def duplicates(self) -> int:
        """Answers to what was answered already; the first one counts."""
        return len(self.matches.repeated)

    @property
    def _there(self) -> npt.NDArray[np.bool_]:
        there: npt.NDArray[np.bool_] = self.matches.answer >= 0
        return there

    def to_polars(self) -> pl.DataFrame:
        """A row a request that was seen, in the order of the capture.

        number: of the packet, from 0, in the order in which they were to be sent. kind: of its answer
        (``lab.taps.matching``). request_ns: when it passed the tap, since 1970; rtt_ns: from there to its answer. All
        of the answer is null if there is none. request_frame, answer_frame: their numbers in the capture, from 1.
        """
        import polars as pl

        there = pl.Series(self._there)
        answer = self.matches.answer
        kinds = pl.Series(KINDS, dtype=pl.Enum(KINDS)).gather(self.matches.kind)
        rows = pl.DataFrame(
            {
                "number": self.numbers,
                "kind": kinds,
                "request_ns": self.time_ns[self.matches.request],
                "rtt_ns": self.time_ns[answer] - self.time_ns[self.matches.request],
                "request_frame": self.matches.request + 1,
                "answer_frame": answer + 1,
            }
        )
        return rows.with_columns(pl.when(there).then(pl.col("kind", "rtt_ns", "answer_frame")))

    def to_pandas(self) -> pandas.DataFrame:
        """The same as a pandas frame made without pyarrow; numbers that are null become NaN."""
        import pandas

        return pandas.DataFrame(plain_columns(self.to_polars()))

    def to_scapy(self) -> Any:
        """All of it dissected, as scapy's ``sr`` returns it: (SndRcvList, PacketList)."""
        from scapy.plist import PacketList, QueryAnswer, SndRcvList

        answered = SndRcvList([QueryAnswer(*pair) for pair in self.answered])
        return answered, PacketList(list(self.unanswered), "Unanswered")

    def _lines(self) -> list[str]:
        sent, answered, open_ = self.injection, int(self._there.sum()), len(self.unanswered)
        told = [f"{sent.sent:,} sent into {sent.link} by {sent.path}, {answered:,} answered, {open_:,} unanswered"]
        told[0] += f", {self.duplicates:,} answers repeated" if self.duplicates else ""
        told += ["interrupted"] if self.interrupted else []
        quantiles = stats.summary(self.rtt_ns)
        shown = "  ".join(f"{name} {format_ns(quantiles[name])}" for name in ("min", "p50", "p90", "p99", "max"))
        told += [f"round trip  {shown}"] if answered else []
        rest = len(self.numbers) - _SHOWN
        return [*told, *self._rows(), *([f"… and {rest:,} more"] if rest > 0 else [])]

    def _rows(self) -> list[str]:
        """The first requests, a line each."""
        table = self.to_polars().head(_SHOWN)
        frames = self.capture.frames
        numbers = table["request_frame"].to_list()
        if not numbers:
            return []
        columns = frames.columns(*DESCRIBED, stop=max(numbers))
        at = np.array(numbers) - 1
        cells = describe_frames({name: values[at] for name, values in columns.items()}, numbers, 0)
        rows = [("packet", "from", "to", "", "", "answer", "round trip")]
        for (number, kind, rtt_ns), (_n, _t, _d, source, to, protocol, _b, info) in zip(
            table.select("number", "kind", "rtt_ns").iter_rows(), cells, strict=True
        ):
            rows.append((str(number), source, to, protocol, info, kind or "–", format_ns(rtt_ns)))
        return aligned(rows, left=6)

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *(f"warning: {text}" for text in self.warnings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
