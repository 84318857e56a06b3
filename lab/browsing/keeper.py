"""Keeps one Chromium: ``python -P -m lab.browsing.keeper FOLDER READ WRITE CMD…``, started by ``lab.browsing.visits``.

FOLDER is made for all that the browser writes. READ and WRITE are pipes that it is told what to do by, and answers by:
it wants them as its descriptors 3 and 4, and ends when nobody holds the other end of the first. So it ends with
whoever started it, however that ended; then the folder is removed, and the end of its log written to standard output.

Root is nobody here, as for servers. Chromium locks up what runs a page in namespaces of its own; where none can be
made, as in many containers, it must be told to do without (--no-sandbox).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from lab.processes import Account, fork_into, harmless
from lab.world import kernel

__all__: list[str] = []

_STDOUT, _READ, _WRITE = 1, 3, 4
_END_S, _STEP_S = 10, 0.01
#: Bytes of the log that are handed back: what a pipe holds, whether or not anybody reads.
_LOG_BYTES = 1 << 16


def _keep(folder: Path, command: list[str]) -> bytes:
    """Runs the browser to its end. Returns the end of its log."""
    account = harmless()
    folder.mkdir(mode=0o700)
    try:
        with (folder / "log").open("a+b") as log:
            if account:
                os.chown(folder, account.user, account.group)
            _run([*command, *_sandbox(account)], folder, account, log.fileno())
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            return log.read()
    finally:
        shutil.rmtree(folder)


def _run(command: list[str], folder: Path, account: Account | None, log: int) -> None:
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"), str(folder))
    browser = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **places},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(_READ, _WRITE),
        preexec_fn=partial(kernel.die_with_parent, signal.SIGKILL),
        **(account.options if account else {}),
    )
    try:
        os.close(_READ)  # theirs alone from now on, so that its end is noticed
        os.close(_WRITE)
        browser.wait()
    finally:
        browser.kill()
        browser.wait()
        _reap()


def _sandbox(account: Account | None) -> list[str]:
    """What Chromium must be told where it can't lock up its parts: by no means root's, and not in any container."""
    child = fork_into(partial(_try_namespaces, account))
    refused = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return ["--no-sandbox"] if refused or (account is None and os.geteuid() == 0) else []


def _try_namespaces(account: Account | None) -> int:
    if account:
        os.setgroups([])
        os.setgid(account.group)
        os.setuid(account.user)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    except OSError:
        return 1
    return 0


def _reap() -> None:
    """Waits until no part of the browser is there: orphans of its main process have become ours."""
    deadline_s = time.monotonic() + _END_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline_s:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_STEP_S)


def main() -> None:
    """Keeps the browser until it ends; then writes the end of its log."""
    folder, command = Path(sys.argv[1]), sys.argv[4:]
    given = [int(text) for text in sys.argv[2:4]]
    # Away first: one may have the number that the other is to get.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _WRITE + 1) for descriptor in given]
    for descriptor in given:
        os.close(descriptor)
    for descriptor, number in zip(moved, (_READ, _WRITE), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    kernel.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever stops us stops the browser
    try:
        log = _keep(folder, command)
    except OSError as error:  # no room for its folder, or a program that its user may not run
        log = f"{error}".encode()
    with contextlib.suppress(BrokenPipeError):  # nobody is there to read it
        os.write(_STDOUT, log)


if __name__ == "__main__":
    main()
