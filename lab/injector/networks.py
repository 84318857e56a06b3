"""Which IP addresses are of some networks, a column at a time."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LOOPBACK", "MULTICAST", "Networks"]

#: Addresses as words, in the order of the bytes.
_WORDS: dict[int, str] = {4: "u4", 6: "u8"}


class Networks:
    """Some networks, given as text ("127.0.0.0/8", "::1/128"), of both families."""

    def __init__(self, networks: Iterable[str]) -> None:
        parsed: list[Any] = [ipaddress.ip_network(text) for text in networks]
        self._networks = {
            version: [
                (_words(each.netmask), _words(each.network_address))
                for each in ipaddress.collapse_addresses(each for each in parsed if each.version == version)
            ]
            for version in _WORDS
        }

    def have(self, addresses: npt.NDArray[np.uint8], family: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which addresses, shape (n, 16), of which families, shape (n,), are of any of them."""
        found = np.zeros(len(addresses), np.bool_)
        for version, networks in self._networks.items():
            of_version = family == version
            if not networks or not of_version.any():
                continue
            words = addresses.view(_WORDS[version])
            for masks, network in networks:
                inside = of_version
                for column, (mask, rest) in enumerate(zip(masks, network, strict=True)):
                    inside = inside & (words[:, column] & mask == rest)
                found |= inside
        return found


def _words(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> npt.NDArray[Any]:
    return np.frombuffer(address.packed, _WORDS[address.version])


LOOPBACK = Networks(["127.0.0.0/8", "::1/128"])
#: What goes to several at once: multicast and broadcast, also that of lo.
MULTICAST = Networks(["224.0.0.0/4", "255.255.255.255/32", "127.255.255.255/32", "ff00::/8"])
