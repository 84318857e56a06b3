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
#: The data are scratch: nothing is synchronised to the disk. All shared memory is in files of the folder, or in none.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_memory_type": "mmap",
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
}
#: Nobody comes in from outside of a world, so whoever is there is trusted.
_TRUST = "local all all trust\nhost all all all trust\n"
#: The line of postmaster.pid in which the server tells of itself (src/include/utils/pidfile.h).
_STATUS_LINE, _READY = 7, "ready"


class PostgreSQL(Program):
    """The newest that is installed."""

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

    def ready(self, folder: Path) -> int | None:
        """As pg_ctl(1) finds out; asking it over the network would put packets into a capture."""
        try:
            lines = (folder / "data/postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return int(lines[0]) if [line.strip() for line in lines[_STATUS_LINE:]] == [_READY] else None

    def unix_socket(self, folder: Path, port: int) -> Path:
        return folder / f".s.PGSQL.{port}"


def _binaries() -> Path:
    """The folder of initdb and postgres. Raises Unavailable."""
    found = [folder for pattern in _FOLDERS for folder in Path("/").glob(pattern[1:])]
    if there := shutil.which("postgres"):
        found.append(Path(there).resolve().parent)
    complete = [folder for folder in found if shutil.which("initdb", path=folder) and (folder / "postgres").exists()]
    if not complete:
        what = f"PostgreSQL is not installed: no initdb and postgres in PATH or {', '.join(_FOLDERS)}"
        raise Unavailable(what, errno=errno.ENOENT, fix=_FIX)
    return max(complete, key=lambda folder: [int(number) for number in re.findall("[0-9]+", str(folder))])
