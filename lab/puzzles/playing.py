"""A puzzle from its beginning to its end: a world, a fault, a shell, and the look at what was mended.

The calling process moves into the world for good, as root of it. A guard (``guard.py``) sees to it that nothing is left
of the puzzle, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab.checks import check_count
from lab.errors import Unavailable
from lab.private import enter, given_environment, run_child, signals_held
from lab.processes import Attendant
from lab.puzzles import shop
from lab.puzzles.faults import FAULTS, Fault, Stage, files
from lab.puzzles.guard import clear_away, own_network
from lab.puzzles.health import complaints
from lab.world import kernel
from lab.world.mounts import put_in_place
from lab.world.netlink import Network

__all__ = ["Result", "play"]

_HOSTS = "/etc/hosts"
#: Where programs for root are, which may be missing from the PATH of others.
_OF_ROOT = ("/usr/sbin", "/sbin")
_TASK = """\
Puzzle {seed}. Somebody says: "The shop at http://localhost:{port}/ does not work
as it should. Yesterday all was well." You are root of a small network of its
own, with nothing but lo: it is yours alone, and so are its files of names.

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
    fault = _drawn(chance)
    environment = given_environment()
    _enter_own()
    folder = _folder()
    guard = Attendant(partial(clear_away, lab=os.getpid(), folder=folder), keep=[])
    try:
        with _refusals_told("make the puzzle's files"):
            put_in_place(files())
            environment = _with_shop(environment, folder)
        with _refusals_told(f"plant the fault {fault.id}"):
            mend = _plant(fault, Stage(Network(kernel.namespace()), folder, chance))
        before = tuple(complaints())
        if not before:
            raise Unavailable(f"the fault {fault.id} does no harm here", errno=None, fix="Try another --seed")
        if not quiet:
            seen = "\n".join(f"  {text}" for text in before)
            print(_TASK.format(seed=seed, port=shop.PORT, seen=seen), flush=True)
        with signals_held() as mask, _output_to_stderr(quiet):
            code = run_child(list(command), environment, mask)
        after = tuple(complaints())
        shop.stop(folder)
    finally:
        guard.dismiss()
    return Result(seed, fault.id, fault.explains, mend, before, after, code)


def _drawn(chance: random.Random) -> Fault:
    """What is wrong. The same seed is the same fault everywhere, unless a program is missing that mends it."""
    fault = chance.choice(FAULTS)
    if all(map(_program, fault.needs)):
        return fault
    return chance.choice([each for each in FAULTS if all(map(_program, each.needs))])


def _program(name: str) -> str | None:
    return shutil.which(name, path=_path())


def _path(*first: str) -> str:
    return os.pathsep.join((*first, os.environ.get("PATH", os.defpath), *_OF_ROOT))


def _enter_own() -> None:
    """Enters the puzzle's network. All that is in it in the end will be killed, so it must be no other's.

    Raises Unavailable.
    """
    before = own_network()
    enter(as_root=True)
    if own_network() == before:
        what, fix = "this machine tells of a new network, and makes none", "Play on a Linux kernel, not on a likeness"
        raise Unavailable(what, errno=None, fix=fix)
    if _HOSTS not in files():
        fix = f"Make an empty one (touch {_HOSTS}), which the puzzle will leave as it is"
        raise Unavailable(f"there is no {_HOSTS} to put another in place of", errno=errno.ENOENT, fix=fix)


def _folder() -> Path:
    """The puzzle's folder, which the guard will remove. Raises Unavailable."""
    try:
        return Path(tempfile.mkdtemp(prefix="lab-puzzle-"))
    except OSError as error:
        fix = "Set TMPDIR to a folder that can be written to"
        raise Unavailable("cannot make a temporary folder", errno=error.errno, fix=fix) from error


@contextlib.contextmanager
def _refusals_told(what: str) -> Iterator[None]:
    """Raises Unavailable in place of what the kernel says."""
    try:
        yield
    except Unavailable:
        raise
    except OSError as error:
        more = f": {error.filename}" if error.filename else ""
        fix = "Try another --seed, or see lab doctor"
        raise Unavailable(f"cannot {what}{more}", errno=error.errno, fix=fix) from error


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
    path = _path(str(script.parent), str(own))
    return {**environment, b"PATH": os.fsencode(path), b"SHOP": os.fsencode(folder)}


@contextlib.contextmanager
def _output_to_stderr(wanted: bool) -> Iterator[None]:
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
