"""A stream as text, for the terminal and for ``print``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab.conditions import EMPTY
from lab.units import format_duration, format_ns, format_pace

if TYPE_CHECKING:
    from lab.streams import Stream

__all__ = ["histogram", "stream_text"]

_BLOCKS = " ▏▎▍▌▋▊▉█"
_BINS = 10
_BAR = 48
#: Of a summary: what is shown and how it is called; and what is shown of the parts of a round trip.
_SHOWN = {"min": "min", "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}
_BODY = ("p50", "p90", "p99")


def _bar(fraction: float) -> str:
    eighths = round(fraction * _BAR * 8)
    if fraction and not eighths:
        eighths = 1  # something is there
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def histogram(rtt_ns: np.ndarray[Any, Any]) -> list[str]:
    """Lines of a small histogram of int64 ns, shape (n,): bins of equal ratio up to p99, and one for the rest."""
    if not len(rtt_ns):
        return []
    low, high = float(rtt_ns.min()), float(np.quantile(rtt_ns, 0.99))
    high = max(high, low * 1.001, low + 1)  # bins that can be told apart, also where all delays are the same
    edges = np.geomspace(low, high, _BINS + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(rtt_ns, edges)
    beyond = int(np.count_nonzero(rtt_ns > high))
    tallest = max(int(counts.max()), beyond)
    rows = [(format_ns(edge), int(n)) for edge, n in zip(edges[:-1], counts, strict=True)]
    if beyond:
        rows.append((f"> {format_ns(high)}", beyond))
    return [f"{label:>10} │{_bar(n / tallest)} {n}" for label, n in rows]


def _paced(stream: Stream, schedule: dict[str, Any] | None) -> list[str]:
    """How the probes were sent, if not in a plain closed loop."""
    if schedule is None:
        think_ns = stream.condition.think_ns
        return [f"{format_duration(think_ns)} between the end of a probe and the next"] if think_ns else []
    achieved = f", {format_pace(1e9 / schedule['achieved_pps'])} achieved" if schedule["achieved_pps"] else ""
    seed = f", seed {schedule['seed']}" if schedule["seed"] is not None else ""
    return [f"{schedule['arrivals']}: {format_pace(1e9 / schedule['rate_pps'])} asked{achieved}{seed}"]


def _told(rtt: dict[str, Any]) -> list[str]:
    """The quantiles of the round trip in one line; none of none."""
    shown = [f"{label} {format_ns(rtt[key])}" for key, label in _SHOWN.items() if rtt[key] is not None]
    return ["  ".join(shown)] if shown else []


def _table(heading: str, rows: dict[str, dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Aligned lines in µs, to two decimals each, so that they can be compared and summed by eye."""
    table = {heading: [_SHOWN[key] for key in columns]}
    table |= {
        name: ["–" if row[key] is None else f"{row[key] / 1000:.2f}" for key in columns] for name, row in rows.items()
    }
    left = max(map(len, table))
    width = max(10, *(2 + len(cell) for cells in table.values() for cell in cells))
    lines = [f"{name:<{left}}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in table.items()]
    lines[0] += "  µs"
    return lines


def _stages(document: dict[str, Any]) -> list[str]:
    """The stages, the sum of their medians beside the median of the round trip, and what taking them cost."""
    medians = [stage["p50"] for stage in document["stages_ns"].values()]
    lines = _table("stage", document["stages_ns"], _BODY)
    if None not in medians and document["rtt_ns"]["p50"]:
        total, rtt = sum(medians), document["rtt_ns"]["p50"]
        lines.append(f"sum of medians {total / 1000:.2f} µs, {total / rtt:.1%} of the median round trip")
    told = document["stages"]
    if told["complete"] is not None:
        lines.append(f"{told['complete']:.2%} of the probes have every stamp")
    if told["cost_ns"]:
        low, high = told["cost_ns"]["p50_ci"]
        cost = format_ns(told["cost_ns"]["p50"])
        lines.append(f"taking them adds {cost} ({format_ns(low)} to {format_ns(high)}) to the p50 of a round trip")
    return lines


def stream_text(stream: Stream) -> str:
    """The summary of a stream in a few lines, and its histogram."""
    c = stream.condition
    document = stream.to_json()
    rtt = document["rtt_ns"]
    reply = document["reply"]
    size = "" if c.probe in EMPTY else f", {c.size} bytes"
    lines = [
        str(c)
        + ("" if c.family is None else f" → {reply['source'] or 'no reply'}")
        + f"{size}, {c.wait}, {c.placement}"
        + (f", ttl {reply['ttl']}" if reply["ttl"] else ""),
        *_paced(stream, document["schedule"]),
        f"{stream.sent:,} sent, {stream.received:,} received, {stream.lost:,} lost"
        + "".join(f", {n:,} {name}" for name in ("late", "duplicate", "reordered") if (n := getattr(stream, name))),
    ]
    if stream.inline_fraction is not None and c.probe in ("icmp", "tcp-syn"):
        lines[-1] += f", {stream.inline_fraction:.1%} answered inline"
    if c.impair:
        lines.append(f"impaired each way by {stream.impaired_by}: {c.impair}")
    if c.impair and stream.wire:
        both = [sum(counts) for counts in zip(*(way.values() for way in stream.wire.counters), strict=True)]
        did = dict(zip(stream.wire.counters[0], both, strict=True))
        lines.append("the wire: " + ", ".join(f"{n:,} {name}" for name, n in did.items() if n))
    if document["schedule"]:
        delays = {"rtt": rtt, "response": document["response_ns"], "lateness": document["lateness_ns"]}
        lines += _table("", delays, tuple(_SHOWN))
    else:
        lines += _told(rtt)
    if document["user_rtt_ns"] and document["user_rtt_ns"]["p50"] is not None:
        p50 = format_ns(document["user_rtt_ns"]["p50"])
        lines.append(f"by the kernel's stamp of the reply; user space had it at p50 {p50}")
    lines += histogram(stream.rtt_ns)
    if document["one_way_ns"]:
        ways = {way.replace("_to_", "→"): delay for way, delay in document["one_way_ns"].items()}
        lines += ["", *_table("one way", ways, _BODY)]
    if document["stages_ns"]:
        lines += ["", *_stages(document)]
    lines += [f"warning: {text}" for text in stream.warnings]
    return "\n".join(lines)
