"""MariaDB, with data of its own in a scratch folder, that lets in whoever is in the world."""

from __future__ import annotations

from pathlib import Path

from lab.services.order import Order, Program, executable, log_says

__all__ = ["MariaDB"]

_FIX = "Install it (apt install mariadb-server on Debian, Ubuntu and Fedora)"
#: The data are scratch: small, and never synchronised to the disk, which alone takes seconds.
_SCRATCH = {
    "debug-no-sync": "1",
    "innodb-buffer-pool-size": "8M",
    "innodb-log-file-size": "4M",
    "innodb-fast-shutdown": "2",
}
#: Nobody comes in from outside of a world, so whoever is there is trusted. A statement has a line of its own.
_TRUST = "CREATE USER root@'%';\nGRANT ALL ON *.* TO root@'%';\nCREATE DATABASE lab;\n"


class MariaDB(Program):
    """One server, that looks up no names."""

    port = 3306
    user, database = "root", "lab"

    def __init__(self) -> None:
        self._server = executable("mariadbd", "mysqld", what="MariaDB", fix=_FIX)
        self._install = executable("mariadb-install-db", "mysql_install_db", what="MariaDB", fix=_FIX)

    def order(self, folder: Path, address: str, port: int) -> Order:
        common = {"datadir": str(folder / "data"), "tmpdir": str(folder), "skip-name-resolve": "1", **_SCRATCH}
        listening = {
            "bind-address": address,
            "port": str(port),
            "socket": str(self.unix_socket(folder, port)),
            "pid-file": str(folder / "mariadbd.pid"),
            "init-file": str(folder / "trust.sql"),
        }
        install = [self._install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        return Order(
            folder=str(folder),
            files={str(folder / "trust.sql"): _TRUST},
            prepare=[*install, *_options(common)],
            command=[self._server, "--no-defaults", *_options(common | listening)],
        )

    def ready(self, folder: Path) -> bool:
        return log_says(folder, "ready for connections.")

    def unix_socket(self, folder: Path, port: int) -> Path:
        return folder / f"mariadb.{port}.sock"


def _options(settings: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]
