"""The helper process as its parent sees it: one request, one reply, and descriptors beside them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from lab.errors import Unavailable
from lab.world.kernel import MAX_MESSAGE

__all__ = ["Client", "Refused"]

_REPLY_S = 20  # making a link takes milliseconds; a helper that is silent for so long is stuck


class Refused(OSError):  # noqa: N818 - an answer, not a fault
    """What the kernel refused the helper: ``errno``, and ``filename`` says what was tried."""


class Client:
    """Starts a helper and asks it. Threads may share it. Raises Unavailable once it has ended."""

    def __init__(self) -> None:
        self._turn = threading.Lock()  # each request must get its own reply
        self._numbers = itertools.count()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(_REPLY_S)
        with theirs:
            command = [sys.executable, "-P", "-m", "lab.world.helper", str(theirs.fileno()), str(os.getpid())]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
                )
            except OSError as error:
                self._channel.close()
                raise Unavailable(f"cannot start {sys.executable}", errno=error.errno, fix="See lab doctor") from error

    @property
    def pid(self) -> int:
        """The helper's process."""
        return self._process.pid

    def ask(self, op: str, **arguments: Any) -> Any:
        """The result of a request. Raises Refused."""
        reply, _descriptors = self._ask(op, arguments)
        return reply["result"]

    def ask_descriptor(self, op: str, **arguments: Any) -> int:
        """The descriptor that a request is answered with; the caller's to close. Raises Refused."""
        _reply, descriptors = self._ask(op, arguments)
        return descriptors[0]

    def _ask(self, op: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with self._turn:
            reply, descriptors = self._exchange(op, arguments)
        if "error" in reply:
            raise Refused(reply["error"]["errno"], "refused", reply["error"]["call"])
        return reply, descriptors

    def _exchange(self, op: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        number = next(self._numbers)
        try:
            self._channel.send(json.dumps({"op": op, "number": number, **arguments}).encode())
            while True:
                data, descriptors, _flags, _address = socket.recv_fds(self._channel, MAX_MESSAGE, 1)
                for descriptor in descriptors:  # which come inheritable, unlike those that Python opens (PEP 446)
                    os.set_inheritable(descriptor, False)
                if not data:
                    break
                reply = json.loads(data)
                if reply["number"] == number:
                    return reply, descriptors
                for descriptor in descriptors:  # the reply to a request that was interrupted
                    os.close(descriptor)
        except TimeoutError:
            raise Unavailable(
                f"the world's helper did not answer {op!r} in {_REPLY_S} s", errno=errno.ETIMEDOUT, fix="Try again"
            ) from None
        except OSError as error:  # BrokenPipeError, ConnectionResetError; EBADF of a world that was closed
            raise Unavailable("this world has ended", errno=error.errno, fix="Make a new one") from None
        raise Unavailable("this world has ended", errno=None, fix="Make a new one")

    def close(self) -> None:
        """Ends the helper."""
        self._channel.close()
        try:
            self._process.wait(_REPLY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
