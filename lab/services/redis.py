"""Redis, or Valkey, which is the same in all that matters here: what it holds is gone with it."""

from __future__ import annotations

from pathlib import Path

from lab.services.order import Order, Program, executable, log_says

__all__ = ["Redis"]

_FIX = "Install it (apt install redis-server on Debian and Ubuntu, valkey on Fedora)"


class Redis(Program):
    """Without a password, and without snapshots."""

    port = 6379

    def __init__(self) -> None:
        self._redis = executable("redis-server", "valkey-server", what="Redis", fix=_FIX)

    def order(self, folder: Path, address: str, port: int) -> Order:
        settings = {
            "bind": address,
            "port": str(port),
            "unixsocket": str(self.unix_socket(folder, port)),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "protected-mode": "no",  # nobody comes in from outside of a world
            "daemonize": "no",
        }
        options = [text for name, value in settings.items() for text in (f"--{name}", value)]
        return Order(folder=str(folder), command=[self._redis, *options])

    def ready(self, folder: Path) -> bool:
        return log_says(folder, "ready to accept connections at") or log_says(
            folder, "Ready to accept connections unix"
        )

    def unix_socket(self, folder: Path, port: int) -> Path:
        return folder / f"redis.{port}.sock"
