"""``lab exec`` and ``lab shell``: any program in a private world."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from lab.cli.commands import command
from lab.cli.options import Capture

#: What ``exec`` and ``shell`` say of the world they run in.
_PRIVATE_WORLD = """

Its network is its own: lo, up, and nothing else. No link leads out, so nothing that is sent there can reach or
disturb another machine, or this one's network; and every port is free. It needs no root, and vanishes with its last
process.

All else is the caller's: user and group, directory, open files, environment, terminal and job control. Signals sent
to lab are handed on, and lab exits as {it} did: with its code, with 128 + n if it died of signal n.

What differs: /sys/class/net still shows the host's links; abstract unix sockets of the host are out of reach (those
with a path, and sockets that were open before, still lead to it). Without root, files of root and of supplementary
groups look like nobody's, and set-uid programs such as sudo gain no rights.

If lab is killed (SIGKILL), so is {it}, but not what it has started. The capture ends with {it} or with lab, and is
complete up to there; frames that the kernel had to drop are counted in it, and in a warning.
"""
_EXIT_CODES = """
Exits 127 if CMD was not found, 126 if it could not be run. Options of lab go before CMD; what follows it is its own.
"""


@command(
    "lab exec --capture ping.pcapng -- ping -c 3 ::1",
    "exec",
    more=_PRIVATE_WORLD.format(it="CMD") + _EXIT_CODES,
    allow_interspersed_args=False,
)
def exec_(
    program: Annotated[list[str], typer.Argument(metavar="CMD", help="the command and its arguments")],
    capture: Capture = None,
) -> None:
    """Run any command in a private world."""
    from lab.private import run_private

    raise typer.Exit(run_private(program, capture))


@command("lab shell --capture session.pcapng", more=_PRIVATE_WORLD.format(it="the shell"))
def shell(capture: Capture = None) -> None:
    """Open a shell ($SHELL, or /bin/sh) in a private world."""
    from lab.private import run_private

    raise typer.Exit(run_private([os.environ.get("SHELL") or "/bin/sh"], capture))
