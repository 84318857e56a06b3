"""Enters namespaces and becomes a command: ``python -P -m lab.world.enter USER NET CMD…``.

USER and NET are descriptors of the namespaces; USER is -1 where the user namespace is the one we are in. What is
started in this way is a child like any other: its streams, signals and exit code are its parent's to handle.
"""

from __future__ import annotations

import os
import sys

from lab.processes import execute
from lab.world import kernel

__all__: list[str] = []


def main() -> None:
    """Enters, and executes; exits with 127 or 126 where that can't be done, as shells do."""
    user, net = int(sys.argv[1]), int(sys.argv[2])
    command = sys.argv[3:]
    if user >= 0:
        kernel.setns(user, kernel.CLONE_NEWUSER)
        os.close(user)
    kernel.setns(net)
    os.close(net)
    sys.exit(execute(command))


if __name__ == "__main__":
    main()
