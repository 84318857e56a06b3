"""A small service that keeps notes, as REST has it: a resource has an address, and methods say what is wanted of it.

Run by ``lab.services.notes_server``, of the standard library, so it is always there.
"""

from __future__ import annotations

from pathlib import Path

from lab.services.order import Order, Program, log_says
from lab.services.renouncing import READY, command

__all__ = ["Notes"]


class Notes(Program):
    """GET /notes and /notes/1, POST /notes, DELETE /notes/1; all of it is JSON."""

    port = 8000

    def order(self, folder: Path, address: str, port: int) -> Order:
        serve = command("lab.services.notes_server", address, port)
        return Order(folder=str(folder), command=serve, renounces=True)

    def ready(self, folder: Path) -> bool:
        return log_says(folder, READY)
