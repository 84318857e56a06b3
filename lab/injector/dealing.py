"""Which thread sends which frame: all of a flow, in both directions, are one thread's, so that they stay in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lab.injector.rows import Rows

__all__ = ["deal"]

_Hashes = npt.NDArray[np.uint64]


def deal(rows: Rows, lanes: int) -> npt.NDArray[np.uint8]:
    """The lane of each frame, shape (n,): by addresses, protocol and ports; of echo, by its id in place of ports.

    Fragments go by addresses and their id, as only the first has ports. Frames without IP are all of one flow.
    """
    fragment, echo = rows.has("fragment"), rows.has("echo")
    ends = [
        _mixed(_mixed(_folded(rows[address])) + np.where(fragment, 0, rows[port]).astype(np.uint64))
        for address, port in (("source", "source_port"), ("destination", "destination_port"))
    ]
    more = np.where(fragment, rows["fragment_id"], np.where(echo, rows["icmp_id"], 0)).astype(np.uint64)
    flow = _mixed(ends[0] + ends[1] + _mixed(more << np.uint64(8) | rows["protocol"]))
    return (flow % np.uint64(lanes)).astype(np.uint8)


def _folded(addresses: npt.NDArray[np.uint8]) -> _Hashes:
    """Addresses, shape (n, 16), as a number each."""
    halves = np.ascontiguousarray(addresses).view(np.uint64)
    return _mixed(halves[:, 0]) + halves[:, 1]


def _mixed(numbers: npt.NDArray[np.uint64]) -> _Hashes:
    """Each number turned into another whose bits all depend on all of it (splitmix64's finalizer)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ numbers >> np.uint64(shift)) * np.uint64(factor)
    return numbers ^ numbers >> np.uint64(31)
