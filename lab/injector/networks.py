"""Which IP addresses are of some networks, a column at a time."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["LOOPBACK", "MULTICAST", "Networks"]

_Addresses = npt.NDArray[np.uint8]


class Networks:
    """Some networks, given as text ("127.0.0.0/8", "::1/128"), of both families."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._masks: dict[int, list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]] = {4: [], 6: []}
        for text in networks:
            network = ipaddress.ip_network(text)
            masks = (_halves(_columns(each.packed)) for each in (network.netmask, network.network_address))
            self._masks[network.version].append((next(masks), next(masks)))

    def have(self, addresses: _Addresses, family: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which addresses, shape (n, 16), of which families, shape (n,), are of any of them."""
        halves = _halves(addresses)
        found = np.zeros(len(addresses), np.bool_)
        for version, masks in self._masks.items():
            inside = np.zeros(len(addresses), np.bool_)
            for mask, network in masks:
                inside |= ((halves & mask) == network).all(axis=1)
            found |= inside & (family == version)
        return found


def _columns(packed: bytes) -> _Addresses:
    """One address as a row of a column."""
    return np.frombuffer(packed.ljust(16, b"\0"), np.uint8)[None]


def _halves(addresses: _Addresses) -> npt.NDArray[np.uint64]:
    """Their bytes as two numbers each, shape (n, 2), in whatever order."""
    return np.ascontiguousarray(addresses).view(np.uint64)


LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])
#: What goes to several at once: multicast and broadcast, also that of lo.
MULTICAST = Networks(["224.0.0.0/4", "255.255.255.255/32", "127.255.255.255/32", "ff00::/8"])
