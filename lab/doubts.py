"""What a reader of the figures should know before resting on them, each with a remedy. Pure.

``doubts`` are about one condition, ``bulk_doubts`` about many bytes, ``machine_doubts`` about the machine during a
study or a single stream: a line each, at most once, and only on evidence that the figures were touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.conditions import largest_payload
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.bulks import Round

__all__ = ["bulk_doubts", "doubts", "machine_doubts"]

#: What hits one probe in a hundred is seen in p99; what hits fewer, in the tail that few rest on.
_SEEN = 0.01
#: Wake-ups that take longer than this outweigh what is measured: an idle state's exit, in µs.
_DEEP_US = 20
#: Preemptions a second by which another process is told from the odd kernel thread, and how many show a rate at all.
_PREEMPTIONS_PER_S, _MIN_PREEMPTIONS = 50, 3
#: Of the time of a CPU that moves bytes, and preemptions a second there: what is worth a warning.
_NOISY, _BULK_PREEMPTIONS_PER_S = 0.02, 100


def doubts(
    link: str, family: int, probe: str, size: int, *, mtu: int, unsent: int, foreign: int, corrupting: bool = False
) -> list[str]:
    """mtu: the link's, in bytes. unsent, foreign: probes never sent, and messages that were no replies.

    corrupting: whether the link is made to corrupt packets.
    """
    found = []
    largest = largest_payload(family, probe, mtu)
    what = f"{link} IPv{family} {probe}"
    if size > largest:
        cut = "segments" if probe == "tcp" else "fragments"
        found.append(f"{what}: {size} bytes leave in {cut} (MTU {mtu}); -s {largest} fits")
    if unsent:
        found.append(f"{what}: {unsent} probes were never sent, as the device's queue was full; give a smaller size")
    if foreign:
        whose = "they came corrupted, as was asked for" if corrupting else "something else uses this network"
        found.append(f"{what}: {foreign} messages were no replies and were ignored; {whose}")
    return found


Document = Mapping[str, Any]


def machine_doubts(document: Document, runs: Sequence[Document]) -> list[str]:
    """document: a study's, with ``experiment``, ``host``, ``noise`` and ``power`` (older ones lack some). runs: its."""
    tuning, host = document["experiment"].get("tuning") or {}, document.get("host") or {}
    noise, power = document.get("noise") or {}, document.get("power") or {}
    found = (
        _noisy([*(noise.get("before") or ()), *(noise.get("after") or ())]),
        _shared(runs, host.get("cpus_allowed")),
        _governors(power.get("before") or {}),
        _deep_sleep(power.get("before") or {}, runs, bool(tuning.get("awake"))),
        _throttled(power, "thermal_throttles", "the CPU got hot and was slowed down; let it cool down"),
        _throttled(power, "cgroup_throttles", "a limit of CPU time stopped this process; raise its cgroup's cpu.max"),
        _faults(runs),
        _dropped(runs),
        _unpolled(runs, bool(tuning.get("busy_poll_ns"))),
    )
    return [text for text in found if text]


def _noisy(looks: Sequence[Document]) -> str | None:
    """More of a CPU's time stolen than one part in a hundred: about so many probes waited for something else."""
    per_cpu: dict[int, list[Document]] = {}
    for look in looks:
        per_cpu.setdefault(look["cpu"], []).append(look)
    stolen = {
        cpu: sum(look["stolen_ns"] for look in of) / sum(look["duration_ns"] for look in of)
        for cpu, of in per_cpu.items()
    }
    fraction, worst = max(((fraction, cpu) for cpu, fraction in stolen.items()), default=(0.0, None))
    if fraction <= _SEEN:
        return None
    return (
        f"CPU {worst} lost {fraction:.0%} of its time to something else: p99 tells of that too; "
        "stop other programs, or choose quieter CPUs with taskset"
    )


def _shared(runs: Sequence[Document], allowed: Sequence[int] | None) -> str | None:
    """Preemptions, where none of our own threads would be the cause."""
    if allowed is not None and len(allowed) == 1:
        return (
            f"CPU {allowed[0]} is the only one that this process may use, and everything else too; allow more (taskset)"
        )
    preempted, ns = 0, 0
    for run in runs:
        cpus = run.get("cpus") or {}
        if not run.get("usage") or cpus.get("near") in (cpus.get("far"), cpus.get("wire")):
            continue
        preempted += _used(run, "involuntary")
        ns += run["end_ns"] - run["start_ns"]
    if preempted < _MIN_PREEMPTIONS or preempted * 1e9 <= _PREEMPTIONS_PER_S * ns:
        return None
    return (
        f"other programs took the CPU {preempted:,} times while probes were under way; "
        "stop them, choose other CPUs with taskset, or give --fifo"
    )


def _governors(power: Document) -> str | None:
    slow = {cpu: name for cpu, name in power.get("governors", {}).items() if name != "performance"}
    if not slow:
        return None
    names = ", ".join(sorted(set(slow.values())))
    return f"{_cpus(slow)} run at a changing clock rate (governor {names}); cpupower frequency-set -g performance"


def _deep_sleep(power: Document, runs: Sequence[Document], awake: bool) -> str | None:
    """Only where an end slept, and its CPU with it: with both ends on one CPU, that has always something to do."""
    deep = {
        cpu: {name: us for name, us in states.items() if us > _DEEP_US}
        for cpu, states in power.get("idle_us", {}).items()
    }
    deep = {cpu: states for cpu, states in deep.items() if states}
    if awake or not deep or not any(run.get("placement") != "same-cpu" and _slept(run) for run in runs):
        return None
    name, us = max((state for states in deep.values() for state in states.items()), key=lambda state: state[1])
    return f"{_cpus(deep)} may sleep so deeply between probes that waking takes {us} µs ({name}); give --awake"


def _slept(run: Document) -> bool:
    return _used(run, "voluntary") > _SEEN * int(run["sent"])


def _throttled(power: Document, name: str, said: str) -> str | None:
    before, after = ((power.get(when) or {}).get(name) for when in ("before", "after"))
    if before is None or after is None or after <= before:
        return None
    return f"{after - before:,} times while this was measured, {said}, and measure again"


def _faults(runs: Sequence[Document]) -> str | None:
    read = sum(_used(run, "major_faults") for run in runs)
    mapped = sum(_used(run, "minor_faults") for run in runs)
    if not read and mapped <= _SEEN * sum(run["sent"] for run in runs):
        return None
    return f"{read + mapped:,} page faults while probes were under way; give --mlock, or free some memory"


def _used(run: Document, name: str) -> int:
    return sum(int(end[name]) for end in (run.get("usage") or {}).values() if end)


def _dropped(runs: Sequence[Document]) -> str | None:
    dropped = sum(run.get("softnet_dropped") or 0 for run in runs)
    if not dropped:
        return None
    return f"the kernel dropped {dropped:,} packets as a backlog was full; sysctl net.core.netdev_max_backlog=10000"


def _unpolled(runs: Sequence[Document], asked: bool) -> str | None:
    """Busy polling asks the queue that the last packet came from, by its NAPI id."""
    idle = list(dict.fromkeys(run["link"] for run in runs if not any((run.get("napi_ids") or {}).values())))
    if not asked or not idle:
        return None
    return f"SO_BUSY_POLL did nothing on {', '.join(idle)}: packets have no NAPI id there; use --wait spin"


def _cpus(names: Mapping[str, Any]) -> str:
    return f"CPU {', '.join(names)}" if len(names) < 5 else f"{len(names)} CPUs"


# ---- many bytes ----


def bulk_doubts(
    link: str,
    rounds: Sequence[Round],
    cpus: Sequence[int],
    document: Document,
    runs: Sequence[Document],
    room: int | None,
) -> list[str]:
    """What a reader of the figures should know, each with a remedy.

    cpus: that were used. document, runs: as of ``machine_doubts``. room: bytes of the reader's buffer.
    """
    found = []
    sent = sum(each.messages for each in rounds)
    overrun = sum(each.overrun or 0 for each in rounds)
    under_way = sum(each.lost or 0 for each in rounds) - overrun
    if overrun:
        found.append(
            f"{overrun / sent:.1%} of the datagrams were lost as the writer is faster than the reader, whose buffer "
            f"({format_bytes(room or 0)}) was full; raise net.core.rmem_max, or use --probe tcp, which waits"
        )
    if under_way > 0:
        found.append(
            f"{under_way / sent:.1%} of the datagrams were lost on their way: a queue was full, a rule dropped them, "
            f"or the link is made to lose them; see lab capture {link}"
        )
    if any(each.late for each in rounds):
        found.append("bytes that were sent did not come within 2 s; look for a rule that drops them (nft list ruleset)")
    if wrong := sum(each.wrong for each in rounds):
        found.append(f"{wrong:,} bytes were not what was sent; see what the link does to them (lab capture {link})")
    if again := sum(each.retransmits or 0 for each in rounds):
        found.append(
            f"TCP had to send segments again ({again:,}): they were lost, or acknowledged late (a busy machine?); "
            f"lab capture {link} shows which"
        )
    if foreign := sum(each.foreign for each in rounds):
        found.append(f"{foreign:,} datagrams were none of ours and were ignored; something else uses this network")
    found += machine_doubts({**document, "noise": None}, runs)
    found += _stolen(rounds, cpus, document["noise"])
    return found


def _stolen(rounds: Sequence[Round], cpus: Sequence[int], noise: Document) -> Iterator[str]:
    """CPU time that something else had, before and after, and meanwhile."""
    looks = [*(noise["before"] or ()), *(noise["after"] or ())]
    for cpu in cpus:
        of = [look for look in looks if look["cpu"] == cpu]
        stolen = sum(look["stolen_ns"] for look in of) / max(1, sum(look["duration_ns"] for look in of))
        if stolen > _NOISY:
            yield (
                f"CPU {cpu} lost {stolen:.0%} of its time to something else, and so do these rates; stop other "
                "programs, or choose quieter CPUs with --cpus"
            )
    preempted = sum(each.near_switches[1] + each.far_switches[1] for each in rounds)
    lasted_s = sum(int(each.at_ns[-1]) for each in rounds if len(each.at_ns)) / 1e9
    if len(cpus) > 1 and preempted > _BULK_PREEMPTIONS_PER_S * lasted_s:
        yield f"other programs took the CPUs {preempted:,} times meanwhile; stop them, or choose other CPUs with --cpus"
