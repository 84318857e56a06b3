"""Where a capture is written: a file, a pipe, or a file without a name that goes with the capture."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from lab.errors import Unavailable
from lab.managed import Managed

__all__ = ["Target"]


class Target(Managed):
    """An open file, emptied, or a pipe.

    path: None for a file without a name, or a descriptor that is open for writing (and stays open). direct: the same
    file, to be written past the page cache, or None where the file system can't, and for pipes. Raises Unavailable.
    """

    def __init__(self, path: str | os.PathLike[str] | int | None) -> None:
        self.path = None if path is None or isinstance(path, int) else os.fspath(path)
        self.direct: int | None = None
        try:
            self.fd = _open(path)
            # Where a descriptor that was handed to us stands in its file, and who else writes there, nobody knows.
            self.seekable = not isinstance(path, int) and stat.S_ISREG(os.fstat(self.fd).st_mode)
        except OSError as error:
            fix = "Name another file" if self.path else "Set TMPDIR to a folder with room"
            raise Unavailable(f"cannot write {self.path or 'a capture'}", errno=error.errno, fix=fix) from error
        if self.seekable:
            with contextlib.suppress(OSError):  # then it goes through the page cache
                self.direct = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)

    def descriptors(self) -> list[int]:
        """Those that whoever writes needs."""
        return [self.fd] if self.direct is None else [self.fd, self.direct]

    def close(self) -> None:
        for each in self.descriptors():
            os.close(each)


def _open(path: str | os.PathLike[str] | int | None) -> int:
    if isinstance(path, int):
        return os.dup(path)
    if path is None:
        with tempfile.TemporaryFile(prefix="lab-", suffix=".pcapng") as file:
            return os.dup(file.fileno())
    # A named pipe waits for whoever reads it, as it would not if we did.
    special = Path(path).exists() and not Path(path).is_file()
    return os.open(path, (os.O_WRONLY if special else os.O_RDWR | os.O_CREAT | os.O_TRUNC) | os.O_CLOEXEC, 0o666)
