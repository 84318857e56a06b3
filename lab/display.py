"""A stream as text, for the terminal and for ``print``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lab.units import format_ns

if TYPE_CHECKING:
    from lab.streams import Stream

__all__ = ["histogram", "stream_text"]

_BLOCKS = " ▏▎▍▌▋▊▉█"
_BINS = 10
_BAR = 48


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


def stream_text(stream: Stream) -> str:
    """The summary of a stream in a few lines, and its histogram."""
    c = stream.condition
    document = stream.to_json()
    rtt = document["rtt_ns"]
    reply = document["reply"]
    lines = [
        f"{c} → {reply['source'] or 'no reply'}, {c.size} bytes, {c.wait}, {c.placement}"
        + (f", ttl {reply['ttl']}" if reply["ttl"] else ""),
        f"{stream.sent:,} sent, {stream.received:,} received, {stream.lost:,} lost"
        + "".join(f", {n:,} {name}" for name in ("late", "duplicate", "reordered") if (n := getattr(stream, name))),
    ]
    if stream.inline_fraction is not None and stream.condition.probe == "icmp":
        lines[-1] += f", {stream.inline_fraction:.1%} answered inline"
    if c.impair:
        lines.append(f"impaired each way by {stream.impaired_by}: {c.impair}")
    if c.impair and stream.wire:
        both = [sum(counts) for counts in zip(*(way.values() for way in stream.wire.counters), strict=True)]
        did = dict(zip(stream.wire.counters[0], both, strict=True))
        lines.append("the wire: " + ", ".join(f"{n:,} {name}" for name, n in did.items() if n))
    told = [(name, rtt[name]) for name in ("min", "p50", "p90", "p99", "p999", "max") if rtt[name] is not None]
    if told:
        lines.append("  ".join(f"{'p99.9' if name == 'p999' else name} {format_ns(ns)}" for name, ns in told))
    lines += histogram(stream.rtt_ns)
    lines += [f"warning: {text}" for text in stream.warnings]
    return "\n".join(lines)
