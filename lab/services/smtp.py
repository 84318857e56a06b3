"""A mail server for what programs send while they are tested: it takes every message, and delivers none.

It is aiosmtpd's, run by ``lab.services.smtp_server``; messages lie in its folder, in mail/new (maildir).
"""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path

from lab.errors import Unavailable
from lab.services.order import Order, Program, log_says
from lab.services.renouncing import READY, command

__all__ = ["Smtp"]

_FIX = "Install it (pip install aiosmtpd, or loopback-lab[notebook])"


class Smtp(Program):
    """Port 25 is for root; programs that are tested use another."""

    port = 2525

    def __init__(self) -> None:
        if importlib.util.find_spec("aiosmtpd") is None:
            raise Unavailable("aiosmtpd, a mail server in Python, is not installed", errno=errno.ENOENT, fix=_FIX)

    def order(self, folder: Path, address: str, port: int) -> Order:
        serve = command("lab.services.smtp_server", address, port, folder / "mail")
        return Order(folder=str(folder), command=serve, renounces=True)

    def ready(self, folder: Path) -> bool:
        return log_says(folder, READY)
