"""Forking, from a process with one thread, and executing; attendants do one thing until dismissed, or we are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["Attendant", "execute", "fork_into"]

_STDERR = 2


# Python ignores them for itself, and what is ignored stays so across execve(2).
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as sh(1) and env(1) exit


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
