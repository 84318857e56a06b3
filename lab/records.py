"""The layout of one probe's record and of one event of the wire, and what their codes mean.

Pure: a saved study needs no native module. Of ``native/api.h``, ``RECORD`` is ``struct lab_record``, ``STAMPS`` is
``struct lab_stamps`` and ``WIRE_EVENT`` is ``struct lab_wire_event``; a test compares every offset and constant with
the header.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "FLAGS",
    "LATE",
    "LOST",
    "RECEIVED",
    "RECORD",
    "STAMPS",
    "STATUSES",
    "UNSENT",
    "WIRE_EVENT",
    "WIRE_FLAGS",
    "Records",
    "status_codes",
]

RECORD = np.dtype(
    [
        ("due_ns", np.int64),
        ("tx_ns", np.int64),
        ("tx_done_ns", np.int64),
        ("rx_ns", np.int64),
        ("far_rx_ns", np.int64),
        ("far_tx_ns", np.int64),
        ("reply_bytes", np.int32),
        ("flags", np.uint16),
        ("status", np.uint8),
        ("reply_ttl", np.uint8),
        ("user_rx_ns", np.int64),
    ]
)
#: The kernel's stamps of one probe, CLOCK_REALTIME, in the order in which they are taken; 0: there is none.
STAMPS = np.dtype(
    [
        ("near_sched_real_ns", np.int64),
        ("near_soft_real_ns", np.int64),
        ("far_rx_real_ns", np.int64),
        ("far_sched_real_ns", np.int64),
        ("far_soft_real_ns", np.int64),
        ("near_rx_real_ns", np.int64),
        ("ack_real_ns", np.int64),
        ("reserved", np.int64),
    ]
)
WIRE_EVENT = np.dtype(
    [
        ("rx_ns", np.int64),
        ("due_ns", np.int64),
        ("tx_ns", np.int64),
        ("number", np.int64),
        ("length", np.int32),
        ("flags", np.uint16),
        ("direction", np.uint8),
        ("snapped", np.uint8),
        ("snap", np.uint8, (136,)),
    ]
)
#: Rows of either layout.
Records = npt.NDArray[np.void]

UNSENT, LOST, LATE, RECEIVED = range(4)
#: Bits of the flags column.
FLAGS = {"inline": 1, "duplicate": 2, "reordered": 4, "other_source": 8, "other_size": 16}

#: Bits of the flags of an event of the wire. Of the first five, a frame that never left has one.
WIRE_FLAGS = {
    "lost": 1,
    "queue": 2,
    "oversize": 4,
    "unsent": 8,
    "discarded": 16,
    "duplicated": 32,
    "copy": 64,
    "reordered": 128,
    "corrupted": 256,
    "spared": 512,
}

#: What the status column says. The last two are received probes too: a second reply came, or a later probe's was first.
STATUSES = ("unsent", "lost", "late", "received", "duplicate", "reordered")


def status_codes(records: Records) -> npt.NDArray[np.uint8]:
    """Indices into ``STATUSES``, shape (n,): the loop's status, refined by the flags of received probes."""
    codes: npt.NDArray[np.uint8] = records["status"].copy()
    received = codes == RECEIVED
    for name in ("duplicate", "reordered"):
        codes[received & (records["flags"] & FLAGS[name] != 0)] = STATUSES.index(name)
    return codes
