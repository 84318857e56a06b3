"""Forking, from a process with one thread, and executing; attendants do one thing until dismissed, or we are gone.

And who runs what others have written: never root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Account", "Attendant", "execute", "fork_into", "harmless"]

_STDERR = 2


# Python ignores them for itself, and what is ignored stays so across execve(2).
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as sh(1) and env(1) exit


@dataclass(frozen=True)
class Account:
    """A user that owns nothing, by its numbers."""

    user: int
    group: int

    @property
    def options(self) -> dict[str, Any]:
        """Of ``subprocess.Popen``, for a program that this user is to run."""
        return {"user": self.user, "group": self.group, "extra_groups": []}


def harmless() -> Account | None:
    """The account of nobody, if we are root and there is one in this user namespace; None: stay who you are."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    mapped = [[int(text) for text in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    there = any(first <= nobody.pw_uid < first + count for first, _outside, count in mapped)
    return Account(nobody.pw_uid, nobody.pw_gid) if there else None


def execute(command: list[str], environment: Mapping[bytes, bytes] | None = None) -> int:
    """Replaces this process by `command`; if that fails, says why on standard error and returns an exit code.

    environment: the command's; None for our own.
    """
    for number in _PYTHON_IGNORES:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, os.environ if environment is None else environment)  # noqa: S606 - no shell
    except OSError as error:
        found = not isinstance(error, FileNotFoundError)
        fix = "make it executable (chmod +x), or name its interpreter" if found else "check its name and PATH"
        text = f"lab: error: cannot run {command[0]}: {error.strerror}; {fix}"
        print(text, file=sys.stderr, flush=True)
        return _NOT_EXECUTABLE if found else _NOT_FOUND


def fork_into(work: Callable[[], int]) -> int:
    """Forks, and returns the child's process id; the child calls `work` and exits with what that returns."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = work()
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


class Attendant:
    """A process that calls ``work(stop)``, which should return once the descriptor `stop` is readable.

    Nobody writes to that pipe: it becomes readable by its end, when ``dismiss`` closes it or we are gone, however that
    happens. The process is in a session of its own, out of the terminal's reach, with the signal mask that we have. It
    holds no descriptors but those in `keep` and standard error: whoever waits for the end of another shall see it.
    """

    def __init__(self, work: Callable[[int], None], keep: Iterable[int]) -> None:
        stop, self._stop = os.pipe()

        def attend() -> int:
            os.setsid()
            _close_all_but({*keep, stop, _STDERR})
            work(stop)
            return 0

        self._process = fork_into(attend)
        os.close(stop)

    def dismiss(self) -> None:
        """Has it finish, and waits until it has."""
        os.close(self._stop)
        os.waitpid(self._process, 0)


def _close_all_but(keep: set[int]) -> None:
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) not in keep:
            with contextlib.suppress(OSError):  # the folder's own is closed already
                os.close(int(entry.name))
