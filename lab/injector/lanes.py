"""The threads that send: their sockets, their CPUs, and waiting for them."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from lab.errors import Unavailable
from lab.injector.result import Sent
from lab.injector.towards import Towards
from lab.interrupts import noted
from lab.managed import Managed
from lab.native.injection import Counts, Lane
from lab.native.stop import Stop

__all__ = ["Senders", "run_lanes"]

_SO_MARK, _IPPROTO_RAW = 36, 255  # asm-generic/socket.h, linux/in.h
_TOLD_S = 0.5
#: Threads that share the work begin together, so long after they were made: for each of them.
_START_NS = 2_500_000
_MARK_FIX = "It takes Linux 5.17 or newer"


class Senders(Managed):
    """The sockets of one lane, for the ways that its packets leave by. Raises Unavailable.

    mark: that packets of ours carry, so that taps and firewalls can tell them.
    """

    def __init__(self, to: Towards, ways: Sequence[str], mark: int) -> None:
        self.fds: dict[str, int] = {}
        with ExitStack() as opened:
            for way in ways:
                if way == "tap":
                    assert to.tap is not None  # noqa: S101 - or it would not be a way
                    self.fds[way] = to.tap
                else:
                    self.fds[way] = opened.enter_context(_open(to, way, mark)).fileno()
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()


def _open(to: Towards, way: str, mark: int) -> socket.socket:
    if way == "l2":
        sender = to.socket_at(socket.AF_PACKET, socket.SOCK_RAW, 0)
    else:
        sender = to.socket_at(socket.AF_INET if way == "raw4" else socket.AF_INET6, socket.SOCK_RAW, _IPPROTO_RAW)
    try:
        sender.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        if way == "l2":
            sender.bind((to.device, 0))
        else:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, to.device.encode() + b"\0")
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)  # what may go where was decided before
    except OSError as error:
        sender.close()
        fix = _MARK_FIX if error.errno == errno.EPERM else f"See what became of it (ip link show {to.device})"
        raise Unavailable(f"cannot send on {to.device}", errno=error.errno, fix=fix) from error
    return sender


def run_lanes(lanes: Sequence[Lane], total: int, progress: Callable[[Sent], None]) -> tuple[list[Counts], int]:
    """Runs each lane in a thread of its own, until Ctrl-C; several are pinned to CPUs in turn.

    progress: is called about twice a second. Returns what came of them, and the errno that ended one, or 0. Raises
    Unavailable if there can't be as many threads.
    """
    cpus = sorted(os.sched_getaffinity(0))
    stop, errors, over = Stop(), [0] * len(lanes), [threading.Event() for _ in lanes]
    start_ns = time.monotonic_ns() + _START_NS * len(lanes) if len(lanes) > 1 else 0

    def work(number: int) -> None:
        try:
            if len(lanes) > 1:
                os.sched_setaffinity(0, {cpus[number % len(cpus)]})  # 0: this thread
            errors[number] = lanes[number].run(stop, start_ns)
            if errors[number]:
                stop.set()
        finally:
            over[number].set()

    def wait(timeout_s: float | None = None) -> bool:
        return all(each.wait(timeout_s) for each in over)

    began_ns = time.monotonic_ns()
    with noted(stop.set):
        try:
            for number in range(len(lanes)):
                _start(threading.Thread(target=work, args=(number,), name="lab inject"), over[number:])
            while not wait(_TOLD_S):
                sent, failed = sum(lane.sent for lane in lanes), sum(lane.failed for lane in lanes)
                progress(Sent(sent=sent, failed=failed, total=total, elapsed_ns=time.monotonic_ns() - began_ns))
        finally:  # no socket may be closed under a running loop
            stop.set()
            wait()
    return [lane.counts() for lane in lanes], next(filter(None, errors), 0)


def _start(thread: threading.Thread, over: Sequence[threading.Event]) -> None:
    """Raises Unavailable if that can't be. over: of this thread and of those that were to follow, which are, then."""
    try:
        thread.start()
    except RuntimeError as error:
        for each in over:
            each.set()
        fix = "Give fewer --threads, or allow more (ulimit -u)"
        raise Unavailable("no more threads can be started here", errno=errno.EAGAIN, fix=fix) from error
