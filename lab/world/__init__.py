"""Worlds: the private network namespaces that links live in, and the machine's own network as another such place.

Only this package needs privilege, and only in the helper process (``helper.py``): it makes the namespaces and the
links, opens sockets inside them and sends the descriptors back. Nothing is ever changed in the machine's own network.
"""

from __future__ import annotations

from lab.world.endpoints import Endpoints, open_endpoints
from lab.world.link import Link
from lab.world.place import HostWorld, Place, Skipped, World, visit

__all__ = ["Endpoints", "HostWorld", "Link", "Place", "Skipped", "World", "open_endpoints", "visit"]
