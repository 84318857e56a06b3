"""What can go wrong, in one tree.

Every error is a ``LabError`` and also the builtin that a caller would expect; its text is one line that says what
happened and what to do about it. ``LabError`` itself is never raised.
"""

from __future__ import annotations

import errno as _errno
import os
from pathlib import Path

__all__ = [
    "CaptureError",
    "Interrupted",
    "LabError",
    "StreamError",
    "StudyError",
    "Unavailable",
    "UsageError",
    "errno_name",
]


def errno_name(number: int) -> str:
    """``1`` → ``"EPERM (Operation not permitted)"``."""
    name = "EOPNOTSUPP" if number == _errno.EOPNOTSUPP else _errno.errorcode.get(number, f"errno {number}")
    return f"{name} ({os.strerror(number)})"


class LabError(Exception):
    """The base of all errors of this package.

    ``exit_code`` is what the command line exits with: 1 could not, 2 bad usage.
    """

    exit_code = 1


class UsageError(LabError, ValueError):
    """An argument that can never work, on no machine."""

    exit_code = 2


class Unavailable(LabError, OSError):  # noqa: N818 - a state of the machine, not a fault
    """Something that this machine, or the rights that we have on it, do not allow: found by an actual attempt."""

    def __init__(self, what: str, *, errno: int | None, fix: str) -> None:
        """what: the attempt that failed. errno: what the kernel answered, if it was asked. fix: what to do."""
        self.what, self.fix = what, fix
        super().__init__(errno, what)
        self.errno = errno

    @property
    def reason(self) -> str:
        """What failed and how, without the remedy."""
        return self.what if self.errno is None else f"{self.what}: {errno_name(self.errno)}"

    def __str__(self) -> str:
        return f"{self.reason}. {self.fix}"


class StreamError(LabError, OSError):
    """A stream that ended before its time. ``done`` is the number of its probes that were finished."""

    def __init__(self, text: str, *, errno: int, done: int) -> None:
        super().__init__(errno, text)
        self.errno, self.done, self.text = errno, done, text

    def __str__(self) -> str:
        return self.text


class StudyError(LabError, ValueError):
    """A study that cannot be read or written."""


class CaptureError(LabError, ValueError):
    """A file that cannot be read as a capture."""


class Interrupted(LabError, KeyboardInterrupt):  # noqa: N818 - it is a kind of KeyboardInterrupt
    """Ctrl-C, or a stopped notebook cell. What was finished is kept: ``study`` is its folder, if there is one."""

    exit_code = 130

    def __init__(self, text: str, *, study: Path | None = None) -> None:
        super().__init__(text)
        self.study = study

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: whoever stopped a cell knows where it was."""
        return [f"Interrupted: {self}"]
