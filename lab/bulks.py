"""What came of moving many bytes: rounds, their rates over time, and what they cost. Pure: it opens nothing."""

from __future__ import annotations

import html
import textwrap
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.checks import pick
from lab.conditions import FAMILIES, NIC, pick_way
from lab.errors import UsageError
from lab.stats import median_interval
from lab.units import format_bytes, format_ns

if TYPE_CHECKING:
    import polars

__all__ = ["BULK_PROBES", "Bulk", "BulkCondition", "Round", "per_second"]

#: What carries the bytes: two over any link, two that are no network, and one that is no message at all.
BULK_PROBES = ("tcp", "udp", "unix-stream", "pipe", "memcpy")
NETWORKED = ("tcp", "udp")
_MIB = 1 << 20
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 48


@dataclass(frozen=True, kw_only=True)
class BulkCondition:
    """What is moved, how, and for how long.

    size: bytes of a message. placement: "same-cpu" or "cross-cpu"; "inline" for memcpy. warmup_ns: the beginning of
    each round, whose bytes count for nothing. duration_ns: what follows. limit_bytes: a round ends after so many; None:
    by its time only. verify: whether the reader compares every byte.
    Raises UsageError.
    """

    link: str
    family: int | None
    probe: str
    size: int
    placement: str
    warmup_ns: int
    duration_ns: int
    limit_bytes: int | None = None
    verify: bool = False

    def __post_init__(self) -> None:
        pick("probe", self.probe, BULK_PROBES)
        if self.probe not in NETWORKED:
            return
        pick_way(self.link)
        pick("family", self.family, FAMILIES)
        if self.link.startswith(NIC):
            raise UsageError(f"{self.link}: nothing of ours reads at its other end; name a link of a private world")

    def __str__(self) -> str:
        return self.probe if self.family is None else f"{self.link} IPv{self.family} {self.probe}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """One run. What is told of its measured part lacks the warm-up.

    at_ns, received: int64, shape (n,): a look at the reader every 10 ms, from the beginning of the round on, and the
    bytes it had by then. bytes, duration_ns: of the measured part. total: bytes received, warm-up included, as are all
    that follow. messages: that were sent. lost: datagrams; None where none can be. overrun: those of them that the
    kernel dropped as the reader's buffer was full.
    near_cpu_ns, far_cpu_ns: CPU time of the writer and of the reader. near_switches, far_switches: how often each
    slept, and was preempted. retransmits: TCP segments that were sent again; None: not TCP. late: whether bytes that
    the kernel had taken did not come.
    """

    at_ns: npt.NDArray[np.int64] = field(repr=False)
    received: npt.NDArray[np.int64] = field(repr=False)
    bytes: int
    duration_ns: int
    total: int
    messages: int
    lost: int | None
    overrun: int | None
    duplicates: int
    reordered: int
    foreign: int
    wrong: int
    near_cpu_ns: int
    far_cpu_ns: int
    near_switches: tuple[int, int]
    far_switches: tuple[int, int]
    retransmits: int | None
    late: bool

    @property
    def rate(self) -> float:
        """Bytes a second, over the measured part; 0 of nothing."""
        return self.bytes * 1e9 / self.duration_ns if self.duration_ns else 0.0

    def rates(self, warmup_ns: int) -> npt.NDArray[np.float64]:
        """Bytes a second of each interval that begins after the warm-up, float64, shape (n,)."""
        kept = self.at_ns >= warmup_ns
        at_ns, received = self.at_ns[kept], self.received[kept]
        rates: npt.NDArray[np.float64] = np.diff(received) * 1e9 / np.maximum(np.diff(at_ns), 1)
        return rates


@dataclass(frozen=True, kw_only=True, eq=False)
class Bulk:
    """What came of all rounds.

    cpus: of the writer and the reader; None: there is none. receive_buffer: bytes that the kernel granted to the
    reader; None where it adapts. background: what else happened on the CPUs. warnings: what is doubtful, with remedies.
    """

    condition: BulkCondition
    rounds: tuple[Round, ...]
    cpus: dict[str, int | None]
    receive_buffer: int | None = None
    background: dict[str, Any] | None = field(default=None, repr=False)
    interrupted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Received in the measured parts of all rounds."""
        return sum(each.bytes for each in self.rounds)

    @property
    def duration_ns(self) -> int:
        """Of the measured parts of all rounds."""
        return sum(each.duration_ns for each in self.rounds)

    @property
    def lost(self) -> int | None:
        """Datagrams that did not come, warm-up included; None where none can be lost."""
        lost = [each.lost for each in self.rounds if each.lost is not None]
        return sum(lost) if lost else None

    @property
    def bytes_per_s(self) -> dict[str, Any]:
        """p50 of the rounds with its interval (95 %, None under five rounds), and their min, max and mean.

        All None if nothing was received.
        """
        rates = np.array([each.rate for each in self.rounds if each.bytes])
        if not len(rates):
            return dict.fromkeys(("p50", "p50_ci", "min", "max", "mean"))
        interval = median_interval(rates.tolist(), seed=0)
        return {
            "p50": float(np.median(rates)),
            "p50_ci": None if interval is None else list(interval),
            "min": float(rates.min()),
            "max": float(rates.max()),
            "mean": float(rates.mean()),
        }

    @property
    def interval_bytes_per_s(self) -> dict[str, float | None]:
        """The same over the intervals of 10 ms of all rounds: min, p10, p50, p90 and max; None if there are none."""
        rates = np.concatenate([each.rates(self.condition.warmup_ns) for each in self.rounds] or [np.zeros(0)])
        names = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "max": 1.0}
        return {name: float(np.quantile(rates, part)) if len(rates) else None for name, part in names.items()}

    @property
    def cpu_s_per_byte(self) -> dict[str, float | None]:
        """CPU time of the writer (near) and the reader (far), in seconds for each byte received; None of nothing."""
        total = sum(each.total for each in self.rounds)
        spent = {
            "near": sum(each.near_cpu_ns for each in self.rounds),
            "far": None if self.cpus["far"] is None else sum(each.far_cpu_ns for each in self.rounds),
        }
        return {end: ns / 1e9 / total if ns is not None and total else None for end, ns in spent.items()}

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1; times in ns, but for the CPU's."""
        each = [
            {
                "bytes": run.bytes,
                "duration_ns": run.duration_ns,
                "bytes_per_s": run.rate,
                **{name: getattr(run, name) for name in _COUNTED},
                "near_switches": dict(zip(("voluntary", "involuntary"), run.near_switches, strict=True)),
                "far_switches": dict(zip(("voluntary", "involuntary"), run.far_switches, strict=True)),
            }
            for run in self.rounds
        ]
        return {
            "format": 1,
            "condition": asdict(self.condition),
            "bytes": self.bytes,
            "duration_ns": self.duration_ns,
            "bytes_per_s": self.bytes_per_s,
            "interval_bytes_per_s": self.interval_bytes_per_s,
            "cpu_s_per_byte": self.cpu_s_per_byte,
            "lost": self.lost,
            "rounds": each,
            "cpus": self.cpus,
            "receive_buffer": self.receive_buffer,
            **(self.background or {"noise": None, "power": None}),
            "interrupted": self.interrupted,
            "warnings": list(self.warnings),
        }

    def to_polars(self) -> polars.DataFrame:
        """A row a look at the reader: round (from 1), at_ns (from its beginning), received (bytes so far), measured."""
        import polars as pl

        return pl.DataFrame(self.to_numpy())

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """The same, an array a column."""
        at_ns = [each.at_ns for each in self.rounds] or [np.zeros(0, np.int64)]
        received = [each.received for each in self.rounds] or [np.zeros(0, np.int64)]
        number = np.repeat(np.arange(1, len(self.rounds) + 1), [len(each.at_ns) for each in self.rounds])
        times = np.concatenate(at_ns)
        measured = times >= self.condition.warmup_ns
        return {"round": number, "at_ns": times, "received": np.concatenate(received), "measured": measured}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        c, rates, over = self.condition, self.bytes_per_s, self.interval_bytes_per_s
        placed = "" if c.probe == "memcpy" else f", {c.placement}"
        lines = [f"{c}, messages of {c.size:,} bytes{placed}"]
        told = (
            f"{len(self.rounds)} round{'s' if len(self.rounds) != 1 else ''}, {format_bytes(self.bytes)} received in "
        )
        lines.append(told + format_ns(self.duration_ns) + self._losses())
        if rates["p50"] is None:
            return [*lines, *self._warnings()]
        ci = rates["p50_ci"]
        between = f" ({per_second(ci[0])} to {per_second(ci[1])})" if ci else ""
        of_rounds = f", rounds {_span(rates)}" if len(self.rounds) > 1 else ""
        lines.append(f"p50 {per_second(rates['p50'])}{between}{of_rounds}")
        if over["p50"] is not None:
            lines.append(f"every 10 ms: p10 {per_second(over['p10'])}, p90 {per_second(over['p90'])}, {_span(over)}")
        spent = [f"{end} {format_ns(s * 1e9 * _MIB)}" for end, s in self.cpu_s_per_byte.items() if s is not None]
        lines.append(f"CPU time per MiB: {', '.join(spent)}")
        over_time = [_parts(each.rates(c.warmup_ns)) for each in self.rounds]
        highest = max((part for parts in over_time for part in parts), default=0.0) or 1.0
        for number, (each, parts) in enumerate(zip(self.rounds, over_time, strict=True), 1):
            blocks = "".join(_BLOCKS[round(part / highest * (len(_BLOCKS) - 1))] for part in parts)
            lines.append(f"{number:>3} {per_second(each.rate):>10} │{blocks}")
        return [*lines, *self._warnings()]

    def _warnings(self) -> list[str]:
        wrapped = (textwrap.wrap(f"warning: {text}", 80, subsequent_indent="  ") for text in self.warnings)
        return [line for lines in wrapped for line in lines]

    def _losses(self) -> str:
        if self.lost is None:
            return ""
        sent = sum(each.messages for each in self.rounds)
        return f", {self.lost:,} of {sent:,} datagrams lost"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


_COUNTED = (
    "total", "messages", "lost", "overrun", "duplicates", "reordered", "foreign", "wrong", "retransmits", "late",
    "near_cpu_ns", "far_cpu_ns",
)  # fmt: skip


def per_second(rate: float | None) -> str:
    """``4_210_000_000`` → ``"4.21 GB/s"``."""
    return "–" if rate is None else f"{format_bytes(round(rate))}/s"


def _span(rates: dict[str, Any]) -> str:
    return f"{per_second(rates['min'])} to {per_second(rates['max'])}"


def _parts(rates: npt.NDArray[np.float64]) -> list[float]:
    """Rates over time, as the means of so many parts as a line has room for."""
    if not len(rates):
        return []
    return [float(np.mean(part)) for part in np.array_split(rates, min(_WIDTH, len(rates)))]
