"""A puzzle from its beginning to its end: a world, a fault, a shell, and the look at what was mended.

The calling process moves into the world for good, as root of it. A guard sees to it that nothing that was started there
outlives the puzzle, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.checks import check_count
from lab.errors import Unavailable
from lab.private import enter, given_environment, run_child, signals_held
from lab.processes import Attendant
from lab.puzzles import shop
from lab.puzzles.faults import FAULTS, Fault, Stage, files
from lab.puzzles.health import complaints
from lab.world import kernel
from lab.world.mounts import put_in_place
from lab.world.netlink import Network

__all__ = ["Result", "play"]

_ROUNDS = 100  # of looks for processes that are still there: each may have started another one meanwhile
_TASK = """\
Puzzle {seed}. Somebody says: "The shop at http://localhost:{port}/ does not work
as it should. Yesterday all was well." You are root of a small network of its
own, with nothing but lo; no one else sees what you do here.

All is well when 127.0.0.1 and ::1 answer pings, when the shop answers at
127.0.0.1, [::1] and localhost, port {port}, and when localhost leads to loopback
alone. One thing is wrong. Find it and mend it: "lab doctor {port}" may help.
"shop status" and "shop restart" are there, its list of addresses is
$SHOP/shop.conf. /etc/hosts is yours; write into it rather than replace it.
What is seen from outside now:
{seen}
"exit" when you are done.
"""


@dataclass(frozen=True)
class Result:
    """How a puzzle ended. fault: its id; explains: what was wrong; mend: one way to mend it, as commands of a shell.

    before, after: what was not well, a line each. code: that the shell, or the command in its place, exited with.
    """

    seed: int
    fault: str
    explains: str
    mend: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    code: int

    @property
    def solved(self) -> bool:
        """Whether all is well again."""
        return not self.after

    def to_json(self) -> dict[str, Any]:
        """The JSON document, format 1."""
        return {"format": 1, **asdict(self), "solved": self.solved}

    def __str__(self) -> str:
        if self.solved:
            return f"All is well again: {self.explains}."
        seen = "\n".join(f"  {text}" for text in self.after)
        return f'Not yet:\n{seen}\n"lab puzzle --seed {self.seed}" tries it again; --solution tells what was wrong.'


def play(seed: int, command: Sequence[str], *, quiet: bool = False) -> Result:
    """Plants a fault, runs a shell or another command to its end, and looks whether all is well again.

    seed: decides what is wrong. quiet: the command's output goes to standard error, and the task is not told. Moves the
    calling process, which must have one thread, into the puzzle's world for good. Raises UsageError; Unavailable where
    there is no such world, or all is not well in it even before a fault is planted.
    """
    check_count("seed", seed, low=0, high=2**63)
    chance = random.Random(seed)  # noqa: S311 - a game
    fault = chance.choice([each for each in FAULTS if all(map(shutil.which, each.needs))])
    environment = given_environment()
    enter(as_root=True)
    guard = Attendant(_end_all, keep=[])
    try:
        with tempfile.TemporaryDirectory(prefix="lab-puzzle-") as name:
            try:
                put_in_place(files())
            except OSError as error:
                fix = "See lab doctor"
                raise Unavailable(f"cannot {error.filename}", errno=error.errno, fix=fix) from error
            stage = Stage(Network(kernel.namespace()), Path(name), chance)
            mend = _plant(fault, stage)
            before = tuple(complaints())
            if not before:
                raise Unavailable(f"the fault {fault.id} does no harm here", errno=None, fix="Try another --seed")
            if not quiet:
                seen = "\n".join(f"  {text}" for text in before)
                print(_TASK.format(seed=seed, port=shop.PORT, seen=seen), flush=True)
            with signals_held() as mask, _output_to_stderr(quiet):
                code = run_child(list(command), _with_shop(environment, stage.folder), mask)
            after = tuple(complaints())
            shop.stop(stage.folder)
    finally:
        guard.dismiss()
    return Result(seed, fault.id, fault.explains, mend, before, after, code)


def _plant(fault: Fault, stage: Stage) -> str:
    """Opens the shop, sees that all is well, and then does what makes it otherwise."""
    conf = stage.folder / "shop.conf"
    conf.write_text("127.0.0.1\n::1\n")
    said = shop.start(stage.folder)
    if troubles := complaints():
        what = f"all is not well even without a fault: {troubles[0]} ({said})"
        raise Unavailable(what, errno=None, fix="See lab doctor, and mend that first")
    if not fault.shop:
        shop.stop(stage.folder)
    return fault.plant(stage)


def _with_shop(environment: dict[bytes, bytes], folder: Path) -> dict[bytes, bytes]:
    """The environment with the command ``shop``, this lab's own commands, and the shop's folder."""
    own = Path(sys.executable).parent
    script = folder / "bin" / "shop"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m lab.puzzles.shop "{folder}" "$@"\n')
    script.chmod(0o755)
    path = os.fsencode(os.pathsep.join((str(script.parent), str(own), os.environ.get("PATH", os.defpath))))
    return {**environment, b"PATH": path, b"SHOP": os.fsencode(folder)}


@contextlib.contextmanager
def _output_to_stderr(wanted: bool) -> Any:
    """Lets children write to standard error what is meant for standard output."""
    if not wanted:
        yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _end_all(stop: int) -> None:
    """The guard's work: ends all processes of this network but the lab itself, once that is done or gone."""
    lab = os.getppid()
    own = Path("/proc/self/ns/net").readlink()
    os.read(stop, 1)
    for _ in range(_ROUNDS):
        if not (left := _others(own, {lab, os.getpid()})):
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _others(network: Path, spared: set[int]) -> list[int]:
    """The processes of a network namespace that are running."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in spared:
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if (entry / "ns/net").readlink() == network:
                    found.append(int(entry.name))
    return found
