"""No effect comes before its cause: the kernel's stamps lie where they must between the loop's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from lab.conditions import Condition
from lab.records import RECEIVED, Records
from lab.units import format_ns
from lab.verification.findings import SKIPPED, Finding
from lab.verification.subject import Check, Subject, attempted

__all__ = ["CHECK", "findings", "judge"]

#: In the order in which they happen; those of the far end are missing where the kernel replies.
NEAR_OUT = ("due_ns", "tx_ns", "near_sched_real_ns", "near_soft_real_ns")
FAR = ("far_rx_real_ns", "far_rx_ns", "far_tx_ns", "far_sched_real_ns", "far_soft_real_ns")
NEAR_IN = ("near_rx_real_ns", "rx_ns")
_STAMPED_SHARE = 0.999
_PERIOD_NS = 100_000


def judge(where: str, records: Records, stamps: Records, offset_ns: int, *, reflected: bool) -> Finding:
    """records, stamps: rows of ``RECORD`` and ``STAMPS``, shape (n,). offset_ns: CLOCK_REALTIME less CLOCK_MONOTONIC.

    reflected: whether a reflector of ours replied, so that the far end has stamps too.
    """
    names = (*NEAR_OUT, *(FAR if reflected else ()), *NEAR_IN)
    times = np.column_stack([stamps[name] if _is_kernels(name) else records[name] + offset_ns for name in names])
    received = records["status"] == RECEIVED
    whole = received & np.all([stamps[name] != 0 for name in names if _is_kernels(name)], axis=0)
    step_ns = np.diff(times[whole], axis=1)
    enough = bool(received.any()) and whole.sum() >= _STAMPED_SHARE * received.sum()
    evidence = f"{whole.sum():,} of {received.sum():,} probes have all {len(names)} stamps"
    if (step_ns < 0).any():
        return Finding.judged(where, False, f"{evidence}; {_worst(names, step_ns)}")
    return Finding.judged(where, enough, f"{evidence}, all of them in order")


def _is_kernels(name: str) -> bool:
    return name.endswith("_real_ns")


def _worst(names: Sequence[str], step_ns: npt.NDArray[np.int64]) -> str:
    """The pair of stamps that is out of order most often."""
    pair = int(np.argmax((step_ns < 0).sum(axis=0)))
    wrong = step_ns[:, pair] < 0
    return (
        f"{names[pair + 1]} lies before {names[pair]} in {wrong.sum():,} of them, by up to "
        f"{format_ns(-int(step_ns[:, pair].min()))}"
    )


def findings(
    subject: Subject,
    *,
    links: Sequence[str] = ("lo", "veth"),
    probes: Sequence[str] = ("icmp", "udp", "tcp"),
    families: Sequence[int] = (4, 6),
    count: int = 3_000,
) -> Iterator[Finding]:
    """One finding a link, probe and family; and a schedule in each family."""

    def measure(where: str, condition: Condition) -> Finding:
        with subject.open(condition) as ends:
            stream = subject.stream(condition, ends, count=count)
        if stream.stamps is None or stream.clock_offset_ns is None:
            return Finding.judged(where, False, "the loop returned no stamps")
        if stream.clock_step_ns:
            step = format_ns(stream.clock_step_ns)
            return Finding(where, SKIPPED, f"somebody set the clock meanwhile, by {step}. Run it again")
        reflected = condition.probe != "icmp"
        return judge(where, stream.records, stream.stamps, stream.clock_offset_ns, reflected=reflected)

    conditions = [
        Condition(link=link, probe=probe, family=family, stages=True)
        for link in links
        for probe in probes
        for family in families
    ]
    for condition in conditions:
        yield attempted(str(condition), partial(measure, str(condition), condition))
    for family in families:  # in a closed loop, a probe is due when it leaves
        condition = Condition(probe="udp", family=family, arrivals="periodic", period_ns=_PERIOD_NS, stages=True)
        where = f"{condition}, periodic"
        yield attempted(where, partial(measure, where, condition))


CHECK = Check(
    "causality",
    "due ≤ tx ≤ the kernel's stamps and the reflector's, in their order, ≤ rx: for every probe",
    findings,
    "Report it, with these lines: the stamps of this loop can't be trusted here",
)
