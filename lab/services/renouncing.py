"""What servers that are written in Python share: they begin as root, where we are that, and become nobody themselves.

The interpreter may be installed where root alone can look, such as below /root; what it needs is loaded before.
"""

from __future__ import annotations

import os
import signal
import sys

from lab.processes import harmless
from lab.world import kernel

__all__ = ["READY", "announce", "command", "renounce"]

#: The line of its log by which such a server tells that it listens.
READY = "ready to serve"


def command(module: str, *arguments: object) -> list[str]:
    """The command of a server that is a module of this package."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def renounce() -> None:
    """Becomes nobody, if we are root. It still ends with its keeper, which the kernel forgets at that moment."""
    if account := harmless():
        keeper = os.getppid()
        os.setgroups([])
        os.setgid(account.group)
        os.setuid(account.user)
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != keeper:
            sys.exit(1)


def announce() -> None:
    """Tells that it listens."""
    print(READY, flush=True)
