"""What a user may add for steadier figures: real-time priority, memory that stays, CPUs that stay awake, busy polling.

All of it ends with the stream, or with the study. Nothing of the caller's threads is changed but that, with ``mlock``,
the whole process's memory stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.errors import Unavailable, UsageError
from lab.units import duration

__all__ = ["FIFO_LIMIT_NS", "Tuning"]

#: A real-time thread that polls keeps everything else from its CPU: it must not do so for longer.
FIFO_LIMIT_NS = 10_000_000_000
_PRIORITY = 1  # the lowest is above all that is not real-time
_POLLING = ("spin", "yield")
_MCL_CURRENT, _MCL_FUTURE = 1, 2  # asm-generic/mman.h
_SO_BUSY_POLL = 46  # asm-generic/socket.h
_MAX_BUSY_POLL_NS = 1_000_000_000
_LATENCY_DEVICE = Path("/dev/cpu_dma_latency")

_FIFO_FIX = "Run as root, or allow it (ulimit -r 1; LimitRTPRIO=1; rtprio in limits.conf), or leave --fifo out"
_MLOCK_FIX = "Run as root, or allow it (ulimit -l unlimited; memlock in limits.conf), or leave --mlock out"
_AWAKE_FIX = {
    errno.ENOENT: "This kernel has no power management of CPUs: leave --awake out",
    errno.EACCES: f"Run as root, or let your group write {_LATENCY_DEVICE}, or leave --awake out",
}
_BUSY_POLL_FIX = "Run as root, or leave --busy-poll out and give --wait spin"


class Cpus(Protocol):
    """Where the threads of a stream run; None: there is no such thread."""

    @property
    def near(self) -> int: ...
    @property
    def far(self) -> int | None: ...
    @property
    def wire(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was asked for.

    fifo: SCHED_FIFO for the threads of the stream. mlock: all memory of this process stays in RAM. awake: no CPU of
    the machine sleeps, but waits awake. busy_poll_ns: SO_BUSY_POLL of both ends, 0:
    none. Raises UsageError for a time that can't be had.
    """

    fifo: bool = False
    mlock: bool = False
    awake: bool = False
    busy_poll_ns: int = 0

    def __post_init__(self) -> None:
        ns = self.busy_poll_ns
        if ns and not 1_000 <= ns <= _MAX_BUSY_POLL_NS:
            raise UsageError(f"a busy poll of {ns} ns: the kernel counts it in µs; give 1us to 1s")

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Tuning:
        """Removes fifo, mlock, awake and busy_poll (a duration such as "50us") from `options`. Raises UsageError."""
        poll = options.pop("busy_poll", None)
        given = {name: options.pop(name) for name in ("fifo", "mlock", "awake") if name in options}
        return cls(**given, busy_poll_ns=0 if poll is None else duration(poll))

    def check(self, wait: str, cpus: Cpus, *, scheduled: bool = False) -> None:
        """Raises UsageError where a thread that polls at real-time priority would keep another of ours from its CPU.

        scheduled: whether the near end polls for what is due, however it waits.
        """
        if self.fifo and scheduled and cpus.wire == cpus.near:
            raise UsageError(
                f"--fifo on a schedule, with the wire on the same CPU ({cpus.near}): the wire would hardly ever run; "
                "give --cpus NEAR,FAR,WIRE (inline: 1,1,0), or leave --fifo out"
            )
        if self.fifo and wait in _POLLING and cpus.near in (cpus.far, cpus.wire):
            raise UsageError(
                f"--fifo with --wait {wait} on one CPU: whoever polls there would let nobody answer; "
                "use --wait block, or --placement inline or cross-cpu"
            )

    @property
    def limit_ns(self) -> int:
        """How long a stream may run; 0: as long as it takes."""
        return FIFO_LIMIT_NS if self.fifo else 0

    def enter_thread(self) -> None:
        """Gives the calling thread its priority, which those that it starts inherit. Raises Unavailable."""
        if not self.fifo:
            return
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))  # 0: this thread
        except OSError as error:
            raise Unavailable("no real-time priority (SCHED_FIFO)", errno=error.errno, fix=_FIFO_FIX) from error

    def prepare(self, *ends: Any) -> None:
        """Sets what is of the sockets among the ends. Raises Unavailable."""
        if not self.busy_poll_ns:
            return
        for end in ends:
            if isinstance(end, socket.socket):
                try:
                    end.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL, self.busy_poll_ns // 1000)
                except OSError as error:
                    raise Unavailable(
                        "no busy polling (SO_BUSY_POLL)", errno=error.errno, fix=_BUSY_POLL_FIX
                    ) from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While entered, memory stays and CPUs stay awake, as asked for. Raises Unavailable."""
        with contextlib.ExitStack() as stack:
            if self.awake:
                stack.enter_context(_awake())
            if self.mlock:
                stack.enter_context(_locked())
            yield


@contextlib.contextmanager
def _awake(device: Path = _LATENCY_DEVICE) -> Iterator[None]:
    """The kernel forgets the request when the file is closed (Documentation/power/pm_qos_interface)."""
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        fix = _AWAKE_FIX.get(error.errno or 0, _AWAKE_FIX[errno.EACCES])
        raise Unavailable(f"cannot keep the CPUs awake ({device})", errno=error.errno, fix=fix) from error
    try:
        os.write(descriptor, struct.pack("=i", 0))  # µs
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Afterwards nothing is locked, also what was before: the kernel keeps no count."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        raise Unavailable("cannot keep memory in RAM (mlockall)", errno=ctypes.get_errno(), fix=_MLOCK_FIX)
    try:
        yield
    finally:
        libc.munlockall()
