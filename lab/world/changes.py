"""What a private world is asked to change, checked before its helper is asked: that takes what it is told. Pure."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.checks import pick
from lab.errors import UsageError

__all__ = ["MAX_MTU", "REFUSED_FIX", "route", "texts_of", "with_length"]

MAX_MTU = (1 << 31) - 1  # the kernel's number is an int; what an interface takes is less

#: What to do about a change that the kernel refuses.
REFUSED_FIX = {
    errno.EEXIST: "It is there already",
    errno.EADDRNOTAVAIL: "It is not there",
    errno.ESRCH: "It is not there",
    errno.ENODEV: "Give an interface that world.interfaces(end=…) names",
    errno.ENETUNREACH: "Give a gateway in a network that an interface which is up has an address of",
    errno.EINVAL: "It takes no such value, or not at this interface",
}
_ROUTE_KINDS = ("unicast", "local", "blackhole", "unreachable", "prohibit")
_NOWHERE = _ROUTE_KINDS[2:]


def texts_of(files: Mapping[str, str]) -> int:
    """A descriptor that the texts of some files can be read from, as JSON. Raises UsageError."""
    for path, text in files.items():
        if not (path.startswith("/") and Path(path).is_file()):
            raise UsageError(f"{path!r} can't be put in place of a file: give the absolute path of one that there is")
        if not isinstance(text, str):
            raise UsageError(f"what {path} is to hold is no text: give a str")
    descriptor = os.memfd_create("files", os.MFD_CLOEXEC)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        json.dump(dict(files), file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def with_length(address: str) -> str:
    """An address with the length of its prefix, as given. Raises UsageError."""
    try:
        found = ipaddress.ip_interface(address)
    except ValueError:
        raise UsageError(f"{address!r} is no address: give one with the length of its prefix, 198.18.3.9/24") from None
    if "%" in str(found):
        raise UsageError(f"{address!r} names an interface: leave what follows the % out, and give it as the device")
    return found.with_prefixlen


def route(
    destination: str, device: str | None, gateway: str | None, kind: str, *, removed: bool = False
) -> dict[str, Any]:
    """A route, as the helper takes it. removed: it is there, so its destination is enough. Raises UsageError."""
    pick("kind", kind, _ROUTE_KINDS)
    try:
        net = ipaddress.ip_network(destination)
        by = None if gateway is None else ipaddress.ip_address(gateway)
    except ValueError as error:
        raise UsageError(f"{error}: give a prefix, such as 198.18.3.0/24, and a gateway's address") from None
    if by is not None and by.version != net.version:
        raise UsageError(f"the gateway {gateway} and {net} are of two IP versions: give a gateway of IPv{net.version}")
    if "%" in f"{net}{by}":
        raise UsageError(f"{gateway or destination} names an interface: leave what follows the % out, and give device=")
    if kind == "unicast" and device is None and by is None and not removed:
        raise UsageError(f"a route to {net} by what? Give device=, gateway=, or both")
    if kind in _NOWHERE and (device is not None or by is not None):
        raise UsageError(f"a route of kind {kind!r} leads nowhere: leave device= and gateway= out")
    return {"destination": str(net), "device": device, "gateway": gateway, "kind": kind}
