"""Enters namespaces and becomes a command: ``python -P -m lab.world.enter USER NET CMD…``.

USER and NET are descriptors of the namespaces; USER is -1 where the user namespace is the one we are in. What is
started in this way is a child like any other: its streams, signals and exit code are its parent's to handle.
"""

from __future__ import annotations

import os
import signal
import sys

from lab.world import kernel

__all__: list[str] = []

# The interpreter ignores them for itself, and what is ignored stays so across execve(2).
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def main() -> None:
    """Enters, and executes; exits with 127 or 126 where that can't be done, as shells do."""
    user, net = int(sys.argv[1]), int(sys.argv[2])
    command = sys.argv[3:]
    if user >= 0:
        kernel.setns(user, kernel.CLONE_NEWUSER)
        os.close(user)
    kernel.setns(net)
    os.close(net)
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - that is what this is for
    except OSError as error:
        print(f"lab: error: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


if __name__ == "__main__":
    main()
