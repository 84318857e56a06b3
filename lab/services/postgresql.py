"""PostgreSQL: a cluster of databases of its own, in a scratch folder, that lets in whoever is in the world."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from pathlib import Path

from lab.errors import Unavailable
from lab.services.order import Order, Program

__all__ = ["PostgreSQL"]

#: Where distributions keep what is not for users' PATH: Debian and its like, Fedora and PostgreSQL's own packages.
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_FIX = "Install it (apt install postgresql on Debian and Ubuntu; postgresql-server on Fedora)"
#: The data are scratch, so nothing need be synchronised to the disk; and what is shared by its processes lies in files
#: of the folder rather than in /dev/shm, where it would outlast a crash.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",
}
#: Nobody comes in from outside of a world, so whoever is there is trusted.
_TRUST = "local all all trust\nhost all all all trust\n"
#: The line of postmaster.pid in which the server tells of itself (src/include/utils/pidfile.h).
_STATUS_LINE, _READY = 7, "ready"


class PostgreSQL(Program):
    """That in PATH, or else the newest that is installed."""

    port = 5432
    user = database = "postgres"

    def __init__(self) -> None:
        self._bin = _binaries()

    def order(self, folder: Path, address: str, port: int) -> Order:
        data = folder / "data"
        settings = {
            "listen_addresses": address,
            "port": str(port),
            "unix_socket_directories": str(folder),
            "hba_file": str(folder / "pg_hba.conf"),
            **_SETTINGS,
        }
        initdb = [str(self._bin / "initdb"), "-D", str(data), "-U", self.user, "-A", "trust", "--no-sync"]
        postgres = [str(self._bin / "postgres"), "-D", str(data)]
        return Order(
            folder=str(folder),
            files={str(folder / "pg_hba.conf"): _TRUST},
            prepare=[*initdb, "--no-locale", "--encoding=UTF8"],
            command=[*postgres, *(f"--{name}={value}" for name, value in settings.items())],
            stops=[signal.SIGINT, signal.SIGQUIT],  # "fast", "immediate"
        )

    def ready(self, folder: Path) -> bool:
        """As pg_ctl(1) finds out."""
        try:
            lines = (folder / "data/postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return [line.strip() for line in lines[_STATUS_LINE:]] == [_READY]

    def unix_socket(self, folder: Path, port: int) -> Path:
        return folder / f".s.PGSQL.{port}"


def _binaries() -> Path:
    """The folder of initdb and postgres. Raises Unavailable."""
    named = [Path(there).resolve().parent] if (there := shutil.which("postgres")) else []
    others = [folder for pattern in _FOLDERS for folder in Path("/").glob(pattern[1:])]
    for folder in [*named, *sorted(others, key=_version, reverse=True)]:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return folder
    what = f"PostgreSQL is not installed: no initdb and postgres in PATH or {', '.join(_FOLDERS)}"
    raise Unavailable(what, errno=errno.ENOENT, fix=_FIX)


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", folder.parent.name)]
