"""Any command in a private world: a network namespace of its own with nothing but lo, captured if that is wanted.

``lab`` enters the namespace and stays to wait; CMD, its child, inherits it. Two attendants may outlive ``lab`` for a
moment: the capturer, which writes what passes lo, and the guard, which kills CMD if ``lab`` was killed. CMD stays in
the caller's process group, so the terminal treats it as if there were nothing in between: ``lab`` leaves it what the
terminal sends, hands on what others send, stops when CMD is stopped, and exits as it did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.errors import Unavailable, UsageError
from lab.processes import Attendant, execute, fork_into
from lab.taps.capturer import Taps
from lab.taps.places import TapAt
from lab.taps.recorder import Recorder
from lab.taps.targets import Target
from lab.world import kernel

__all__ = ["enter", "given_environment", "run_child", "run_private", "signals_held"]

_SI_KERNEL = 0x80  # siginfo's si_code of what the terminal sends; asm-generic/siginfo.h
#: Held back from ``lab`` while CMD runs, and looked at one by one: all but what would be a fault of its own.
_WATCHED = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGABRT,
}  # fmt: skip


def run_private(command: list[str], capture: str | None = None) -> int:
    """Runs `command` in a private world; returns its exit code, 128 + n if it died of signal n, 126 or 127.

    capture: a pcapng file for every frame of its lo; if it could not be written to the end, and `command` exited with
    0, returns 1. Moves the calling process, which must have one thread, into that world for good. Raises UsageError,
    or Unavailable where no world or no file can be made.
    """
    if not command[0]:
        raise UsageError("the name of CMD is empty: give a command")
    if capture == "-":
        raise UsageError("--capture -: standard output is the command's; name a file (./- for one of that name)")
    environment = given_environment()
    with Target(capture) if capture else contextlib.nullcontext() as target:
        enter()
        with signals_held() as mask:
            recorder = _record(target) if target else None
            code = run_child(command, environment, mask)
        if recorder is None:
            return code
        totals = recorder.finish()
    if totals.error:
        _tell(f"error: {totals.error}; what came before can be read")
        return code or 1
    if lost := totals.dropped + totals.missing:
        seen = totals.frames + lost
        _tell(f"warning: {lost:,} of {seen:,} frames are missing from {capture}: they came faster than they were taken")
    return code


def _tell(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def signals_held() -> Iterator[set[int]]:
    """Holds back what is for the child that ``run_child`` is about to start; yields the mask that was there before."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_child(command: list[str], environment: dict[bytes, bytes], mask: set[int]) -> int:
    """Runs a command where we are, as a shell would, and returns its exit code; it dies with us, however we end.

    mask: of ``signals_held``, within which this is called.
    """
    child = _start(command, environment, mask)
    end = os.pidfd_open(child)
    guard = Attendant(lambda stop: _kill_at_end(end, stop), keep=[end])
    code = _wait_for(child)
    guard.dismiss()
    os.close(end)
    return code


def given_environment() -> dict[bytes, bytes]:
    """What we were started with. os.environ is not that: under the C locale Python sets LC_CTYPE (PEP 538)."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def _record(target: Target) -> Recorder:
    """Begins to capture this world's lo."""
    place = TapAt(name="lo", interface="lo", socket_at=socket.socket, description="lo of a private world")
    with Taps([place]) as taps:
        return Recorder(taps, target)


def enter(*, as_root: bool = False) -> None:
    """Moves this process into a network namespace with lo up and, if it is not root, a user namespace with its ids.

    as_root: as root of that user namespace, who may change the network there. Raises Unavailable.
    """
    try:
        kernel.enter_private_network(as_root=as_root)
    except OSError as error:
        what = f"cannot make a private network: {error.filename}"
        raise Unavailable(what, errno=error.errno, fix=kernel.USERNS_FIX) from error


def _start(command: list[str], environment: dict[bytes, bytes], mask: set[int]) -> int:
    """Starts CMD with the signal mask that we were given, and returns its process id."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it was ignored, no exit code could be had
    lab = os.getpid()

    def become() -> int:
        signal.signal(signal.SIGCHLD, before)
        return _become(command, environment, mask, lab)

    child = fork_into(become)
    # What came before there was a child is for it, such as a Ctrl-C. What it has got as well, it still holds back.
    while early := signal.sigtimedwait(_WATCHED - {signal.SIGCHLD}, 0):
        os.kill(child, early.si_signo)
    return child


def _become(command: list[str], environment: dict[bytes, bytes], mask: set[int], lab: int) -> int:
    """Replaces this process by CMD; returns an exit code if that fails."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != lab:
        return 1  # it was killed before the kernel knew
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return execute(command, environment)


def _kill_at_end(process: int, stop: int) -> None:
    """The guard's work: where CMD's file has capabilities, as that of ping may, the kernel forgets die_with_parent."""
    os.read(stop, 1)
    with contextlib.suppress(ProcessLookupError):  # it has ended, and lab knows
        signal.pidfd_send_signal(process, signal.SIGKILL)


def _wait_for(child: int) -> int:
    """Waits for CMD's end, and hands on the signals that are not the terminal's, which CMD gets itself."""
    while True:
        got = signal.sigwaitinfo(_WATCHED)
        if got.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                _stop_likewise(os.WSTOPSIG(status))
            elif pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif got.si_code != _SI_KERNEL and got.si_pid != child:
            os.kill(child, got.si_signo)


def _stop_likewise(number: int) -> None:
    """Stops by the signal that stopped CMD, so that the shell sees it. Its SIGCONT comes to us like any other."""
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # here
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
