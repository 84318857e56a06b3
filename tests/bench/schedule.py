"""How late a schedule's probes leave, from 1,000 to 100,000 a second: Poisson arrivals, UDP on lo.

    python tests/bench/schedule.py [--rounds 5] [--duration 500ms]

Each round sends one stream of every rate and mode, in an order drawn anew. Lateness is tx − due, service rx − tx,
response rx − due; p50 and p99 are medians over rounds of each stream's own, and the share sent within 1 µs is over all
of them. At a rate that the mode can't hold, lateness grows with the stream's length: it is shown, and no slot is left
out. Exit 1 if one was, if a probe left before it was due, or if what was sent is not what was received and lost.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import defaultdict

import numpy as np

from lab import Condition, World
from lab.arrivals import due_times
from lab.errors import Unavailable
from lab.probes import choose_cpus, send_stream
from lab.streams import Stream
from lab.units import duration
from lab.world import open_endpoints

RATES = (1_000, 10_000, 20_000, 50_000, 100_000)
MODES = (("block", "inline"), ("spin", "inline"), ("spin", "cross-cpu"))
HEADER = """\
| wait, placement | asked, /s | sent, /s | late p50 | p99 | within 1 µs | service p50 | response p50 | p99 | lost |
|---|---|---|---|---|---|---|---|---|---|"""


def conditions() -> list[Condition]:
    """Every rate in every mode that there are CPUs for."""
    found = []
    for wait, placement in MODES:
        try:
            choose_cpus(Condition(probe="udp", wait=wait, placement=placement))
        except Unavailable as error:
            print(f"not measured: {wait}, {placement}: {error}", file=sys.stderr)
            continue
        found += [
            Condition(probe="udp", wait=wait, placement=placement, arrivals="poisson", period_ns=round(1e9 / rate))
            for rate in RATES
        ]
    return found


def fault(stream: Stream, count: int, seed: int) -> str | None:
    """What a schedule must never do, and did; or None."""
    due_ns = stream.records["due_ns"]
    if len(due_ns) < count or stream.unsent:
        return f"{count - stream.sent} slots were left out"
    if not np.array_equal(due_ns - due_ns[0], due_times(stream.condition, count, seed)):
        return "due times are not those that were drawn"
    if stream.lateness_ns.min() < 0:
        return f"a probe left {-stream.lateness_ns.min()} ns before it was due"
    if stream.sent != stream.received + stream.lost:
        return f"{stream.sent} sent, but {stream.received} received and {stream.lost} lost"
    return None


def row(condition: Condition, streams: list[Stream]) -> str:
    def us(name: str, percent: int) -> str:
        found = [float(np.percentile(getattr(stream, name), percent)) for stream in streams]
        return f"{statistics.median(found) / 1000:.2f}"

    rates = [1e9 * (stream.sent - 1) / int(np.ptp(stream.records["tx_ns"])) for stream in streams]
    prompt = float(np.mean(np.concatenate([stream.lateness_ns for stream in streams]) <= 1_000))
    assert condition.period_ns is not None
    cells = [
        f"{condition.wait}, {condition.placement}",
        f"{1e9 / condition.period_ns:,.0f}",
        f"{statistics.median(rates):,.0f}",
        us("lateness_ns", 50),
        us("lateness_ns", 99),
        f"{prompt:.1%}",
        us("rtt_ns", 50),
        us("response_ns", 50),
        us("response_ns", 99),
        str(sum(stream.lost for stream in streams)),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=duration, default="500ms", help="of each stream")
    arguments = parser.parse_args()
    draw, plan = random.Random(1), conditions()
    streams: dict[Condition, list[Stream]] = defaultdict(list)
    faults: list[str] = []
    with World(["lo"]) as world:
        for _ in range(arguments.rounds):
            for condition in draw.sample(plan, len(plan)):
                assert condition.period_ns is not None
                count, seed = max(1_000, arguments.duration // condition.period_ns), draw.getrandbits(32)
                with open_endpoints(world, condition) as ends:
                    streams[condition].append(send_stream(condition, ends, count=count, seed=seed))
                if found := fault(streams[condition][-1], count, seed):
                    faults.append(f"{condition.wait}, {condition.placement}, {condition.period_ns} ns: {found}")
    print(HEADER)
    for condition in plan:
        print(row(condition, streams[condition]))
    print(f"\nµs; {arguments.rounds} rounds")
    print("\n".join(faults) or "no slot was left out, and none sent early")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
