"""What came of one stream: a row a probe, and what can be said of all of them. It shows itself in a notebook."""

from __future__ import annotations

import html
from dataclasses import asdict, astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab import delays, stats
from lab.accounts import Accounts
from lab.conditions import Condition
from lab.display import stream_text
from lab.host import clocksource
from lab.native.clock import clock_cost
from lab.native.stream import Usage
from lab.records import FLAGS, LATE, LOST, RECEIVED, UNSENT, Records
from lab.tables import batches, plain_columns

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Cpus", "Stream", "WireReport"]


@dataclass(frozen=True)
class Cpus:
    """The CPUs that the two ends are pinned to, and the wire where there is one.

    ``far`` is None where no thread of ours plays the far end.
    """

    near: int
    far: int | None
    wire: int | None = None

    @property
    def used(self) -> tuple[int, ...]:
        """All of them, each once, ascending."""
        return tuple(sorted({cpu for cpu in astuple(self) if cpu is not None}))


@dataclass(frozen=True)
class WireReport:
    """What the wire between the ends did while the stream ran, warm-up included.

    counters: frames by direction (near to far, far to near), named as in ``struct lab_wire_counters``. dropped_seq:
    sequence numbers of the recorded probes of which it let the request or the reply not through, ascending; None where
    it can't see them, as they are wrapped in something else. events: its log, rows of ``lab.records.WIRE_EVENT``, which
    lacks the `overwritten` oldest ones.
    """

    counters: tuple[dict[str, int], dict[str, int]]
    dropped_seq: npt.NDArray[np.int64] | None
    events: Records
    overwritten: int

    def to_json(self) -> dict[str, Any]:
        """What JSON says of it: the counters, and which probes it dropped."""
        return {
            "near_to_far": self.counters[0],
            "far_to_near": self.counters[1],
            "dropped_seq": None if self.dropped_seq is None else self.dropped_seq.tolist(),
            "overwritten": self.overwritten,
        }


@dataclass(frozen=True, repr=False)
class Stream:
    """The probes of one condition, sent in one go (RFC 2330 *sample*).

    ``records`` has a row a probe, dtype ``lab.records.RECORD``: int64 ns of CLOCK_MONOTONIC, 0 where there is none.
    With stages, ``stamps`` has the kernel's, dtype ``lab.records.STAMPS``, of CLOCK_REALTIME: add ``clock_offset_ns``
    to a stamp of ``records`` to compare them. ``clock_step_ns`` is by how much somebody set that clock meanwhile.
    ``near_usage``, ``far_usage``: context switches and page faults of the threads (far: if it has one of its own).
    ``stamping_cost_ns`` is what taking them added to the p50 of the round trip: a median, and the ends of its interval.
    With a schedule, ``seed`` is what it was drawn from, ``margin_ns`` how long before a probe was due the sender
    stopped sleeping, ``most_open`` how many probes were under way at once, at most, and ``receive_buffer`` the bytes
    that the smaller of both ends' sockets was granted. ``pieces``: what probes larger than the link's MTU left in.
    ``accounts`` is what the kernel counted meanwhile, ``background`` what the CPUs went through besides, before and
    after (``lab.noise.Background``; None: nobody looked).
    """

    condition: Condition
    records: Records
    foreign: int
    reply_source: str | None
    reply_ttl: int | None
    socket_kind: str
    cpus: Cpus
    started_ns: int
    ended_ns: int
    interrupted: bool = False
    gave_up: bool = False
    warnings: tuple[str, ...] = ()
    impaired_by: str | None = None
    wire: WireReport | None = None
    near_usage: Usage | None = None
    far_usage: Usage | None = None
    stamps: Records | None = None
    clock_offset_ns: int | None = None
    clock_step_ns: int = 0
    margin_ns: int = 0
    most_open: int = 0
    seed: int | None = None
    receive_buffer: int | None = None
    stamping_cost_ns: tuple[float, float, float] | None = None
    pieces: str | None = None
    accounts: Accounts = field(default_factory=Accounts)
    background: dict[str, Any] | None = None

    @property
    def _status(self) -> npt.NDArray[np.uint8]:
        return self.records["status"]

    @property
    def _answered(self) -> delays.Selected:
        return delays.Selected(self.records, self._status == RECEIVED)

    @property
    def _stamped(self) -> delays.Selected | None:
        """The kernel's stamps of the received probes."""
        return None if self.stamps is None else delays.Selected(self.stamps, self._status == RECEIVED)

    @property
    def rtt_ns(self) -> npt.NDArray[np.int64]:
        """Round-trip delays rx − tx of the received probes, in ns, in the order they were sent (RFC 2681)."""
        return delays.rtt_ns(self._answered)

    @property
    def user_rtt_ns(self) -> npt.NDArray[np.int64] | None:
        """Of tcp-syn: user_rx − tx of the received probes, in ns, where ``rtt_ns`` ends with the kernel's stamp."""
        if self.condition.probe != "tcp-syn":
            return None
        took: npt.NDArray[np.int64] = (self.records["user_rx_ns"] - self.records["tx_ns"])[self._status == RECEIVED]
        return took

    @property
    def response_ns(self) -> npt.NDArray[np.int64]:
        """The same since they were due, rx − due: what a stall made later probes wait is in it."""
        return delays.response_ns(self._answered)

    @property
    def lateness_ns(self) -> npt.NDArray[np.int64]:
        """By how much the probes that were sent left too late, tx − due, in ns."""
        sent = delays.Selected(self.records, self._status != UNSENT)
        lateness: npt.NDArray[np.int64] = sent["tx_ns"] - sent["due_ns"]
        return lateness

    @property
    def one_way_ns(self) -> dict[str, npt.NDArray[np.int64]]:
        """Delays "near_to_far" and "far_to_near" of the received probes (RFC 7679); empty where the kernel replies."""
        return delays.one_way_ns(self._answered)

    @property
    def ipdv_ns(self) -> dict[str, npt.NDArray[np.int64]]:
        """For each way, the differences of the delays of probes sent in succession and both received (RFC 3393)."""
        seq = np.flatnonzero(self._status == RECEIVED)
        return {way: delays.ipdv_ns(each, seq) for way, each in self.one_way_ns.items()}

    @property
    def pdv_ns(self) -> dict[str, npt.NDArray[np.int64]]:
        """For each way, the delays above the least one (RFC 5481)."""
        return {way: delays.pdv_ns(each) for way, each in self.one_way_ns.items()}

    @property
    def stages_ns(self) -> dict[str, npt.NDArray[np.int64]]:
        """With stages: the time that each took, by its name, in order, of the probes that have every stamp.

        They leave nothing out: those of a probe sum up to its round trip. Empty without stages.
        """
        if self._stamped is None or self.clock_offset_ns is None:
            return {}
        return delays.stages_ns(self._answered, self._stamped, self.clock_offset_ns)

    @property
    def ack_ns(self) -> npt.NDArray[np.int64]:
        """With stages, of TCP: from tx to when the request was acknowledged. It comes with the reply: no stage."""
        if self._stamped is None or self.clock_offset_ns is None:
            return np.empty(0, np.int64)
        return delays.ack_ns(self._answered, self._stamped, self.clock_offset_ns)

    @property
    def stages_complete(self) -> float | None:
        """With stages: the fraction of received probes that have every stamp."""
        if self.stamps is None or not self.received:
            return None
        return len(next(iter(self.stages_ns.values()), ())) / self.received

    @property
    def lost_seq(self) -> npt.NDArray[np.int64]:
        """Sequence numbers of the probes that got no reply in time."""
        return np.flatnonzero((self._status == LOST) | (self._status == LATE))

    def _flagged(self, name: str) -> int:
        return int(np.count_nonzero(self.records["flags"] & FLAGS[name]))

    @property
    def sent(self) -> int:
        """Probes that the kernel took."""
        return int(np.count_nonzero(self._status))

    @property
    def received(self) -> int:
        """Probes whose reply came in time."""
        return int(np.count_nonzero(self._status == RECEIVED))

    @property
    def late(self) -> int:
        """Probes whose reply came after the timeout; they are among the lost."""
        return int(np.count_nonzero(self._status == LATE))

    @property
    def lost(self) -> int:
        """Probes sent that got no reply in time."""
        return int(np.count_nonzero(self._status != RECEIVED)) - self.unsent

    @property
    def unsent(self) -> int:
        """Probes that the kernel took no copy of (ENOBUFS)."""
        return len(self.records) - self.sent

    @property
    def duplicate(self) -> int:
        """Probes that got more than one reply."""
        return self._flagged("duplicate")

    @property
    def reordered(self) -> int:
        """Probes whose reply came after that of a later probe."""
        return self._flagged("reordered")

    @property
    def usage(self) -> dict[str, dict[str, int] | None]:
        """Context switches and page faults of the threads of the two ends, by end and name."""
        ends = {"near": self.near_usage, "far": self.far_usage}
        return {name: None if usage is None else asdict(usage) for name, usage in ends.items()}

    @property
    def inline_fraction(self) -> float | None:
        """The fraction of received probes whose reply was queued already when first asked for.

        What it finds for icmp holds by construction for udp and tcp inline, whose reflector is this same thread.
        None where the first look is one that sleeps (waiting by blocking: for a reflector in its own thread, or in
        connect).
        """
        sleeps = self.condition.placement != "inline" or self.condition.probe == "tcp-connect"
        if sleeps and self.condition.wait == "block":
            return None
        inline = self.records["flags"][self._status == RECEIVED] & FLAGS["inline"]
        return float(np.count_nonzero(inline) / self.received) if self.received else None

    @property
    def reply(self) -> dict[str, Any]:
        """The first reply, warm-up included: source address, TTL or hop limit (None for TCP), and payload bytes."""
        answered = np.flatnonzero(self._status >= LATE)
        if not len(answered):
            return {"source": None, "ttl": None, "bytes": None}
        return {
            "source": self.reply_source,
            "ttl": self.reply_ttl,
            "bytes": int(self.records["reply_bytes"][answered[0]]),
        }

    def to_json(self) -> dict[str, Any]:
        """The document of ``lab rtt --json``, format 1; all times in ns."""
        read_ns, step_ns = clock_cost()
        scheduled = self.condition.arrivals != "closed"
        return {
            "format": 1,
            "condition": asdict(self.condition),
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "late": self.late,
            "duplicate": self.duplicate,
            "reordered": self.reordered,
            "unsent": self.unsent,
            "foreign": self.foreign,
            "inline_fraction": self.inline_fraction,
            "reply": self.reply,
            "pieces": self.pieces,
            "rtt_ns": stats.summary(self.rtt_ns),
            "user_rtt_ns": None if self.user_rtt_ns is None else stats.summary(self.user_rtt_ns),
            "response_ns": stats.summary(self.response_ns) if scheduled else None,
            "lateness_ns": stats.summary(self.lateness_ns) if scheduled else None,
            "one_way_ns": _summaries(self.one_way_ns),
            "ipdv_ns": _summaries(self.ipdv_ns),
            "pdv_ns": _summaries(self.pdv_ns),
            "stages_ns": _summaries(self.stages_ns),
            "stages": self._stages_json(),
            "schedule": self._schedule_json() if scheduled else None,
            "clock": {
                "name": "CLOCK_MONOTONIC",
                "source": clocksource(),
                "read_ns": read_ns,
                "step_ns": step_ns,
                "realtime_offset_ns": self.clock_offset_ns,
                "realtime_step_ns": self.clock_step_ns,
            },
            "socket": self.socket_kind,
            "cpus": asdict(self.cpus),
            "usage": self.usage,
            **asdict(self.accounts),
            **(self.background or {"noise": None, "power": None}),
            "interrupted": self.interrupted,
            "impaired_by": self.impaired_by,
            "lost_seq": self.lost_seq.tolist() if self.condition.impair else None,
            "wire": self.wire and self.wire.to_json(),
            "warnings": list(self.warnings),
        }

    def _stages_json(self) -> dict[str, Any] | None:
        if not self.stages_ns:
            return None
        cost = self.stamping_cost_ns
        return {
            "complete": self.stages_complete,
            "cost_ns": cost and {"p50": cost[0], "p50_ci": list(cost[1:])},
            "ack_ns": stats.summary(self.ack_ns) if self.condition.probe == "tcp" else None,
        }

    def _schedule_json(self) -> dict[str, Any]:
        sent = self.records["tx_ns"][self._status != UNSENT]
        period_ns = self.condition.period_ns
        return {
            "arrivals": self.condition.arrivals,
            "rate_pps": period_ns and 1e9 / period_ns,
            "achieved_pps": (len(sent) - 1) * 1e9 / int(sent[-1] - sent[0]) if len(sent) > 1 else None,
            "seed": self.seed,
            "margin_ns": self.margin_ns,
            "most_open": self.most_open,
            "receive_buffer": self.receive_buffer,
        }

    def to_polars(self) -> polars.DataFrame:
        """A row a probe; the columns are described at the top of ``lab.tables``."""
        import polars as pl

        return pl.concat(batches(0, self.condition, self.records, self.stamps))

    def to_pandas(self) -> pandas.DataFrame:
        """A row a probe, as a pandas frame made without pyarrow; times that are null become NaN."""
        import pandas

        return pandas.DataFrame(self.to_numpy())

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """A row a probe, an array a column; times that are null become NaN (float64)."""
        return plain_columns(self.to_polars())

    def __str__(self) -> str:
        return stream_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _summaries(delays: dict[str, npt.NDArray[np.int64]]) -> dict[str, Any] | None:
    """A summary of each; None if there are none."""
    return {name: stats.summary(each) for name, each in delays.items()} or None
