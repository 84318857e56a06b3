"""Keeps one server: ``python -P -m lab.services.keeper WORLD ORDER``, started inside the world by ``serve``.

WORLD is a pidfd of the world's helper, ORDER an ``Order`` as JSON. The keeper makes the folder and runs the server in
it, until something comes on standard input or that ends, the world ends, or the server ends by itself. Then it removes
the folder, writes the end of the server's log to standard output, and is gone. So nothing is left behind, however the
notebook ended; if the keeper itself is killed, the folder is.

Servers refuse to be root, and should: as root, everything is run as "nobody". A program that nobody could not begin,
as Python may be installed where root alone can look, is told by its order to become nobody itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

from lab.processes import Account, harmless
from lab.services.order import PID_FILE, Order
from lab.world import kernel

__all__: list[str] = []

_STDIN, _STDOUT = 0, 1
#: How long a server may take to end after each signal.
_STOP_S = 10
#: Bytes of the log that are handed back: what a pipe holds, whether or not anybody reads.
_LOG_BYTES = 1 << 16


class Keeper:
    """Carries out one order. world: a descriptor that is readable when the world has ended."""

    def __init__(self, order: Order, world: int) -> None:
        self._order, self._folder = order, Path(order.folder)
        self._events = select.poll()
        for descriptor in (_STDIN, world):
            self._events.register(descriptor, select.POLLIN)
        self._account: Account | None = None

    def serve(self) -> bytes:
        """Does all of it; returns the end of the log."""
        self._folder.mkdir(mode=0o700)
        try:
            for path, text in self._order.files.items():
                Path(path).write_text(text)
            with (self._folder / "log").open("a+b") as log, (self._folder / PID_FILE).open("w") as told:
                self._hand_over()  # from here on we write only where we have opened before
                if not self._order.prepare or self._run(self._order.prepare, [signal.SIGTERM], log) == 0:
                    log.truncate(0)
                    self._run(self._order.command, self._order.stops, log, told)
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
                return log.read()
        finally:
            shutil.rmtree(self._folder)

    def _hand_over(self) -> None:
        """Makes the folder nobody's, if we are root."""
        self._account = harmless()
        if self._account:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, self._account.user, self._account.group)

    def _run(self, command: list[str], stops: list[int], log: BinaryIO, told: TextIO | None = None) -> int | None:
        """Runs a command until it ends or we are to stop. Its exit code; None: it was stopped. told: for its number."""
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=partial(kernel.die_with_parent, stops[-1]),
            **(self._account.options if self._account and not self._order.renounces else {}),
        )
        try:
            if told:
                print(process.pid, file=told, flush=True)
            ended = os.pidfd_open(process.pid)
            self._events.register(ended, select.POLLIN)
            ready = [descriptor for descriptor, _events in self._events.poll()]
            self._events.unregister(ended)
            os.close(ended)
            return process.wait() if ready == [ended] else None
        finally:
            _stop(process, stops)


def _stop(process: subprocess.Popen[bytes], stops: list[int]) -> None:
    """Ends a process by the first signal that it heeds."""
    for number in (*stops, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)


def main() -> None:
    """Keeps the server until it is told to stop; then writes the end of its log."""
    world, order = int(sys.argv[1]), Order(**json.loads(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever stops us stops the server
    try:
        log = Keeper(order, world).serve()
    except OSError as error:  # no room for its folder, or a program that its user may not run
        log = f"{error}".encode()
    with contextlib.suppress(BrokenPipeError):  # nobody is there to read it
        os.write(_STDOUT, log)


if __name__ == "__main__":
    main()
