"""Ways that are no interface: what they cross, and the pair of ends of each. They need no namespace and no rights."""

from __future__ import annotations

import os
import socket
from typing import Protocol

from lab.conditions import BASELINES, Condition
from lab.world.link import Link

__all__ = ["CROSSES", "baseline", "open_pair"]

CROSSES = {
    "unix-stream": "a pair of unix stream sockets, inside the kernel",
    "unix-dgram": "a pair of unix datagram sockets, inside the kernel",
    "unix-seqpacket": "a pair of unix seqpacket sockets, inside the kernel",
    "pipe": "two pipes, one each way, inside the kernel",
    "shm": "a cache line that two CPUs share; the kernel takes no part",
    "syscall": "nothing: a system call that does nothing, which every probe through the kernel takes at least",
}
_TYPES = {
    "unix-stream": socket.SOCK_STREAM,
    "unix-dgram": socket.SOCK_DGRAM,
    "unix-seqpacket": socket.SOCK_SEQPACKET,
}
assert tuple(CROSSES) == BASELINES  # noqa: S101 - a baseline without a text is a fault of ours


class End(Protocol):
    """An open end of something."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...


class PipeEnd:
    """One end of a pair of pipes: what comes is read from ``fileno``, what goes is written to ``out``."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self.out = read, write

    def fileno(self) -> int:
        """The descriptor to read from."""
        return self._read

    def close(self) -> None:
        """Closes both directions."""
        for descriptor in (self._read, self.out):
            if descriptor >= 0:
                os.close(descriptor)
        self._read = self.out = -1


def baseline(name: str) -> Link:
    """The description of a baseline, which has no addresses and no device."""
    return Link(name=name, near={}, far={}, far_end="near", mtu=0, devices={}, crosses=CROSSES[name])


def open_pair(condition: Condition) -> tuple[End | None, End | None]:
    """The near and the far end of a baseline; shm and syscall have no descriptors, and so no ends.

    What is buffered holds the largest message, which one thread that plays both ends must be able to leave there.
    """
    if condition.link in ("shm", "syscall"):
        return None, None
    if condition.link == "pipe":
        return _open_pipes(condition)
    near, far = socket.socketpair(socket.AF_UNIX, _TYPES[condition.link])
    for end in (near, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(4 * condition.size, 1 << 16))
    return near, far


def _open_pipes(condition: Condition) -> tuple[PipeEnd, PipeEnd]:
    """A pipe each way. Whether calls that find nothing return at once is, for pipes, a property of the descriptor.

    Those of an end do so where it polls: unless it blocks, and where one thread has a schedule to keep beside.
    """
    (far_read, near_write), (near_read, far_write) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    polled, scheduled = condition.wait != "block", condition.arrivals != "closed"
    for descriptor in (near_read, near_write):
        os.set_blocking(descriptor, not (polled or scheduled))
    for descriptor in (far_read, far_write):
        os.set_blocking(descriptor, not (polled or (scheduled and condition.placement == "inline")))
    return PipeEnd(near_read, near_write), PipeEnd(far_read, far_write)
