"""What of that which is sent will not arrive, and why: as Linux 6.18 was seen to treat frames on lo and on veth.

Told of unicast only: who listens to a multicast address is not asked. A field that varies is left out of account.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from lab.injector.networks import LOOPBACK, MULTICAST, Networks
from lab.injector.rows import Rows
from lab.injector.towards import LOOPBACK as LOOPBACK_DEVICE
from lab.injector.towards import Towards
from lab.native.injection import WAYS

__all__ = ["Arrival"]

_Booleans = npt.NDArray[np.bool_]
#: Senders of which no packet is taken, wherever it comes from, unless its route is known.
_NO_SENDER = Networks(["0.0.0.0/32", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8"])
#: Senders whose packets no router forwards, beside those.
_NEAR_SENDER = Networks(["::/128", "fe80::/10"])
_VLAN_NUMBER = 0xFFF
_ONE_TAG = 18  # bytes of an Ethernet header with it


class Arrival:
    """What is known of the receiving network."""

    def __init__(self, to: Towards) -> None:
        self._to, self._own = to, Networks(to.addresses)
        self._own4 = Networks(each for each in to.addresses if "." in each)

    def reasons(self, rows: Rows, ways: npt.NDArray[np.uint8]) -> Iterator[tuple[str, _Booleans]]:
        """Why which of the rows will not arrive, the first reason that holds for each first."""
        if self._to.receiver is None:
            return
        framed = rows.ethernet & np.isin(ways, (WAYS["l2"], WAYS["tap"]))
        if self._to.far_mac is not None:
            yield from self._addressed_to_another(rows, framed)
        if self._to.routed:
            yield from self._not_forwarded(rows, framed)
        yield from self._broken(rows, ways)
        yield from self._destinations(rows)
        yield from self._senders(rows, ways)

    def _addressed_to_another(self, rows: Rows, framed: _Booleans) -> Iterator[tuple[str, _Booleans]]:
        far = "the router on the way" if self._to.routed else self._to.far_device
        mac = self._to.far_mac or bytes(6)
        if not rows.varies(0, 6):
            which = rows.which(framed & ~rows.group())
            at = rows["offset"][which]
            first, last = (np.frombuffer(part, kind)[0] for part, kind in ((mac[:4], "u4"), (mac[4:], "u2")))
            other = np.zeros(len(rows), np.bool_)
            other[which] = (rows.numbers(at, "u4") != first) | (rows.numbers(at + 4, "u2") != last)
            yield f"sent to a MAC address that {far} has not ({mac.hex(':')} is its own)", other
        if not rows.varies(12, 6):
            tagged = rows["vlan"] & _VLAN_NUMBER != 0
            tagged |= rows["network_offset"] > _ONE_TAG
            yield f"tagged for a VLAN, and {far} is of none", framed & rows.has("vlan") & tagged

    def _not_forwarded(self, rows: Rows, framed: _Booleans) -> Iterator[tuple[str, _Booleans]]:
        ip, family = rows.has("ip"), rows["family"]
        yield "no IP packets, which is all that the router on the way forwards", ~ip
        yield "of a hop limit that ends at the router on the way", ip & (rows["ttl"] <= 1)
        several = (framed & rows.group()) | MULTICAST.have(rows["destination"], family)
        yield "sent to several hosts at once, which the router on the way does not forward", several
        yield "from an address that the router on the way does not forward", _NEAR_SENDER.have(rows["source"], family)

    def _broken(self, rows: Rows, ways: npt.NDArray[np.uint8]) -> Iterator[tuple[str, _Booleans]]:
        """What the kernel mends of a raw IPv4 packet, it looks at in all others."""
        mended = ways == WAYS["raw4"]
        lacking = rows["network_offset"] + rows.ip_length > rows["captured"]
        yield "shorter than the length in their IP header", rows.has("ip") & lacking & ~mended
        checked = rows.family(4) & ~mended
        wrong = np.zeros(len(rows), np.bool_)
        wrong[checked] = _wrong_sum(rows, rows.which(checked))
        yield "of a wrong IPv4 header checksum", wrong

    def _destinations(self, rows: Rows) -> Iterator[tuple[str, _Booleans]]:
        if len(rows) and rows.varies_address(1):
            return
        on_lo = self._to.hardware == LOOPBACK_DEVICE
        to, family, ip = rows["destination"], rows["family"], rows.has("ip")
        if not on_lo:
            yield "sent to a loopback address, which no other device takes", ip & LOOPBACK.have(to, family)
        far = "this network" if on_lo else f"the network of {self._to.far_device} at its other end"
        strange = ip & ~self._own.have(to, family) & ~MULTICAST.have(to, family)
        yield f"sent to addresses that {far} has not", strange

    def _senders(self, rows: Rows, ways: npt.NDArray[np.uint8]) -> Iterator[tuple[str, _Booleans]]:
        if len(rows) and rows.varies_address(0):
            return
        sender, family, ip = rows["source"], rows["family"], rows.has("ip")
        if self._to.hardware == LOOPBACK_DEVICE:
            framed = ways == WAYS["l2"]
            yield "from an address that no host has", ip & framed & _NO_SENDER.have(sender, family)
            if not self._to.routed_in:
                loopback = LOOPBACK.have(sender, family) | LOOPBACK.have(rows["destination"], family)
                martian = framed & rows.family(4) & (loopback | self._own4.have(sender, family))
                rule = f"which {self._to.device} takes only where route_localnet and accept_local are set"
                yield f"IPv4 frames between this network's own addresses, {rule}", martian
            return
        yield "from an address that no host has", ip & _NO_SENDER.have(sender, family)
        yield "from a loopback address, which no other device takes", ip & LOOPBACK.have(sender, family)
        yield "from an IPv4 address of the receiver's own", rows.family(4) & self._own4.have(sender, family)


def _wrong_sum(rows: Rows, which: npt.NDArray[np.intp] | slice) -> _Booleans:
    """Whether these IPv4 headers don't add up (RFC 1071), which can be told in any order of bytes."""
    at, end = rows.network_at[which], (rows["offset"] + rows["captured"])[which]
    length = (rows.numbers(at, "u1") & 0xF).astype(np.int64) * 4
    total = np.zeros(len(at), np.uint64)
    for word in range(0, 20, 4):
        total += rows.numbers(at + word, "u4")
    for word in range(20, int(length.max(initial=20)), 4):  # options
        longer = np.flatnonzero((length > word) & (at + word + 4 <= end))
        total[longer] += rows.numbers(at[longer] + word, "u4")
    for _ in range(3):  # 36 bits into 16
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    found: _Booleans = total != 0xFFFF
    return found
