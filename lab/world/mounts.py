"""Texts in place of files, for this process and its children alone: a mount namespace of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.world import kernel

__all__ = ["put_in_place"]


def put_in_place(texts: Mapping[str, str]) -> None:
    """Moves this process into a mount namespace in which these paths, which must be there, hold these texts.

    They lie in memory, on a file system that is mounted over the temporary folder for as long as it takes to mount each
    of them over its path, and that vanishes with the last process that sees it. Raises OSError.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.keep_mounts_private()
    scratch = tempfile.gettempdir()
    places = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in texts}  # some may lie in that folder
    kernel.mount(scratch, kind="tmpfs")
    sources = {}
    for number, (path, text) in enumerate(texts.items()):
        file = Path(scratch, str(number))
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)
        sources[path] = os.open(file, os.O_PATH | os.O_CLOEXEC)
    for path, place in places.items():
        kernel.mount(f"/proc/self/fd/{place}", source=f"/proc/self/fd/{sources[path]}")
    for descriptor in (*places.values(), *sources.values()):
        os.close(descriptor)
    kernel.unmount(scratch)
