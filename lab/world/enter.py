"""Enters namespaces and becomes a command: ``python -P -m lab.world.enter USER NET FILES CMD…``.

USER and NET are descriptors of the namespaces; USER is -1 where the user namespace is the one we are in. FILES is one
that texts of files can be read from, by their paths, as JSON: CMD gets a mount namespace of its own, in which they
stand in place of those that are there; -1: none. What is started in this way is a child like any other: its streams,
signals and exit code are its parent's to handle.
"""

from __future__ import annotations

import json
import os
import sys

from lab.processes import execute
from lab.world import kernel
from lab.world.mounts import put_in_place

__all__: list[str] = []


def main() -> None:
    """Enters, and executes; exits with 127 or 126 where that can't be done, as shells do."""
    user, net, files = map(int, sys.argv[1:4])
    command = sys.argv[4:]
    try:
        if user >= 0:
            kernel.setns(user, kernel.CLONE_NEWUSER)
            os.close(user)
        kernel.setns(net)
        os.close(net)
    except OSError as error:
        print(f"lab: error: cannot enter the world: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(126)
    if files >= 0:
        with open(files, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            texts = json.load(file)
        try:
            put_in_place(texts)
        except OSError as error:
            print(f"lab: error: cannot replace files: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
            sys.exit(126)
    sys.exit(execute(command))


if __name__ == "__main__":
    main()
