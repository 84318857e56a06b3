"""What lies between the stamps of probes: delays of the whole trip, of each way, and of each stage. Pure.

Every function takes the probes that were received, in the order they were sent: what gives the fields of
``lab.records.RECORD`` and of ``STAMPS`` by name, as int64 arrays of shape (n,). Records do, ``Selected`` ones, or the
columns of a study whose nulls were filled with 0. It returns int64 ns.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lab.records import Records

__all__ = ["Selected", "ack_ns", "ipdv_ns", "one_way_ns", "pdv_ns", "response_ns", "rtt_ns", "stages_ns"]

Delays = npt.NDArray[np.int64]

#: The stages of a round trip in their order, each with the stamp that ends it; the first begins at tx_ns. They leave
#: nothing out, so that those of a probe sum up to its rtt exactly. First where the kernel replies: its way through
#: device and stack and back has no stamp in between. Then where a reflector does.
_KERNEL_REPLIES = {
    "user→qdisc": "near_sched_real_ns",
    "qdisc→device": "near_soft_real_ns",
    "device→reply": "near_rx_real_ns",
    "reply→user": "rx_ns",
}
_REFLECTED = {
    "user→qdisc": "near_sched_real_ns",
    "qdisc→device": "near_soft_real_ns",
    "device→far stack": "far_rx_real_ns",
    "far stack→far user": "far_rx_ns",
    "far user": "far_tx_ns",
    "far user→qdisc": "far_sched_real_ns",
    "far qdisc→device": "far_soft_real_ns",
    "device→near stack": "near_rx_real_ns",
    "near stack→user": "rx_ns",
}


class Rows(Protocol):
    """Fields by name."""

    def __getitem__(self, name: Any, /) -> Any: ...


class Selected:
    """Some rows of records, a field at a time: selecting whole rows would copy all of them."""

    def __init__(self, records: Records, mask: npt.NDArray[np.bool_]) -> None:
        self._records, self._mask = records, mask

    def __getitem__(self, name: str) -> Delays:
        field: Delays = self._records[name][self._mask]
        return field


def rtt_ns(rows: Rows) -> Delays:
    """Round-trip delays rx − tx (RFC 2681), shape (n,)."""
    delays: Delays = rows["rx_ns"] - rows["tx_ns"]
    return delays


def response_ns(rows: Rows) -> Delays:
    """Delays since each probe should have been sent, rx − due, shape (n,): what a stall made others wait is in them."""
    delays: Delays = rows["rx_ns"] - rows["due_ns"]
    return delays


def one_way_ns(rows: Rows) -> dict[str, Delays]:
    """Delays of each way (RFC 7679), shape (n,): valid, as both ends share a clock. Empty where the kernel replies."""
    if not np.any(rows["far_rx_ns"]):
        return {}
    return {"near_to_far": rows["far_rx_ns"] - rows["tx_ns"], "far_to_near": rows["rx_ns"] - rows["far_tx_ns"]}


def ipdv_ns(delays: Delays, seq: Delays) -> Delays:
    """Differences between the one-way delays of a probe and of the one before it (RFC 3393), shape (at most n − 1,).

    seq: their sequence numbers. It is undefined where either of the two was lost.
    """
    differences: Delays = np.diff(delays)[np.diff(seq) == 1]
    return differences


def pdv_ns(delays: Delays) -> Delays:
    """One-way delays above the least of them (RFC 5481, section 4.2), shape (n,)."""
    return delays - delays.min() if len(delays) else delays


def stages_ns(rows: Rows, stamps: Rows, offset_ns: int) -> dict[str, Delays]:
    """The stages of a round trip by their names, in order; shape (m,), of the m probes that have every stamp.

    offset_ns: what to add to a time of `rows` to compare it with `stamps`, which are CLOCK_REALTIME.
    """
    stages = _REFLECTED if np.any(rows["far_rx_ns"]) else _KERNEL_REPLIES
    marks = [rows["tx_ns"], *(stamps[name] if name.endswith("real_ns") else rows[name] for name in stages.values())]
    complete = np.logical_and.reduce([mark != 0 for mark in marks])
    real = [
        mark[complete] + (0 if name.endswith("real_ns") else offset_ns)
        for name, mark in zip(("tx_ns", *stages.values()), marks, strict=True)
    ]
    return {name: after - before for name, before, after in zip(stages, real, real[1:], strict=False)}


def ack_ns(rows: Rows, stamps: Rows, offset_ns: int) -> Delays:
    """From tx to the acknowledgement of the request (TX_ACK), of the probes for which TCP told it. No stage: it comes
    with the reply, or after it.
    """
    acked = stamps["ack_real_ns"] != 0
    delays: Delays = stamps["ack_real_ns"][acked] - (rows["tx_ns"][acked] + offset_ns)
    return delays
