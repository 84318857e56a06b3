"""What must not leave by mistake: outside a private world, all but loopback addresses on a loopback device."""

from __future__ import annotations

import ipaddress

import numpy as np
import numpy.typing as npt

from lab.errors import UsageError
from lab.injector.networks import LOOPBACK, MULTICAST
from lab.injector.rows import Rows
from lab.injector.towards import LOOPBACK as LOOPBACK_DEVICE
from lab.injector.towards import Towards
from lab.native.injection import WAYS

__all__ = ["check_device", "check_frames"]

_REMEDY = "give --world new for a private world, or --allow-external if you mean it"


def check_device(to: Towards) -> None:
    """Raises UsageError for a device that leads out of the machine, or may do so."""
    if to.hardware != LOOPBACK_DEVICE:
        raise UsageError(f"{to.device} leads further than this machine's loopback: {_REMEDY}")


def check_frames(rows: Rows, ways: npt.NDArray[np.uint8], first: int) -> None:
    """Raises UsageError for the first frame that goes to other than a loopback address, or to several hosts.

    ways: by which the rows leave. first: the number of the first row, from 0. All values that a field can take count.
    """
    low, high = rows.destinations()
    family = rows["family"]
    inside = LOOPBACK.have(low, family) & LOOPBACK.have(high, family)
    inside &= (family == 4) | (low == high).all(axis=1)  # ::1 is alone
    several = MULTICAST.have(low, family) | MULTICAST.have(high, family)
    group = rows.group() & (ways == WAYS["l2"])
    offends = (ways != WAYS["left out"]) & (rows.has("ip") & (~inside | several) | group)
    if not offends.any():
        return
    number = int(np.argmax(offends))
    if group[number]:
        what = "a multicast or broadcast MAC address"
    else:
        address = high if inside[number] or LOOPBACK.have(low, family)[number] else low
        size = 4 if family[number] == 4 else 16
        what = str(ipaddress.ip_address(address[number, :size].tobytes()))
        what += ", a multicast or broadcast address" if several[number] else ", which is no loopback address"
    raise UsageError(f"packet {first + number + 1:,} goes to {what}: {_REMEDY}")
