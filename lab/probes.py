"""A condition and its sockets → a stream.

The stream runs in a thread of its own, so that its CPU can be chosen without touching the caller's and so that
Ctrl-C, which Python delivers to the main thread, can stop it.
"""

from __future__ import annotations

import contextlib
import errno
import html
import ipaddress
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from lab import native, stats
from lab.checks import check_count
from lab.conditions import Condition
from lab.display import stream_text
from lab.errors import StreamError, Unavailable
from lab.host import clocksource
from lab.interrupts import noted
from lab.records import FLAGS, LATE, LOST, RECEIVED, Records
from lab.studies import batches, plain_columns
from lab.wire import Wire

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["Cpus", "Sockets", "Stream", "choose_cpus", "send_stream"]

DEFAULT_WARMUP = 100
_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNIX}
#: A stream gives up when nothing has come back for so long, and for at least so many probes.
_SILENCE_NS = 10_000_000_000
_MIN_PATIENCE = 5


class End(Protocol):
    """A descriptor to read from; a pipe's end has another to write to, ``out``."""

    def fileno(self) -> int: ...


class Sockets(Protocol):
    """What a stream needs of an opened pair of ends; ``lab.world.Endpoints`` is one."""

    @property
    def near(self) -> End | None: ...
    @property
    def far(self) -> End | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def family(self) -> int | None: ...
    @property
    def target(self) -> str | None: ...
    @property
    def icmp_id(self) -> int: ...
    @property
    def wire(self) -> Wire | None: ...


@dataclass(frozen=True)
class Cpus:
    """The CPUs that the two ends are pinned to, and the wire where there is one.

    ``far`` is None where no thread of ours plays the far end.
    """

    near: int
    far: int | None
    wire: int | None = None


def choose_cpus(condition: Condition, *, wired: bool = False) -> Cpus:
    """CPUs for a condition, from those that this process may use: the last, which has the fewest interrupts.

    A wire that sleeps shares the near end's CPU, as waking another costs more; one that spins needs its own.
    Raises Unavailable if that takes more CPUs than there are.
    """
    allowed = sorted(os.sched_getaffinity(0), reverse=True)
    alone = ["the near end"]
    if condition.placement == "cross-cpu":
        alone.append("the far end")
    if wired and condition.wait == "spin":
        alone.append("the wire")
    if len(allowed) < len(alone):
        raise Unavailable(
            f"{', '.join(alone[:-1])} and {alone[-1]} need a CPU each, and this process may use {len(allowed)}",
            errno=None,
            fix="Allow more with taskset, or give --wait block --placement same-cpu or inline",
        )
    own = dict(zip(alone, allowed, strict=False))
    near = own["the near end"]
    far = None if condition.placement == "inline" else own.get("the far end", near)
    return Cpus(near, far, own.get("the wire", near) if wired else None)


@dataclass(frozen=True, repr=False)
class Stream:
    """The probes of one condition, sent in one go (RFC 2330 *sample*).

    ``records`` has a row a probe, dtype ``lab.records.RECORD``: int64 ns of CLOCK_MONOTONIC, 0 where there is none.
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

    @property
    def _status(self) -> npt.NDArray[np.uint8]:
        return self.records["status"]

    @property
    def rtt_ns(self) -> npt.NDArray[np.int64]:
        """Round-trip delays rx − tx of the received probes, in ns, in the order they were sent (RFC 2681)."""
        rtt: npt.NDArray[np.int64] = (self.records["rx_ns"] - self.records["tx_ns"])[self._status == RECEIVED]
        return rtt

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
    def inline_fraction(self) -> float | None:
        """The fraction of received probes whose reply was queued already when first asked for.

        What it finds for icmp holds by construction for udp and tcp inline, whose reflector is this same thread.
        None where the first look is one that sleeps (a reflector in its own thread, waiting by blocking).
        """
        if self.condition.placement != "inline" and self.condition.wait == "block":
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
        read_ns, step_ns = native.clock_cost()
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
            "rtt_ns": stats.summary(self.rtt_ns),
            "response_ns": None,
            "stages_ns": None,
            "clock": {"name": "CLOCK_MONOTONIC", "source": clocksource(), "read_ns": read_ns, "step_ns": step_ns},
            "socket": self.socket_kind,
            "cpus": asdict(self.cpus),
            "interrupted": self.interrupted,
            "warnings": list(self.warnings),
        }

    def to_polars(self) -> polars.DataFrame:
        """A row a probe; the columns are described at the top of ``lab.studies``."""
        import polars as pl

        return pl.concat(batches(0, self.condition, self.records))

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


def send_stream(
    condition: Condition,
    ends: Sockets,
    *,
    count: int,
    warmup: int = DEFAULT_WARMUP,
    cpus: Cpus | None = None,
) -> Stream:
    """Sends one stream of `count` probes over the given ends and returns what came of it.

    warmup: probes sent first and not recorded. Raises StreamError if the stream ended before its time, Unavailable for
    a placement that cannot be had. Two things end it early and leave the rows that were finished: Ctrl-C, within 50 ms
    (``interrupted``), and silence, when nothing has come back for ten seconds (``gave_up``).
    """
    check_count("count", count)
    check_count("warm-up", warmup, low=0)
    cpus = cpus or choose_cpus(condition, wired=ends.wire is not None)
    spec = native.StreamSpec(
        near_fd=_descriptor(ends.near),
        far_fd=_descriptor(ends.far),
        near_out_fd=getattr(ends.near, "out", -1),
        far_out_fd=getattr(ends.far, "out", -1),
        kind=ends.kind,
        family=_DOMAINS[ends.family],
        wait=condition.wait,
        far_cpu=-1 if cpus.far is None else cpus.far,
        size=condition.size,
        icmp_id=ends.icmp_id,
        target=b"" if ends.target is None else ipaddress.ip_address(ends.target).packed,
        nonce=secrets.randbits(64),
        count=count,
        warmup=warmup,
        timeout_ns=condition.timeout_ns,
        patience=max(_MIN_PATIENCE, math.ceil(_SILENCE_NS / condition.timeout_ns)),
    )
    records = native.new_records(count)
    run = _Run(spec, records, cpus.near)
    with _tuned(ends.wire, condition.wait, cpus.wire):
        interrupted = run.until_done()
    warnings = () if run.gave_up is None else (f"gave up: {run.gave_up}",)
    return Stream(
        condition=condition,
        records=records[: run.outcome.done],
        foreign=run.outcome.foreign + run.outcome.far_foreign,
        reply_source=run.outcome.reply_source or (ends.target if ends.kind == "tcp" else None),
        reply_ttl=run.outcome.reply_ttl,
        socket_kind=ends.kind,
        cpus=cpus,
        started_ns=run.started_ns,
        ended_ns=run.ended_ns,
        interrupted=interrupted,
        gave_up=run.gave_up is not None,
        warnings=warnings,
    )


@contextlib.contextmanager
def _tuned(wire: Wire | None, wait: str, cpu: int | None) -> Iterator[None]:
    """Makes the wire wait as the ends do, on its own CPU, for as long as the stream runs."""
    if wire is None or cpu is None:
        yield
        return
    wire.pin(cpu)
    wire.wait = wait
    try:
        yield
    finally:
        wire.wait = "block"


def _descriptor(end: End | None) -> int:
    return -1 if end is None else end.fileno()


class _Run:
    """One call of the native loop, in a pinned thread."""

    outcome: native.Outcome
    gave_up: str | None = None

    def __init__(self, spec: native.StreamSpec, records: Records, cpu: int) -> None:
        self._spec, self._records, self._cpu = spec, records, cpu
        self._stop, self._over = native.Stop(), threading.Event()
        self._error: BaseException | None = None
        self.started_ns = self.ended_ns = 0

    def _work(self) -> None:
        try:
            os.sched_setaffinity(0, {self._cpu})  # 0: this thread
            self.started_ns = time.monotonic_ns()
            self.outcome = native.run_stream(self._spec, self._records, self._stop)
        except StreamError as error:
            if error.errno != errno.ETIMEDOUT:
                self._error = error
            self.outcome = native.Outcome(error.done, 0, 0, None, None)
            self.gave_up = str(error)
        except BaseException as error:  # handed to the caller's thread, which raises it
            self._error = error
        finally:
            self.ended_ns = time.monotonic_ns()
            self._over.set()

    def until_done(self) -> bool:
        """Waits for the thread, stopping it on Ctrl-C. Returns whether it was interrupted; raises what it raised."""
        with noted(self._stop.set) as interrupted:
            threading.Thread(target=self._work, name="lab stream").start()
            try:
                self._over.wait()
            finally:  # a second Ctrl-C must not close the sockets under the running loop, which ends within 50 ms
                self._stop.set()
                self._over.wait()
        if self._error is not None:
            raise self._error
        return interrupted.is_set()
