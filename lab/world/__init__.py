"""Worlds: the private network namespaces that links live in, and networks that are there already as other such places.

Only this package needs privilege, and only in the helper process (``helper.py``): it makes the namespaces and the
links, opens sockets inside them and sends the descriptors back. Nothing is ever changed in the machine's own network.
The modules are imported when first asked for, as the helper needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.world.describe import route_device as route_device
    from lab.world.endpoints import open_bulk_ends as open_bulk_ends
    from lab.world.endpoints import open_endpoints as open_endpoints
    from lab.world.ends import Endpoints as Endpoints
    from lab.world.link import Link as Link
    from lab.world.place import Place as Place
    from lab.world.place import Skipped as Skipped
    from lab.world.place import require_link as require_link
    from lab.world.present import HostWorld as HostWorld
    from lab.world.present import JoinedWorld as JoinedWorld
    from lab.world.private import PrivateWorld as PrivateWorld
    from lab.world.visits import visit as visit

_HOME = {
    "Endpoints": "ends",
    "HostWorld": "present",
    "JoinedWorld": "present",
    "Link": "link",
    "Place": "place",
    "PrivateWorld": "private",
    "Skipped": "place",
    "open_bulk_ends": "endpoints",
    "open_endpoints": "endpoints",
    "require_link": "place",
    "route_device": "describe",
    "visit": "visits",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lab.world' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lab.world.{_HOME[name]}"), name)
