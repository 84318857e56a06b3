"""What must not leave by mistake: outside a private world, all but loopback addresses on a loopback device."""

from __future__ import annotations

import ipaddress

import numpy as np
import numpy.typing as npt

from lab.errors import UsageError
from lab.injector.networks import LOOPBACK, MULTICAST, Networks
from lab.injector.rows import Rows
from lab.injector.towards import LOOPBACK as LOOPBACK_DEVICE
from lab.injector.towards import Towards
from lab.native.injection import WAYS

__all__ = ["check_device", "check_frames", "go_to_several"]

_UNSPECIFIED = Networks(["0.0.0.0/32", "::/128"])
_REMEDY = "give --world new for a private world, or --allow-external if you mean it"


def check_device(to: Towards) -> None:
    """Raises UsageError for a device that leads out of the machine, or may do so."""
    if to.hardware != LOOPBACK_DEVICE:
        raise UsageError(f"{to.device} leads further than this machine's loopback: {_REMEDY}")


def check_frames(rows: Rows, ways: npt.NDArray[np.uint8], first: int) -> None:
    """Raises UsageError for the first frame that goes to other than a loopback address, or to several hosts.

    Or that comes from another one: to there the kernel would send answers, also out of the machine. Only the
    unspecified address is answered by nobody.

    ways: by which the rows leave. first: the number of the first row, from 0. All values that a field can take count.
    """
    low, high = rows.addresses(1)
    family, sent = rows["family"], ways != WAYS["left out"]
    inside = _are_of(LOOPBACK, low, high, family)
    several = _to_several(rows)
    offends = sent & (rows.has("ip") & ~inside | several)
    if not offends.any():
        _check_sources(rows, sent & rows.has("ip"), first)
        return
    number = int(np.argmax(offends))
    address = high if inside[number] or LOOPBACK.have(low, family)[number] else low
    what = _text(address[number], family[number])
    what += ", a multicast or broadcast address" if several[number] else ", which is no loopback address"
    raise UsageError(f"packet {first + number + 1:,} goes to {what}: {_REMEDY}")


def go_to_several(rows: Rows, ways: npt.NDArray[np.uint8], to: Towards) -> npt.NDArray[np.bool_]:
    """Which rows go to a multicast or broadcast address of IP or, but on lo, where nobody else is, of Ethernet."""
    several = _to_several(rows)
    if to.hardware != LOOPBACK_DEVICE:
        several |= rows.group() & np.isin(ways, (WAYS["l2"], WAYS["tap"]))
    return several


def _to_several(rows: Rows) -> npt.NDArray[np.bool_]:
    (low, high), family = rows.addresses(1), rows["family"]
    return rows.has("ip") & (MULTICAST.have(low, family) | MULTICAST.have(high, family))


def _check_sources(rows: Rows, among: npt.NDArray[np.bool_], first: int) -> None:
    low, high = rows.addresses(0)
    family = rows["family"]
    offends = among & ~_are_of(LOOPBACK, low, high, family) & ~_are_of(_UNSPECIFIED, low, high, family)
    if offends.any():
        number = int(np.argmax(offends))
        address = high if LOOPBACK.have(low, family)[number] else low
        what = f"{_text(address[number], family[number])}, which is no loopback address, and may be answered there"
        raise UsageError(f"packet {first + number + 1:,} comes from {what}: {_REMEDY}")


def _are_of(
    networks: Networks, low: npt.NDArray[np.uint8], high: npt.NDArray[np.uint8], family: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Where all addresses from the least to the greatest are of these networks; those of IPv6 are single addresses."""
    alone = (family == 4) | (low == high).all(axis=1)
    inside: npt.NDArray[np.bool_] = networks.have(low, family) & networks.have(high, family) & alone
    return inside


def _text(address: npt.NDArray[np.uint8], family: int) -> str:
    return str(ipaddress.ip_address(address[: 4 if family == 4 else 16].tobytes()))
