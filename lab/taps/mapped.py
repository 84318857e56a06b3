"""A file that is read where it lies: mapped into memory, with all that can go wrong about that."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from typing import BinaryIO

from lab.errors import CaptureError, UsageError
from lab.managed import Managed

__all__ = ["MappedFile"]


class MappedFile(Managed):
    """The bytes of a file up to the length that it had when opened or refreshed.

    To touch a page of a mapping whose file was cut since raises SIGBUS. So the mapping goes to none who would keep it:
    the C reader has it for some milliseconds at a time, right after a look at the file's length, and all else is copied
    out by pread. Only a file that is cut within just these milliseconds still ends the process; one that is appended
    to, as a capture is, or replaced by another of its name, never does.
    """

    def __init__(self, path: str | os.PathLike[str] | int, accept: Callable[[str, bytes], None]) -> None:
        """path: a file's, a descriptor of one (which is duplicated), or "-" for standard input.

        What comes through a pipe is read to its end first, into a temporary file, unless `accept` raises an error about
        its name and first bytes. Raises CaptureError if there is nothing that can be read.
        """
        self.name = f"descriptor {path}" if isinstance(path, int) else os.fspath(path)
        if path == "-":
            self.name, path = "standard input", 0
        self._map: mmap.mmap | bytes = b""
        try:
            file = _opened(path, self.name, accept)
            self._fd = file.fileno()
            self._closing = weakref.finalize(self, file.close)  # also where it is forgotten
            self.refresh()
        except OSError as error:
            raise CaptureError(f"{self.name} can't be read: {error.strerror}; name a file that can") from None

    def refresh(self, *, shorter: bool = False) -> None:
        """Takes in what was appended since. Raises CaptureError if the file has been cut, unless it may be shorter."""
        length = os.fstat(self._fd).st_size
        if length < len(self._map) and not shorter:
            raise self._cut()
        if length != len(self._map):
            self._map = mmap.mmap(self._fd, length, access=mmap.ACCESS_READ) if length else b""

    def __len__(self) -> int:
        return len(self._map)

    def contents(self) -> mmap.mmap | bytes:
        """The mapping, to be let go of within milliseconds. Raises CaptureError if the file has been cut."""
        if os.fstat(self._fd).st_size < len(self._map):
            raise self._cut()
        return self._map

    def copy(self, offset: int, length: int) -> bytes:
        """Bytes of the file. Raises CaptureError if they are gone."""
        piece = os.pread(self._fd, length, offset)
        if len(piece) < length:
            raise self._cut()
        return piece

    def close(self) -> None:
        self._map = b""
        self._closing()

    def _cut(self) -> CaptureError:
        return CaptureError(f"{self.name} was made shorter while it was read; open it again")


def _opened(path: str | os.PathLike[str] | int, name: str, accept: Callable[[str, bytes], None]) -> BinaryIO:
    """A file with a length: the one at `path`, or a copy of all that comes out of the pipe there."""
    file: BinaryIO = open(os.dup(path) if isinstance(path, int) else path, "rb", buffering=0)  # noqa: SIM115, PTH123
    kind = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(kind):
        return file
    with file:
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            raise UsageError(
                f"{name} is neither a file nor a pipe: give a capture file, or '-' with one on standard input"
            )
        first = file.read(1 << 16)
        accept(name, first)
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is the caller's
        try:
            copy.write(first)
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
        except BaseException:
            copy.close()
            raise
    return copy
