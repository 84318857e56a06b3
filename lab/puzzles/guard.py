"""What a puzzle leaves behind: nothing. Its processes and its folder go with it, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
from pathlib import Path

__all__ = ["clear_away", "own_network"]

#: Looks for processes that are still there, as each may have started another one; and how many are ended after each.
_ROUNDS, _ROUND_MS, _AT_ONCE = 100, 100, 500


def own_network() -> Path:
    """The network namespace that we are in, as ``/proc`` names it; no other has that name while this one is there."""
    return Path("/proc/self/ns/net").readlink()


def clear_away(stop: int, *, lab: int, folder: Path) -> None:
    """The guard's work, in the puzzle's network, but with the machine's files: waits for the end, and clears away.

    stop: is readable when the puzzle is over, or the lab is gone. lab: its process, which is spared. folder: of the
    puzzle.
    """
    os.read(stop, 1)
    _end_all(own_network(), {lab, os.getpid()})
    with contextlib.suppress(FileNotFoundError):  # the reader may have done it
        shutil.rmtree(folder)


def _end_all(network: Path, spared: set[int]) -> None:
    """Ends all processes of a network namespace but those that are spared."""
    for _ in range(_ROUNDS):
        with contextlib.ExitStack() as opened:
            ended = select.poll()
            left = 0
            for process in _others(network, spared):
                opened.callback(os.close, process)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    ended.register(process, select.POLLIN)
                    left += 1
            if not left:
                return
            ended.poll(_ROUND_MS)


def _others(network: Path, spared: set[int]) -> list[int]:
    """Descriptors of processes that are in a network namespace, of so many at most.

    It is asked for once more when the descriptor is there: a number that was another's a moment ago is harmless then.
    """
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if len(found) == _AT_ONCE:
            break
        if entry.name.isdecimal() and int(entry.name) not in spared:
            with contextlib.suppress(ProcessLookupError):
                if _is_in(entry, network):
                    process = os.pidfd_open(int(entry.name))
                    if _is_in(entry, network):
                        found.append(process)
                    else:
                        os.close(process)
    return found


def _is_in(entry: Path, network: Path) -> bool:
    try:
        return (entry / "ns/net").readlink() == network
    except OSError:  # it has ended, or is somebody else's
        return False
