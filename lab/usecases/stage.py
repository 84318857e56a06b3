"""Where a use case is played: a private world with servers, programs that ask them, and a capture of it all."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.errors import Unavailable
from lab.usecases.seen import Seen, Talk, look

if TYPE_CHECKING:
    from lab.services import Service
    from lab.single import World
    from lab.taps.live import LiveCapture

__all__ = ["LOOPBACK", "Done", "Stage", "Step", "in_url"]

#: The loopback address of each family.
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_EVERYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - in a private world
_PROGRAM_S = 30
#: How variables are called that would have clients go elsewhere, or by way of somebody else.
_MISLEADING = ("PG", "MYSQL", "MARIADB", "REDISCLI", "CURL", "RES_", "LOCALDOMAIN", "HOSTALIASES")


def in_url(address: str) -> str:
    """An address as a URL has it: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def _environment() -> dict[str, str]:
    """Ours, without what a user has set up for clients: their files are below HOME."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_MISLEADING) and not name.lower().endswith("_proxy")
    }
    return {**plain, "LC_ALL": "C", "HOME": "/nonexistent"}


@dataclass(frozen=True)
class Done:
    """What a program came to. out: what it printed, errors included."""

    code: int
    out: str


@dataclass
class Step:
    """One thing that was done. text: in words. command: as it would be typed, "" if it was none. said: what came of it.

    begin_ns: when it began. talks: the conversations that began from then to the next step; filled in the end.
    """

    text: str
    command: str = ""
    said: str = ""
    begin_ns: int = 0
    talks: tuple[Talk, ...] = field(default=(), repr=False)

    @property
    def packets(self) -> int:
        """How many its conversations had."""
        return sum(len(talk.packets) for talk in self.talks)

    def at(self, address: str | None = None, port: int | None = None) -> tuple[Talk, ...]:
        """Its conversations with a server."""
        return tuple(
            talk for talk in self.talks if address in (None, talk.server) and (port is None or talk.port == port)
        )


class Stage:
    """A world for one use case. family: 4 or 6. changed: whether it is done so that it comes out otherwise.

    loopback, everywhere: the addresses of that family. shown: numbers of the flows that are drawn in the end.
    """

    def __init__(self, world: World, capture: LiveCapture, *, family: int, changed: bool) -> None:
        self.world, self.family, self.changed = world, family, changed
        self.loopback, self.everywhere = LOOPBACK[family], _EVERYWHERE[family]
        self.steps: list[Step] = []
        self.shown: tuple[int, ...] = ()
        self._capture = capture
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        """Ends its servers."""
        self._opened.close()

    def serve(self, program: str, **options: Any) -> Service:
        """A server, at the loopback address of the family unless another is given. Raises Unavailable."""
        return self._opened.enter_context(self.world.serve(program, **{"address": self.loopback, **options}))

    def hold(self, held: contextlib.AbstractContextManager[Any]) -> None:
        """Keeps something to the end, such as a firewall."""
        self._opened.enter_context(held)

    def run(
        self,
        text: str,
        *command: str,
        end: str = "near",
        files: Mapping[str, str] | None = None,
        typed: str | None = None,
    ) -> tuple[Step, Done]:
        """A step: runs a program to its end. typed: what it reads. Raises Unavailable if it can't be run, or hangs."""
        step = self._begin(text, shlex.join(command))
        with self.world.popen(
            command,
            end=end,
            files=files,
            stdin=subprocess.PIPE if typed is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
            start_new_session=True,
        ) as program:
            try:
                out, _none = program.communicate(typed, timeout=_PROGRAM_S)
            except subprocess.TimeoutExpired:
                what = f"{command[0]} took more than {_PROGRAM_S} s"
                raise Unavailable(what, errno=errno.ETIMEDOUT, fix="Try again on a quieter machine") from None
            finally:
                if program.poll() is None:
                    os.killpg(program.pid, signal.SIGKILL)
        step.said = out.strip()
        return step, Done(program.returncode, out)

    def step(self, text: str, work: Callable[[], Any], command: str = "") -> tuple[Step, Any]:
        """A step that is not a program of its own: calls `work`, and keeps what it returns as what came of it."""
        step = self._begin(text, command)
        result = work()
        step.said = str(result)
        return step, result

    def _begin(self, text: str, command: str) -> Step:
        step = Step(text, command, begin_ns=time.time_ns())
        self.steps.append(step)
        return step

    def look(self) -> Seen:
        """Ends the capture, and tells each step what it had begun."""
        self._capture.stop()
        seen = look(self._capture)
        for step, end_ns in zip(self.steps, self._ends(), strict=True):
            step.talks = seen.between(step.begin_ns, end_ns)
        return seen

    def _ends(self) -> Iterator[int | None]:
        yield from (step.begin_ns for step in self.steps[1:])
        yield None

    def show(self, talks: Iterable[Talk]) -> None:
        """Has these conversations drawn."""
        self.shown = tuple(talk.flow for talk in talks)
