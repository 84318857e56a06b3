"""What use cases need: servers of ``lab.services``, and programs that ask them."""

from __future__ import annotations

import errno
import shutil
from functools import partial

from lab.browsing import chromium
from lab.errors import Unavailable
from lab.services.service import PROGRAMS
from lab.usecases.usecase import Need

__all__ = ["CHROMIUM", "program", "server"]

#: The packages of Debian and Ubuntu that programs are in.
_PACKAGES = {
    "curl": "curl",
    "getent": "libc-bin",
    "mariadb": "mariadb-client",
    "psql": "postgresql-client",
    "redis-cli": "redis-tools",
}
#: What servers are called as programs, where that is another name.
_PROGRAMS = {
    "mariadb": "mariadbd",
    "notes": "python",
    "postgresql": "postgres",
    "redis": "redis-server",
    "smtp": "aiosmtpd",
}


def program(name: str) -> Need:
    """A client, by its name in PATH."""
    return Need(name, partial(_find, name))


def _find(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        fix = f"Install it (apt install {_PACKAGES[name]} on Debian and Ubuntu)"
        raise Unavailable(f"{name} is not installed", errno=errno.ENOENT, fix=fix)
    return found


def server(name: str) -> Need:
    """A server, as ``world.serve`` calls it."""
    return Need(_PROGRAMS.get(name, name), PROGRAMS[name])


CHROMIUM = Need("chromium", chromium)
